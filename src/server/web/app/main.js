// The page: a question goes out, an answer comes in, and beside it what was kept.

import { properties, complete, useKey, ServerError } from './client.js';
import { budget } from './budget.js';
import { attachments } from './attachments.js';
import { restore, save, asRequest } from './conversation.js';
import { userMessage, answerMessage } from './messages.js';
import { kept } from './kept.js';

const at = (id) => document.getElementById(id);

const panel = kept({
  panel: at('kept'), pictures: at('pictures'), step: at('step'), stepName: at('step-name'),
  heat: at('heat'), cell: at('cell'), table: at('figures'),
});
const slider = budget({ own: at('own'), keep: at('keep'), output: at('keep-value') });
const files = attachments({ form: at('ask'), list: at('attachments'), input: at('files'), complain });
let messages = [];
let running = null; // the AbortController of the answer on its way

function complain(sentence) {
  at('model').textContent = sentence;
}

async function connect() {
  try {
    const { model_alias: alias, model_path: path, illava } = await properties();
    at('model').textContent = alias || (path ?? '').split('/').pop();
    slider.canMerge(illava?.can_merge !== false);
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

/** Files of all questions up to message `end`, in order: the numbers the trace uses. */
function filesBefore(end) {
  return messages.slice(0, end).flatMap((message) => message.files ?? []);
}

/** The report of the same question with merging off, if it was asked in this conversation. */
function sameWithoutMerging(index) {
  const question = messages[index - 1];
  const twin = messages.findIndex((message, i) => message.role === 'assistant' && i !== index
    && message.result?.report?.merge?.schedule === 'off' && messages[i - 1]?.text === question?.text);
  return twin < 0 ? null : messages[twin].result.report;
}

function select(index, item) {
  const { result } = messages[index];
  if (!result?.report) return;
  for (const other of document.querySelectorAll('#messages .shown')) other.classList.remove('shown');
  item.classList.add('shown');
  panel.show(result, filesBefore(index), sameWithoutMerging(index));
}

function listen(item, index) {
  item.tabIndex = 0;
  item.addEventListener('click', () => select(index, item));
  item.addEventListener('keydown', (event) => {
    if (event.key === 'Enter') select(index, item);
  });
}

function busy(yes) {
  at('send').hidden = yes;
  at('stop').hidden = !yes;
  at('clear').disabled = yes;
}

async function ask(text, media) {
  const question = { role: 'user', text, files: media };
  messages.push(question);
  at('messages').append(userMessage(question));
  const answer = answerMessage();
  at('messages').append(answer.item);
  answer.item.scrollIntoView({ block: 'nearest' });

  running = new AbortController();
  busy(true);
  let result = null;
  let note = '';
  let failed = false;
  try {
    const body = { messages: await asRequest(messages) };
    const merge = slider.value();
    if (merge) body.merge = merge;
    result = await complete(body, { signal: running.signal, onText: answer.add });
    if (result.finish === 'length') note = 'The answer was cut off at its limit.';
  } catch (error) {
    failed = error.name !== 'AbortError';
    note = failed ? error.message : 'Stopped.';
    if (error instanceof ServerError && error.status === 401) askKey();
  }
  running = null;
  busy(false);
  messages.push({ role: 'assistant', text: answer.end(note, failed), result });
  const index = messages.length - 1;
  listen(answer.item, index);
  if (result) select(index, answer.item);
  await save(messages);
}

at('ask').addEventListener('submit', (event) => {
  event.preventDefault();
  const text = at('question').value.trim();
  if (!text || running) return;
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
at('clear').addEventListener('click', async () => {
  messages = [];
  at('messages').replaceChildren();
  panel.hide();
  await save(messages);
  at('question').focus();
});

async function start() {
  messages = await restore();
  messages.forEach((message, index) => {
    if (message.role === 'user') {
      at('messages').append(userMessage(message));
      return;
    }
    const answer = answerMessage();
    answer.add(message.text);
    answer.end('');
    at('messages').append(answer.item);
    listen(answer.item, index);
  });
  await connect();
}

start();
