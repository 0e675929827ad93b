// The panel beside the answer: pictures step by step, and the figures of the report.

import { viewers, stageName } from './viewer.js';
import { figures } from './figures.js';
import { fileOf, isImage } from './media.js';

/** Binds the panel; `show(result, files)` fills it for one answer, `hide()` closes it. */
export function kept({ panel, pictures, step, stepName, heat, cell, table, budgets }) {
  let views = [];
  let longest = [];
  let turn = 0; // a slow picture of an answer no longer shown is dropped

  const draw = () => {
    const number = Number(step.value);
    for (const view of views) view.show(number, heat.checked);
    const { name, left } = longest[number] ?? { name: '', left: '' };
    stepName.textContent = longest.length > 1 ? `${name}: ${left} left` : 'nothing was merged';
  };
  step.addEventListener('input', draw);
  heat.addEventListener('change', draw);

  return {
    async show({ kept: fates, report }, files, other) {
      const mine = ++turn;
      const all = fates ?? [];
      const bitmaps = await Promise.all(all.map(({ index }) => {
        const file = fileOf(index, files, all.length);
        // A video's frames are not at hand as pictures: its cells are shown alone.
        return file && isImage(file) ? createImageBitmap(file).catch(() => null) : null;
      }));
      if (mine !== turn) return;
      views = all.flatMap((fate, i) => viewers(fate, bitmaps[i], (sentence) => { cell.textContent = sentence; }));
      longest = all.length === 0 ? [] : all.reduce((a, b) => (b.stages.length > a.stages.length ? b : a)).stages
        .map((stage, number) => ({
          name: stageName(stage),
          left: all.reduce((sum, { stages }) => sum + stages[Math.min(number, stages.length - 1)].left, 0),
        }));
      pictures.replaceChildren(...views.map((view) => view.canvas));
      step.max = Math.max(longest.length - 1, 0);
      step.value = step.max;
      step.disabled = longest.length < 2;
      // The schedule `auto` gives each picture its own budget: why stands below the pictures.
      const own = report?.merge?.budgets ?? [];
      budgets.replaceChildren(...own.map(({ image, cells, decoder, why }) => {
        const line = document.createElement('li');
        line.textContent = `Picture ${image + 1}: ${decoder} of ${cells} tokens reach the upper layers (auto): ${why}.`;
        return line;
      }));
      budgets.hidden = own.length === 0;
      figures(table, report, other);
      panel.hidden = false;
      draw();
    },
    hide() {
      turn++;
      panel.hidden = true;
    },
  };
}
