// What can be done with an answer: copy it, ask again, remove the turn, see it with merging off.

/** A row of buttons below an answer. `actions`: [label, what it does]. */
export function buttons(item, actions) {
  item.querySelector('.actions')?.remove();
  const row = document.createElement('div');
  row.className = 'row actions';
  for (const [label, act] of actions) {
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = label;
    button.addEventListener('click', (event) => {
      event.stopPropagation();
      act(button);
    });
    row.append(button);
  }
  item.append(row);
}

/** `text` to the clipboard; pages that are neither https nor localhost have no navigator.clipboard. */
export async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.createElement('textarea');
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand('copy');
    area.remove();
  }
  button.textContent = 'Copied';
}

/** The answer to the same question with merging off, beside the one that is shown. */
export function twinAnswer(item, text) {
  let beside = item.querySelector('.twin');
  if (!beside) {
    beside = document.createElement('section');
    beside.className = 'twin';
    const title = document.createElement('h3');
    title.textContent = 'With merging off';
    beside.append(title, document.createElement('p'));
    item.insertBefore(beside, item.querySelector('.actions'));
  }
  beside.querySelector('p').textContent = text;
  return beside;
}
