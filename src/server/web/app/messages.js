// The list of questions and answers.

import { marked } from '../vendor/marked.js';
import DOMPurify from '../vendor/purify.js';
import { preview } from './attachments.js';

// An answer may hold anything a picture talked the model into: no element of it may load or run something.
const ALLOWED = {
  ALLOWED_TAGS: ['p', 'br', 'em', 'strong', 'del', 'code', 'pre', 'ul', 'ol', 'li', 'blockquote', 'hr',
    'h1', 'h2', 'h3', 'h4', 'h5', 'h6', 'table', 'thead', 'tbody', 'tr', 'th', 'td'],
  ALLOWED_ATTR: ['align', 'start'],
};

function render(text) {
  return DOMPurify.sanitize(marked.parse(text, { gfm: true, breaks: true }), { ...ALLOWED, RETURN_DOM_FRAGMENT: true });
}

/** One item of the list, with the question's pictures. */
export function userMessage({ text, files }) {
  const item = document.createElement('li');
  item.className = 'user';
  if (files?.length) {
    const thumbs = document.createElement('div');
    thumbs.className = 'thumbs';
    thumbs.append(...files.map(preview));
    item.append(thumbs);
  }
  item.append(text);
  return item;
}

/** One item that grows while the answer comes. */
export function answerMessage() {
  const item = document.createElement('li');
  item.className = 'assistant';
  const body = document.createElement('div');
  item.append(body);
  let text = '';
  let thought = null;
  let drawn = 0;

  const draw = () => {
    drawn = 0;
    body.replaceChildren(render(text));
  };

  return {
    item,
    /** Adds to the thought ahead of the answer, which opens at a click. */
    think(piece) {
      if (!thought) {
        const folded = document.createElement('details');
        folded.className = 'thought';
        const title = document.createElement('summary');
        title.textContent = 'Thought';
        thought = document.createElement('p');
        folded.append(title, thought);
        // A click on it is no click on the answer.
        folded.addEventListener('click', (event) => event.stopPropagation());
        body.before(folded);
      }
      thought.textContent += piece;
    },
    add(piece) {
      text += piece;
      // Once a frame at most: a long answer is parsed anew each time.
      drawn ||= requestAnimationFrame(draw);
    },
    end(note, failed = false) {
      cancelAnimationFrame(drawn);
      draw();
      if (note) {
        const line = document.createElement('p');
        line.className = failed ? 'note failed' : 'note';
        line.textContent = note;
        item.append(line);
      }
      return { text, thought: thought?.textContent ?? '' };
    },
  };
}
