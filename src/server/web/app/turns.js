// What can be done with a turn: copy it, edit it, ask again, remove it, see it with merging off.

import { figures } from './figures.js';

/** A row of buttons below a message. `actions`: [label, what it does]. */
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

/** The question's words in a field, to be asked again in others. */
export function edit(item, text, ask) {
  if (item.querySelector('form')) return;
  const form = document.createElement('form');
  const field = document.createElement('textarea');
  field.value = text;
  field.rows = 3;
  field.setAttribute('aria-label', 'The question in other words');
  const row = document.createElement('div');
  row.className = 'row';
  const [send, leave] = ['Ask', 'Cancel'].map((label) => {
    const button = document.createElement('button');
    button.textContent = label;
    return button;
  });
  leave.type = 'button';
  leave.addEventListener('click', () => form.remove());
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const words = field.value.trim();
    if (words) ask(words);
  });
  row.append(send, leave);
  form.append(field, row);
  item.append(form);
  field.focus();
}

/** The answer to the same question with merging off, beside the one that is shown, which came with `report`. */
export function twinAnswer(item, text, report, other) {
  let beside = item.querySelector('.twin');
  if (!beside) {
    item.classList.add('compared');
    beside = document.createElement('section');
    beside.className = 'twin';
    const title = document.createElement('h2');
    title.textContent = 'With merging off';
    const words = document.createElement('p');
    const table = document.createElement('table');
    table.setAttribute('aria-label', 'What both answers cost');
    beside.append(title, words);
    item.insertBefore(beside, item.querySelector('.actions'));
    item.insertBefore(table, item.querySelector('.actions'));
  }
  beside.querySelector('p').textContent = text;
  if (other) figures(item.querySelector('table[aria-label]'), report, other);
  return beside;
}
