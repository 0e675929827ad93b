// What a file shows: not every system tells a video's type, so that its name may have to.

const VIDEO = /\.(mp4|m4v|mov|mkv|webm|avi|mpe?g|ts|flv|ogv|3gp|wmv)$/i;

export function isVideo(file) {
  return file.type.startsWith('video/') || (!file.type.startsWith('image/') && VIDEO.test(file.name ?? ''));
}

export function isImage(file) {
  return file.type.startsWith('image/');
}

/** Why a file that is neither a picture nor a video cannot be shown, and what can. */
export function refusal(file) {
  const name = file.name || 'that';
  const kind = file.type;
  if (kind === 'application/pdf' || /\.pdf$/i.test(name)) {
    return `${name} is a PDF: save its pages as pictures (PNG) and add those`;
  }
  if (kind.startsWith('audio/')) return `${name} is a sound, and the model sees only: add pictures or a video`;
  if (kind.startsWith('text/') || kind === 'application/json') return `${name} is a text: paste its words into the question`;
  if (/\.(docx?|odt|pptx?|odp|xlsx?|ods)$/i.test(name)) {
    return `${name} is an office document: save its pages as pictures (PNG) and add those`;
  }
  return `${name} is neither a picture nor a video: add a PNG, JPEG, WebP, GIF or a video`;
}

export function dataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
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
