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

const views = (await Promise.all(shown.map(async ({ fate, picture, name }) => {
  const drawn = viewers(fate, await bitmap(picture), (sentence) => { at('cell').textContent = sentence; });
  return drawn.map((view) => ({ ...view, name: name ?? `picture ${fate.index + 1}` }));
}))).flat();
at('pictures').append(...views.map(({ canvas, name }) => {
  const figure = document.createElement('figure');
  const caption = document.createElement('figcaption');
  caption.textContent = name;
  figure.append(canvas, caption);
  return figure;
}));

const stages = shown.map(({ fate }) => fate.stages).reduce((a, b) => (b.length > a.length ? b : a), []);
at('stage').max = Math.max(stages.length - 1, 0);
at('stage').value = at('stage').max;

function draw() {
  const number = Number(at('stage').value);
  for (const view of views) view.show(number, at('heat').checked);
  const left = shown.reduce((sum, { fate }) => sum + fate.stages[Math.min(number, fate.stages.length - 1)].left, 0);
  at('kept-legend').hidden = at('heat').checked;
  at('heat-legend').hidden = !at('heat').checked;
  at('name').textContent = stages.length > 0 ? `${stageName(stages[number])}: ${left} left` : '';
}

let playing = null;
function pause() {
  clearInterval(playing);
  playing = null;
  at('play').textContent = 'Play';
}
at('play').addEventListener('click', () => {
  if (playing !== null) { pause(); return; }
  const stage = at('stage');
  if (stage.value === stage.max) stage.value = 0;
  draw();
  at('play').textContent = 'Pause';
  playing = setInterval(() => {
    stage.value = Number(stage.value) + 1;
    draw();
    if (stage.value === stage.max) pause();
  }, 800);
});
at('stage').addEventListener('input', () => { pause(); draw(); });
at('heat').addEventListener('change', draw);
draw();
