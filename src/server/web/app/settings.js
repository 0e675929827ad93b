// Instructions and sampling of the questions from now on. A field that is empty leaves the server's default.

/** Binds the controls, whose ids are the fields of a request. */
export function settings({ system, numbers }) {
  const saved = JSON.parse(localStorage.getItem('settings') ?? '{}');
  const all = [system, ...numbers];
  for (const control of all) {
    control.value = saved[control.id] ?? '';
    control.addEventListener('input', () => {
      localStorage.setItem('settings', JSON.stringify(Object.fromEntries(all.map(({ id, value }) => [id, value]))));
    });
  }
  return {
    system: () => system.value.trim(),
    sampling: () => Object.fromEntries(
      numbers.filter(({ value }) => value !== '').map(({ id, value }) => [id, Number(value)]),
    ),
  };
}
