// Pictures and videos of the question being written: chosen, dropped or pasted.

import { isImage, isVideo, refusal } from './media.js';

/** Binds the form. `take()` hands the files over and empties the list; `complain('')` takes a complaint back. */
export function attachments({ form, list, input, complain }) {
  let files = [];

  const show = () => {
    list.replaceChildren(...files.map((file, i) => {
      const item = document.createElement('li');
      const remove = document.createElement('button');
      remove.type = 'button';
      remove.textContent = '×';
      remove.setAttribute('aria-label', `Remove ${file.name || 'picture'}`);
      remove.addEventListener('click', () => {
        files.splice(i, 1);
        show();
      });
      item.append(preview(file), remove);
      return item;
    }));
  };

  const add = (some) => {
    const [shown, refused] = [[], []];
    for (const file of some) (isImage(file) || isVideo(file) ? shown : refused).push(file);
    files.push(...shown);
    complain(refused.map(refusal).join('. '));
    show();
  };

  input.addEventListener('change', () => {
    add(input.files);
    input.value = '';
  });
  // The whole page takes a drop, or the browser would open the file instead.
  addEventListener('dragover', (event) => {
    event.preventDefault();
    form.classList.add('over');
  });
  addEventListener('dragleave', (event) => {
    if (!event.relatedTarget) form.classList.remove('over');
  });
  addEventListener('drop', (event) => {
    event.preventDefault();
    form.classList.remove('over');
    add(event.dataTransfer.files);
  });
  addEventListener('paste', (event) => {
    const pasted = [...event.clipboardData.files];
    if (pasted.length > 0) {
      event.preventDefault();
      add(pasted);
    }
  });

  return {
    take() {
      const taken = files;
      files = [];
      show();
      return taken;
    },
  };
}

/** A small view of a picture or a video. */
export function preview(file) {
  const url = URL.createObjectURL(file);
  const video = isVideo(file);
  const element = document.createElement(video ? 'video' : 'img');
  element.addEventListener(video ? 'loadeddata' : 'load', () => URL.revokeObjectURL(url), { once: true });
  if (video) element.muted = true;
  else element.alt = file.name ?? '';
  element.src = url;
  return element;
}
