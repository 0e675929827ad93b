// What was said so far, kept in the browser so that a reload loses nothing.

import { get, set, del } from '../vendor/idb-keyval.js';
import { isVideo } from './media.js';

const KEY = 'conversation';

/** [{ role, text, files: [Blob], result }]; `result` is what complete() gave for an answer. */
export async function restore() {
  return (await get(KEY).catch(() => undefined)) ?? [];
}

/** Private windows may refuse to store; the conversation then lives as long as the page. */
export async function save(messages) {
  await (messages.length > 0 ? set(KEY, messages) : del(KEY)).catch(() => {});
}

function dataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

/** The messages as OpenAI's API spells them: pictures and videos before the text that asks about them. */
export async function asRequest(messages) {
  const spoken = messages.filter((message) => message.role === 'user' || message.text);
  return Promise.all(spoken.map(async ({ role, text, files }) => {
    if (!files?.length) return { role, content: text };
    const media = await Promise.all(files.map(async (file) => {
      const type = isVideo(file) ? 'video_url' : 'image_url';
      return { type, [type]: { url: await dataUrl(file) } };
    }));
    return { role, content: [...media, { type: 'text', text }] };
  }));
}
