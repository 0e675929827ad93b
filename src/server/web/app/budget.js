// The slider: how many visual tokens may reach the upper layers.

const STOPS = [null, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]; // null: merging off

/** Binds the controls. `value()` is the request's "merge" object; `canMerge(false)` leaves only "off". */
export function budget({ own, keep, output }) {
  let able = true;

  const show = () => {
    const share = STOPS[Number(keep.value)];
    keep.disabled = own.checked || !able;
    own.disabled = !able;
    output.textContent = !able ? 'this pair cannot merge'
      : own.checked ? ''
      : share === null ? 'off: all of them'
      : `${Math.round(share * 100)} %`;
    keep.setAttribute('aria-valuetext', output.textContent);
  };

  const remember = () => {
    localStorage.setItem('budget', JSON.stringify({ own: own.checked, stop: Number(keep.value) }));
    show();
  };
  own.addEventListener('change', remember);
  keep.addEventListener('input', remember);

  const saved = JSON.parse(localStorage.getItem('budget') ?? 'null');
  if (saved && STOPS[saved.stop] !== undefined) {
    own.checked = Boolean(saved.own);
    keep.value = saved.stop;
  }
  show();

  return {
    canMerge(yes) {
      able = yes;
      show();
    },
    value() {
      const share = STOPS[Number(keep.value)];
      if (!able) return { preset: 'off' };
      if (own.checked) return undefined; // the server's default
      return share === null ? { preset: 'off' } : { keep: share };
    },
  };
}
