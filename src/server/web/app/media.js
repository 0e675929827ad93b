// What a file shows: not every system tells a video's type, so that its name may have to.

const VIDEO = /\.(mp4|m4v|mov|mkv|webm|avi|mpe?g|ts|flv|ogv|3gp|wmv)$/i;

export function isVideo(file) {
  return file.type.startsWith('video/') || (!file.type.startsWith('image/') && VIDEO.test(file.name ?? ''));
}

export function isImage(file) {
  return file.type.startsWith('image/');
}

/**
 * The file behind picture number `index` of `count`. A model without videos gets several pictures of each, and then
 * nobody here knows which is which from the first video on.
 */
export function fileOf(index, files, count) {
  const video = files.findIndex(isVideo);
  return video < 0 || index < video || files.length === count ? files[index] : undefined;
}

/** What tells files apart: their size and an FNV-1a hash of their bytes. */
export async function keyOf(file) {
  let hash = 0x811c9dc5;
  for (const byte of new Uint8Array(await file.arrayBuffer())) hash = Math.imul(hash ^ byte, 0x01000193);
  return `${file.size}-${(hash >>> 0).toString(16)}`;
}
