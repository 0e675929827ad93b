import { viewers, stageName } from 'viewer';

const at = (id) => document.getElementById(id);
const shown = JSON.parse(at('data').textContent);

async function bitmap(uri) {
  if (!uri) return null;
  const image = new Image();
  image.src = uri;
  await image.decode();
  return image;
}

const views = (await Promise.all(shown.map(async ({ fate, picture }) =>
  viewers(fate, await bitmap(picture), (sentence) => { at('cell').textContent = sentence; })))).flat();
at('pictures').append(...views.map((view) => view.canvas));

const stages = shown.map(({ fate }) => fate.stages).reduce((a, b) => (b.length > a.length ? b : a), []);
at('stage').max = Math.max(stages.length - 1, 0);
at('stage').value = at('stage').max;

function draw() {
  const number = Number(at('stage').value);
  for (const view of views) view.show(number, at('heat').checked);
  const left = shown.reduce((sum, { fate }) => sum + fate.stages[Math.min(number, fate.stages.length - 1)].left, 0);
  at('name').textContent = stages.length > 0 ? `${stageName(stages[number])}: ${left} left` : '';
}
at('stage').addEventListener('input', draw);
at('heat').addEventListener('change', draw);
draw();
