// The page: a question goes out, an answer comes in, and beside it what was kept.

import { properties, models, complete, useKey, ServerError } from './client.js';
import { budget } from './budget.js';
import { attachments } from './attachments.js';
import { begin, branch, restore, open, save, list, remove, rename, asRequest, spoken } from './conversation.js';
import { conversations } from './conversations.js';
import { userMessage, answerMessage } from './messages.js';
import { keyOf } from './media.js';
import { buttons, copy, edit, twinAnswer } from './turns.js';
import { settings } from './settings.js';
import { asJson, asText, download } from './export.js';
import { kept } from './kept.js';

const at = (id) => document.getElementById(id);

const panel = kept({
  panel: at('kept'), pictures: at('pictures'), step: at('step'), stepName: at('step-name'),
  heat: at('heat'), cell: at('cell'), table: at('figures'), budgets: at('budgets'),
});
const slider = budget({ kind: at('budget-kind'), keep: at('keep'), output: at('keep-value') });
const how = settings({ system: at('system'), numbers: ['temperature', 'top_p', 'seed', 'max_tokens'].map(at) });
const files = attachments({ form: at('ask'), list: at('attachments'), input: at('files'), complain: refuse });
let conversation = { id: '', revision: 0, messages: [] };
let running = null; // the AbortController of the answer on its way

/** A sentence about the question that is being written; none takes the last one back. */
function refuse(sentence) {
  at('complaint').textContent = sentence;
  at('complaint').hidden = sentence === '';
}

/** Tells those who hear the page what those who see it see. */
function announce(sentence) {
  at('announcement').textContent = sentence;
}

function complain(sentence) {
  at('model').textContent = sentence;
  at('model').classList.add('failed');
}

/** Offers the models of a server that has several. None is loaded before it is asked. */
async function choose() {
  const names = await models();
  const several = names.length > 1;
  at('models').hidden = !several;
  at('model').classList.remove('failed');
  if (!several) return false;
  const saved = localStorage.getItem('model');
  const chosen = names.includes(saved) ? saved : names[0];
  at('models').replaceChildren(...names.map((name) => new Option(name, name, false, name === chosen)));
  at('model').textContent = chosen;
  return true;
}
at('models').addEventListener('change', (event) => {
  localStorage.setItem('model', event.target.value);
  at('model').textContent = event.target.value;
});

async function connect() {
  try {
    if (await choose()) return;
    const { model_alias: alias, model_path: path, illava } = await properties();
    at('model').textContent = alias || (path ?? '').split('/').pop();
    at('model').classList.remove('failed');
    slider.allow(illava);
  } catch (error) {
    if (error instanceof ServerError && error.status === 401) return askKey();
    complain(error.message);
    // A model that is still loading answers 503.
    if (error instanceof ServerError && error.status === 503) setTimeout(connect, 1000);
  }
}

function askKey() {
  complain('an API key is needed');
  at('key').showModal();
}
at('key').addEventListener('close', () => {
  useKey(at('api-key').value);
  connect();
});

/** Files of all questions before message `end` that were sent, in order: the numbers the trace uses. */
function filesBefore(end) {
  return spoken(conversation.messages.slice(0, end)).flatMap((message) => message.files ?? []);
}

async function keysBefore(end) {
  return (await Promise.all(filesBefore(end).map(keyOf))).join(' ');
}

/** The report of the same question about the same pictures with merging off, if it was asked in this conversation. */
async function sameWithoutMerging(index) {
  const { messages } = conversation;
  if (messages[index]?.twin) return messages[index].twin.result.report;
  const shown = await keysBefore(index);
  for (const [i, message] of messages.entries()) {
    const off = message.role === 'assistant' && i !== index && message.result?.report?.merge?.schedule === 'off';
    if (off && messages[i - 1]?.text === messages[index - 1]?.text && await keysBefore(i) === shown) {
      return message.result.report;
    }
  }
  return null;
}

/** The button that shows what was kept for an answer. */
function buttonOf(item) {
  return item.querySelector('button[aria-pressed]');
}

async function select(index, item) {
  const result = conversation.messages[index]?.result;
  if (!result?.report) return;
  for (const other of document.querySelectorAll('#messages .shown')) {
    other.classList.remove('shown');
    buttonOf(other)?.setAttribute('aria-pressed', 'false');
  }
  item.classList.add('shown');
  buttonOf(item)?.setAttribute('aria-pressed', 'true');
  await panel.show(result, filesBefore(index), await sameWithoutMerging(index));
}

function busy(yes) {
  at('send').hidden = yes;
  at('stop').hidden = !yes;
  for (const control of [at('clear'), ...document.querySelectorAll('#messages button, #conversations button')]) {
    control.disabled = yes;
  }
}

/** Asks `messages` and returns { result, note, failed }; the answer's words go to `onText`, its thought to `onThought`. */
async function answerTo(messages, merge, onText, onThought) {
  running = new AbortController();
  busy(true);
  announce('Asked.');
  try {
    const model = at('models').value;
    const body = {
      messages: await asRequest(messages, how.system()), ...how.sampling(), ...(model && { model }), ...(merge && { merge }),
    };
    const result = await complete(body, { signal: running.signal, onText, onThought });
    return { result, note: result.finish === 'length' ? 'The answer was cut off at its limit.' : '', failed: false };
  } catch (error) {
    if (error instanceof ServerError && error.status === 401) askKey();
    if (error.name === 'AbortError') return { result: null, note: 'Stopped.', failed: false };
    return { result: null, note: error.message, failed: true };
  } finally {
    running = null;
    busy(false);
  }
}

async function ask(text, media) {
  const mine = conversation;
  const { messages } = mine;
  const question = { role: 'user', text, files: media };
  messages.push(question);
  const asked = userMessage(question);
  at('messages').append(asked);
  offerQuestion(asked, messages.length - 1);
  refuse('');
  const answer = answerMessage();
  at('messages').append(answer.item);
  answer.item.scrollIntoView({ block: 'nearest' });
  const { result, note, failed } = await answerTo(messages, slider.value(), answer.add, answer.think);
  // A stopped answer without a word is no turn of the assistant.
  const { text: said, thought } = answer.end(note, failed);
  announce(failed ? `The question failed: ${note}` : `${note} Answer: ${said}`.trim());
  messages.push({ role: 'assistant', text: said, thought, result, note, failed: failed || said === '' });
  const index = messages.length - 1;
  offer(answer.item, index);
  // Begun before anything is waited for: a click may show another conversation meanwhile.
  const kept = keep(mine);
  if (result) await select(index, answer.item);
  // Not below the form, which stays at the foot of the window.
  answer.item.scrollIntoView({ block: 'nearest' });
  await kept;
}

/** The question's button. */
function offerQuestion(item, index) {
  buttons(item, [['Edit', () => edit(item, conversation.messages[index].text, (words) => askInstead(index, words))]]);
}

/** The answer's buttons, and what a click on it does. */
function offer(item, index) {
  const message = conversation.messages[index];
  const look = async () => {
    await select(index, item);
    // On a narrow screen the pictures stand below the conversation.
    if (matchMedia('(max-width: 48rem)').matches) at('kept').scrollIntoView({ block: 'start' });
  };
  item.addEventListener('click', () => message.result?.report && look());
  const merged = message.result?.report && message.result.report.merge?.schedule !== 'off'
    && filesBefore(index).length > 0;
  buttons(item, [
    ...(message.text ? [['Copy', (button) => copy(message.text, button)]] : []),
    ['Ask again', () => askInstead(index - 1, conversation.messages[index - 1].text)],
    ['Remove', () => drop(index)],
    ...(message.result?.report ? [['What was kept', look]] : []),
    ...(merged ? [['Compare with off', () => compare(index, item)]] : []),
  ]);
  if (message.result?.report) {
    const show = [...item.querySelectorAll('.actions button')].find((button) => button.textContent === 'What was kept');
    show.setAttribute('aria-pressed', 'false');
  }
  if (message.twin) twinAnswer(item, message.twin.text, message.result.report, message.twin.result.report);
}

/** The same question about the same pictures with merging off, beside this answer. */
async function compare(index, item) {
  const mine = conversation;
  const beside = twinAnswer(item, '');
  let text = '';
  const { result, note } = await answerTo(conversation.messages.slice(0, index), { preset: 'off' }, (piece) => {
    text += piece;
    twinAnswer(item, text);
  });
  if (!result) {
    beside.querySelector('p').textContent = note;
    announce(note);
    return;
  }
  mine.messages[index].twin = { text, result };
  twinAnswer(item, text, mine.messages[index].result.report, result.report);
  announce(`With merging off: ${text}`);
  const kept = keep(mine);
  await select(index, item);
  await kept;
}

/** Asks question `index` again, maybe in other words. Where turns follow it, the conversation so far is kept. */
async function askInstead(index, text) {
  const { files: media } = conversation.messages[index];
  const before = conversation.messages.slice(0, index);
  if (conversation.messages.length > index + 2) conversation = branch(before);
  else conversation.messages = before;
  panel.hide();
  show();
  await ask(text, media ?? []);
}

/** Removes the question and its answer. */
async function drop(index) {
  conversation.messages.splice(index - 1, 2);
  panel.hide();
  show();
  await keep();
}

async function keep(which = conversation) {
  await save(which);
  await offerOthers();
}

async function offerOthers() {
  const all = await list();
  const here = all.some(({ id }) => id === conversation.id);
  others.show(here ? all : [{ id: '', title: 'New conversation' }, ...all], here ? conversation.id : '');
}

/** The list of messages, from the conversation. */
function show() {
  at('messages').replaceChildren();
  conversation.messages.forEach((message, index) => {
    if (message.role === 'user') {
      const question = userMessage(message);
      at('messages').append(question);
      offerQuestion(question, index);
      return;
    }
    const answer = answerMessage();
    if (message.thought) answer.think(message.thought);
    answer.add(message.text);
    answer.end(message.note ?? '', message.failed);
    at('messages').append(answer.item);
    offer(answer.item, index);
  });
}

at('ask').addEventListener('submit', (event) => {
  event.preventDefault();
  const text = at('question').value.trim();
  if (running) return;
  if (!text) return refuse('Write a question first.');
  at('question').value = '';
  ask(text, files.take());
});
at('question').addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    at('ask').requestSubmit();
  }
});
at('stop').addEventListener('click', () => running?.abort());
async function change(to) {
  conversation = to;
  panel.hide();
  show();
  await offerOthers();
}
at('clear').addEventListener('click', async () => {
  await change(begin());
  at('question').focus();
});
const others = conversations(at('conversations'), {
  open: async (id) => change(await open(id)),
  rename: async (id, title) => {
    await rename(id, title);
    await offerOthers();
  },
  remove: async (id) => {
    await remove({ id });
    announce('The conversation was deleted.');
    await (id === conversation.id ? change(begin()) : offerOthers());
  },
});
// Where the list stands above the conversation, it is folded.
at('others').open = matchMedia('(min-width: 64rem)').matches;
at('export-text').addEventListener('click', () => {
  download(asText(conversation, at('model').textContent), 'text');
});
at('export-json').addEventListener('click', async () => {
  const used = { system: how.system(), ...how.sampling(), merge: slider.value() };
  download(await asJson(conversation, at('model').textContent, used), 'json');
});

async function start() {
  conversation = await restore();
  show();
  await offerOthers();
  await connect();
}

start();
