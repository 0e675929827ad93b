// A conversation as a file: a text to read, or everything that is known of it.

import { dataUrl } from './media.js';

function offer(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

/** The conversation as Markdown. Pictures are named; their bytes are in the JSON. */
export function asText({ messages }, model) {
  const turns = messages.map(({ role, text, files, note, twin }) => {
    const shown = (files ?? []).map((file) => `*[${file.name || 'picture'}]*`);
    const notes = note ? [`*${note}*`] : [];
    const beside = twin ? [`### With merging off`, twin.text] : [];
    return [role === 'user' ? '## Question' : '## Answer', ...shown, text, ...notes, ...beside].filter(Boolean).join('\n\n');
  });
  return [`# Conversation with ${model}`, ...turns, ''].join('\n\n');
}

/** The conversation with its pictures (data URLs), reports and settings. */
export async function asJson({ messages }, model, settings) {
  const turns = await Promise.all(messages.map(async ({ files, ...turn }) => ({
    ...turn,
    files: await Promise.all((files ?? []).map(async (file) => ({ name: file.name ?? '', url: await dataUrl(file) }))),
  })));
  return JSON.stringify({ model, settings, messages: turns }, null, 1);
}

export function download(text, kind) {
  const [type, end] = kind === 'json' ? ['application/json', 'json'] : ['text/markdown', 'md'];
  offer(`conversation.${end}`, type, text);
}
