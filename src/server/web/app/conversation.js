// Conversations, kept in the browser so that a reload loses nothing. Each tab writes one of its own.

import { get, set, del, keys, update } from '../vendor/idb-keyval.js';
import { dataUrl, isVideo } from './media.js';

const PREFIX = 'conversation/';
const OLD = 'conversation'; // the one conversation that an earlier page kept

function fresh() {
  // No crypto.randomUUID: it is there only for https and localhost.
  const id = `${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 10)}`;
  return { id, revision: 0, messages: [] };
}

/** Uses `id` for this tab from now on. */
function adopt(id) {
  sessionStorage.setItem('conversation', id);
}

/** An empty conversation for this tab. */
export function begin() {
  const conversation = fresh();
  adopt(conversation.id);
  return conversation;
}

/** A conversation of its own that begins with `messages`; the one they come from stays as it is. */
export function branch(messages) {
  return { ...begin(), messages };
}

/** This tab's conversation: { id, revision, messages: [{ role, text, thought, files: [Blob], result, failed, twin }] }. */
export async function restore() {
  const old = await get(OLD).catch(() => undefined);
  if (old?.length > 0) {
    const conversation = { ...fresh(), messages: old };
    await save(conversation);
    await del(OLD).catch(() => {});
  }
  return open(sessionStorage.getItem('conversation'));
}

/** The conversation `id`, or an empty one. */
export async function open(id) {
  const found = id ? await get(PREFIX + id).catch(() => undefined) : undefined;
  if (!found) return begin();
  adopt(found.id);
  return found;
}

/**
 * Keeps `conversation`. If another tab has written it since it was read, this tab's goes on as a conversation of its
 * own and neither is lost. Private windows may refuse to store; it then lives as long as the page.
 */
export async function save(conversation) {
  if (conversation.messages.length === 0) return remove(conversation);
  let ours = true;
  const next = { ...conversation, revision: conversation.revision + 1, at: Date.now() };
  try {
    await update(PREFIX + conversation.id, (stored) => {
      ours = (stored?.revision ?? 0) === conversation.revision;
      // Its name may have been given in another tab.
      return ours ? { ...next, title: stored?.title ?? '' } : stored;
    });
    if (!ours) {
      Object.assign(next, { id: fresh().id, revision: 1 });
      await set(PREFIX + next.id, next);
      adopt(next.id);
    }
  } catch {
    return;
  }
  Object.assign(conversation, { id: next.id, revision: next.revision, at: next.at });
}

export async function remove({ id }) {
  await del(PREFIX + id).catch(() => {});
}

/** Gives a conversation a name; an empty one is its first question again. */
export async function rename(id, title) {
  await update(PREFIX + id, (stored) => stored && { ...stored, title }).catch(() => {});
}

/** All that are kept, the newest first: { id, title }. */
export async function list() {
  const all = (await keys().catch(() => [])).filter((key) => String(key).startsWith(PREFIX));
  const found = (await Promise.all(all.map((key) => get(key)))).filter(Boolean);
  return found.sort((a, b) => (b.at ?? 0) - (a.at ?? 0)).map(({ id, title, messages }) => ({
    id, title: title || (messages.find(({ role }) => role === 'user')?.text ?? '').slice(0, 60) || 'without words',
  }));
}

/** Turns that count: a question that failed, and what there is of its answer, are not sent again. */
export function spoken(messages) {
  return messages.filter((message, i) => !message.failed && !(message.role === 'user' && messages[i + 1]?.failed));
}

/** The messages as OpenAI's API spells them: pictures and videos before the text that asks about them. */
export async function asRequest(messages, system = '') {
  const turns = await Promise.all(spoken(messages).map(async ({ role, text, files }) => {
    if (!files?.length) return { role, content: text };
    const media = await Promise.all(files.map(async (file) => {
      const type = isVideo(file) ? 'video_url' : 'image_url';
      return { type, [type]: { url: await dataUrl(file) } };
    }));
    return { role, content: [...media, { type: 'text', text }] };
  }));
  return system ? [{ role: 'system', content: system }, ...turns] : turns;
}
