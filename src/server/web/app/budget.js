// How many visual tokens may reach the upper layers: as the server was started, by content, a share, or all.

/** Binds the controls. `value()` is the request's "merge" object; `allow(props)` leaves what the pair can do. */
export function budget({ kind, keep, output }) {
  let able = true;

  const show = () => {
    kind.disabled = !able;
    keep.hidden = !able || kind.value !== 'share';
    output.textContent = !able ? 'this pair cannot merge' : kind.value === 'share' ? `${keep.value} %` : '';
    keep.setAttribute('aria-valuetext', output.textContent);
  };

  const remember = () => {
    localStorage.setItem('budget', JSON.stringify({ kind: kind.value, keep: Number(keep.value) }));
    show();
  };
  kind.addEventListener('change', remember);
  keep.addEventListener('input', remember);

  const saved = JSON.parse(localStorage.getItem('budget') ?? 'null');
  if (saved && [...kind.options].some(({ value }) => value === saved.kind)) {
    kind.value = saved.kind;
    keep.value = saved.keep;
  }
  show();

  return {
    allow({ can_merge: merges = true, unusable_presets: unusable = {} } = {}) {
      able = merges;
      const auto = [...kind.options].find(({ value }) => value === 'auto');
      auto.disabled = 'auto' in unusable;
      if (auto.disabled && kind.value === 'auto') kind.value = 'own';
      show();
    },
    value() {
      if (!able || kind.value === 'off') return { preset: 'off' };
      if (kind.value === 'share') return { keep: Number(keep.value) / 100 };
      return kind.value === 'own' ? undefined : { preset: kind.value }; // undefined: the server's default
    },
  };
}
