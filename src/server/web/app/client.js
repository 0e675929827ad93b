// The server's API, as any other client uses it.

import { createParser } from '../vendor/eventsource-parser.js';

/** An answer of the server that is an error: its sentence and its HTTP status (0 inside a stream). */
export class ServerError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

let apiKey = sessionStorage.getItem('api-key') ?? '';

/** Uses `key` from now on, for as long as this tab is open. */
export function useKey(key) {
  apiKey = key;
  sessionStorage.setItem('api-key', key);
}

async function request(path, options = {}) {
  const headers = { ...options.headers };
  if (apiKey) headers.Authorization = `Bearer ${apiKey}`;
  const response = await fetch(path, { ...options, headers });
  if (!response.ok) {
    const body = await response.json().catch(() => null);
    throw new ServerError(body?.error?.message ?? `the server answered ${response.status}`, response.status);
  }
  return response;
}

/** Names of the models there are, loaded or not. */
export async function models() {
  const { data } = await (await request('v1/models')).json();
  return data.map(({ id }) => id);
}

/** What is loaded: llama.cpp's /props. */
export async function properties() {
  return (await request('props')).json();
}

/**
 * Asks for one answer. `onText` gets each piece of it, `onThought` each piece of the thought ahead; the result is what came with the last chunk:
 * { report, kept, usage, finish }.
 */
export async function complete(body, { signal, onText, onThought }) {
  const response = await request('v1/chat/completions', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({
      ...body,
      stream: true,
      stream_options: { include_usage: true },
      report: true,
      kept: true,
    }),
    signal,
  });
  const result = { report: null, kept: null, usage: null, finish: null };
  const parser = createParser({
    onEvent({ data }) {
      if (data === '[DONE]') return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ServerError(chunk.error.message, 0);
      const choice = chunk.choices?.[0];
      if (choice?.delta?.reasoning_content) onThought?.(choice.delta.reasoning_content);
      if (choice?.delta?.content) onText(choice.delta.content);
      if (choice?.finish_reason) result.finish = choice.finish_reason;
      for (const field of ['report', 'kept', 'usage']) {
        if (chunk[field]) result[field] = chunk[field];
      }
    },
  });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    parser.feed(value);
  }
  if (!result.finish) throw new ServerError('the answer broke off', 0);
  return result;
}
