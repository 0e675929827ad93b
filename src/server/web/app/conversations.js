// The list of conversations: one is opened, renamed or deleted, by mouse, touch or keyboard.

/** A button of an entry: its sign, and what a screen reader says. */
function button(kind, sign, label, act) {
  const made = document.createElement('button');
  Object.assign(made, { type: 'button', className: kind, textContent: sign, title: label });
  made.setAttribute('aria-label', label);
  made.addEventListener('click', () => act(made));
  return made;
}

/**
 * Binds the list. `open(id)`, `rename(id, title)` and `remove(id)` do what their names say and end with `show`.
 * `show(all, current)` fills the list with { id, title } each; an entry without an id is not kept yet.
 */
export function conversations(list, { open, rename, remove }) {
  const titles = () => [...list.querySelectorAll('.title')];
  let wanted = null; // the entry that has the focus once the list is filled again

  async function take(id, act) {
    wanted = id;
    await act();
    wanted = null;
  }

  /** The first press asks, the second deletes: there is no way back. */
  function leave(id, pressed) {
    if (pressed.dataset.asked) {
      const all = titles().map((title) => title.dataset.id);
      const place = all.indexOf(id);
      return take(all[place + 1] ?? all[place - 1] ?? '', () => remove(id));
    }
    pressed.dataset.asked = true;
    pressed.textContent = 'Delete?';
    pressed.setAttribute('aria-label', `Press again to delete ${pressed.title.slice('Delete '.length)}`);
    pressed.addEventListener('blur', () => {
      delete pressed.dataset.asked;
      pressed.textContent = '×';
      pressed.setAttribute('aria-label', pressed.title);
    }, { once: true });
    return pressed.focus();
  }

  function edit(entry, { id, title }) {
    const form = document.createElement('form');
    const field = document.createElement('input');
    Object.assign(field, { value: title, maxLength: 60 });
    field.setAttribute('aria-label', 'Name of the conversation');
    const shown = [...entry.children];
    let written = true;
    const close = () => {
      if (written) {
        // A field that is taken away loses the focus once more.
        written = false;
        entry.replaceChildren(...shown);
      }
    };
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      written = false;
      take(id, () => rename(id, field.value.trim()));
    });
    field.addEventListener('keydown', (event) => {
      if (event.key !== 'Escape') return;
      close();
      shown[0].focus();
    });
    field.addEventListener('blur', close);
    form.append(field);
    entry.replaceChildren(form);
    field.focus();
    field.select();
  }

  list.addEventListener('keydown', (event) => {
    const all = titles();
    const place = all.indexOf(event.target);
    if (place < 0) return;
    const to = { ArrowDown: place + 1, ArrowUp: place - 1, Home: 0, End: all.length - 1 }[event.key];
    const press = { F2: '.rename', Delete: '.delete' }[event.key];
    if (to === undefined && !press) return;
    event.preventDefault();
    if (press) event.target.parentElement.querySelector(press)?.click();
    else all[to]?.focus();
  });

  return {
    show(all, current) {
      list.replaceChildren(...all.map((one) => {
        const entry = document.createElement('li');
        const title = button('title', one.title, one.title, () => one.id && take(one.id, () => open(one.id)));
        title.dataset.id = one.id;
        if (one.id === current) title.setAttribute('aria-current', 'true');
        entry.append(title);
        if (one.id) {
          entry.append(
            button('rename', '✎', `Rename ${one.title}`, () => edit(entry, one)),
            button('delete', '×', `Delete ${one.title}`, (pressed) => leave(one.id, pressed)),
          );
        }
        return entry;
      }));
      if (wanted !== null) (titles().find((title) => title.dataset.id === wanted) ?? titles()[0])?.focus();
    },
  };
}
