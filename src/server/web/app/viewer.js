// One picture with its cells: what is left after a step, and what attention each cell received.

// Cividis in nine stops: even in lightness, and the same to every kind of colour vision.
const CIVIDIS = ['#00224e', '#123570', '#3b496c', '#575d6d', '#707173', '#8a8678', '#a59c74', '#c3b369', '#e1cc55', '#fee838'];
const WIDEST = 1024; // canvas pixels: enough for the column, small enough for a phone

function colour(share) {
  const at = Math.min(Math.max(share, 0), 1) * (CIVIDIS.length - 1);
  return CIVIDIS[Math.round(at)];
}

/** What covers a merged cell: stripes are told from any picture, dark or light, without colour. */
function hatching() {
  const tile = document.createElement('canvas');
  tile.width = tile.height = 8;
  const context = tile.getContext('2d');
  context.fillStyle = '#b9bfc5';
  context.fillRect(0, 0, 8, 8);
  context.strokeStyle = '#7d858d';
  context.lineWidth = 1.5;
  for (const offset of [-8, 0, 8]) {
    context.beginPath();
    context.moveTo(offset, 8);
    context.lineTo(offset + 8, 0);
    context.stroke();
  }
  return tile;
}

/** A stage of a fate, as people read it. */
export function stageName({ half, layer }) {
  if (half === 'encoder') return `encoder, layer ${layer}`;
  return half === 'decoder' ? `language model, layer ${layer}` : 'as it was';
}

/**
 * Canvases for `fate` ({ index, width, height, stages, tiles }, see src/report/fate.rs) over `picture` (something a
 * canvas can draw, or null: the cells alone). Fine tiles share one canvas; the base view beside them has its own. The
 * frames of a video, side by side in one picture, share one too.
 * `tell(sentence)` is called when a cell is pointed at.
 */
export function viewers(fate, picture, tell) {
  if (fate.tiles.some((tile) => tile.frame !== undefined)) return [viewer(fate, fate.tiles, picture, tell)];
  const [base, ...fine] = fate.tiles;
  if (fine.length > 0 && fine.every((tile) => tile.pixels)) {
    return [viewer(fate, fine, picture, tell), viewer(fate, [base], picture, tell)];
  }
  return fate.tiles.map((tile) => viewer(fate, [tile], picture, tell));
}

function viewer(fate, tiles, picture, tell) {
  const scale = Math.min(1, WIDEST / fate.width);
  const canvas = document.createElement('canvas');
  canvas.width = Math.max(1, Math.round(fate.width * scale));
  canvas.height = Math.max(1, Math.round(fate.height * scale));
  canvas.tabIndex = 0;
  canvas.setAttribute('role', 'img');
  const context = canvas.getContext('2d');
  const hatch = context.createPattern(hatching(), 'repeat');
  let step = 0;
  let heat = false;
  let chosen = null; // { tile, cell }

  const rectangle = (tile, cell) => {
    const [x0, y0, x1, y1] = (tile.pixels ?? [0, 0, fate.width, fate.height]).map((v) => v * scale);
    const column = cell % tile.columns;
    const row = Math.floor(cell / tile.columns);
    const left = x0 + ((x1 - x0) * column) / tile.columns;
    const top = y0 + ((y1 - y0) * row) / tile.rows;
    return [left, top, (x1 - x0) / tile.columns, (y1 - y0) / tile.rows];
  };

  const scoreOf = (cell) => {
    // Before any step: what the first one will see.
    for (let i = Math.max(step, 1) - 1; i >= 0; i--) {
      if (cell.scores[i] !== null && cell.scores[i] !== undefined) return cell.scores[i];
    }
    return null;
  };

  const draw = () => {
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (picture) context.drawImage(picture, 0, 0, canvas.width, canvas.height);
    for (const tile of tiles) {
      const scores = tile.cells.map(scoreOf);
      const known = scores.filter((score) => score !== null);
      const low = Math.min(...known);
      const high = Math.max(...known);
      tile.cells.forEach((cell, i) => {
        const gone = cell.gone !== 0 && cell.gone <= step && !cell.returns?.includes(step);
        const [x, y, w, h] = rectangle(tile, i);
        if (heat && scores[i] !== null) {
          context.globalAlpha = gone ? 0.25 : 0.75;
          context.fillStyle = colour(high > low ? (scores[i] - low) / (high - low) : 0.5);
          context.fillRect(x, y, w, h);
        }
        if (gone && !heat) {
          context.globalAlpha = 0.9;
          context.fillStyle = hatch;
          context.fillRect(x, y, w, h);
        }
      });
    }
    context.globalAlpha = 1;
    const whole = [0, 0, fate.width, fate.height];
    if (fate.region) frame(fate.region, whole);
    for (const tile of tiles) if (tile.score !== undefined) frame(tile.region, tile.pixels ?? whole);
    if (chosen) mark(chosen);
  };

  // The region that is shown of a picture within bounds: a line around it, the rest pale. Without one, all is pale.
  const frame = (region, bounds) => {
    const [x0, y0, x1, y1] = bounds.map((v) => v * scale);
    const [left, top, right, bottom] = region ? region.map((v) => v * scale) : [x0, y0, x0, y0];
    context.globalAlpha = 0.7;
    context.fillStyle = '#b9bfc5';
    context.fillRect(x0, y0, x1 - x0, top - y0);
    context.fillRect(x0, bottom, x1 - x0, y1 - bottom);
    context.fillRect(x0, top, left - x0, bottom - top);
    context.fillRect(right, top, x1 - right, bottom - top);
    context.globalAlpha = 1;
    if (!region) return;
    context.setLineDash([]);
    for (const [width, style] of [[4, '#000'], [2, '#fff']]) {
      context.lineWidth = width;
      context.strokeStyle = style;
      context.strokeRect(left, top, right - left, bottom - top);
    }
  };

  const mark = ({ tile, cell }) => {
    const outline = (number, dash) => {
      const [x, y, w, h] = rectangle(tile, number);
      context.setLineDash(dash);
      for (const [width, style] of [[4, '#000'], [2, '#fff']]) {
        context.lineWidth = width;
        context.strokeStyle = style;
        context.strokeRect(x, y, w, h);
      }
    };
    outline(cell, []);
    const { gone, into } = tile.cells[cell];
    if (gone && into && into[0] === tile.tile) outline(into[1], [4, 3]);
  };

  const describe = ({ tile, cell }) => {
    const { gone, into } = tile.cells[cell];
    const place = (number) => `row ${Math.floor(number / tile.columns) + 1}, column ${(number % tile.columns) + 1}`;
    const score = scoreOf(tile.cells[cell]);
    const parts = [`Cell at ${place(cell)}`];
    if (score !== null) parts.push(`attention received ${score.toPrecision(3)}`);
    if (!gone) parts.push('kept to the end');
    else {
      const where = !into ? '' : into[0] === tile.tile ? ` into ${place(into[1])}` : ` into a cell of tile ${into[0] + 1}`;
      const verb = into ? 'merged' : 'gone';
      parts.push(`${verb} at step ${gone} (${stageName(fate.stages[gone])})${where}`);
    }
    return `${parts.join('; ')}.`;
  };

  const choose = (place) => {
    chosen = place;
    draw();
    if (place) tell(describe(place));
  };

  const placeAt = (event) => {
    const box = canvas.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * canvas.width;
    const y = ((event.clientY - box.top) / box.height) * canvas.height;
    for (const tile of tiles) {
      const [left, top] = rectangle(tile, 0);
      const [x1, y1, w, h] = rectangle(tile, tile.cells.length - 1);
      if (x < left || y < top || x >= x1 + w || y >= y1 + h) continue;
      return { tile, cell: Math.floor((y - top) / h) * tile.columns + Math.floor((x - left) / w) };
    }
    return null;
  };
  canvas.addEventListener('pointermove', (event) => choose(placeAt(event)));
  canvas.addEventListener('pointerdown', (event) => choose(placeAt(event)));
  canvas.addEventListener('pointerleave', () => choose(null));
  canvas.addEventListener('keydown', (event) => {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!move) return;
    event.preventDefault();
    const { tile, cell } = chosen ?? { tile: tiles[0], cell: 0 };
    const column = Math.min(Math.max((cell % tile.columns) + move[0], 0), tile.columns - 1);
    const row = Math.min(Math.max(Math.floor(cell / tile.columns) + move[1], 0), tile.rows - 1);
    choose({ tile, cell: row * tile.columns + column });
  });

  return {
    canvas,
    show(number, heated) {
      step = number;
      heat = heated;
      const stage = fate.stages[Math.min(number, fate.stages.length - 1)];
      canvas.setAttribute('aria-label', `Picture ${fate.index + 1}: ${stage.left} cells left, ${stageName(stage)}`);
      draw();
    },
  };
}
