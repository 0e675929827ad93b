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
