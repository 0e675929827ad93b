// From a trace to the fate of every cell: pure, no page needed.
//
// A cell is one token of the encoder's output grid if nothing were merged: a patch, or a group of 2x2 patches
// where the projector joins them. Steps are numbered from 1 in the order the engine took them.

/** Steps of one picture: the encoder's on each of its tiles, layer by layer, then the decoder's on its span. */
function stepsOf(trace, image) {
  const encoder = trace.steps.filter((step) => step.half === 'encoder' && step.image === image);
  const decoder = trace.steps.filter((step) => step.half === 'decoder' && step.span === image);
  return { encoder, decoder };
}

/**
 * [{ index, width, height, steps: [{ name, left }], tiles: [{ columns, rows, pixels, cells }] }], one for each picture.
 * A cell: { gone: number of the step that merged it or 0, into: cell number, scores: [one per step or null] }.
 * `left` is the number of cells alive after the step.
 */
export function fates(trace) {
  const numbers = [...new Set(trace.images.map((tile) => tile.index))];
  return numbers.map((index) => fateOf(trace, index)).filter((fate) => fate !== null);
}

function fateOf(trace, index) {
  const images = trace.images.filter((tile) => tile.index === index);
  const { encoder, decoder } = stepsOf(trace, index);
  const layers = [...new Set(encoder.map((step) => step.layer))].sort((a, b) => a - b);
  const total = layers.length + decoder.length;

  const tiles = images.map((image) => {
    const own = encoder.filter((step) => (step.tile ?? 0) === image.tile);
    const patches = image.grid[0] * image.grid[1];
    const side = own.length > 0 && own[0].n_in * 4 === patches ? 2 : 1;
    const [columns, rows] = image.grid.map((n) => n / side);
    const cells = Array.from({ length: columns * rows }, () => ({
      gone: 0, into: null, scores: Array(total).fill(null),
    }));
    let alive = cells.map((_, i) => i);
    for (const step of own) {
      const number = layers.indexOf(step.layer) + 1;
      alive = apply(cells, alive, step, number);
    }
    return { tile: image.tile, columns, rows, pixels: image.pixels ?? null, cells, alive };
  });

  const rowCells = spanRows(trace, index, tiles, decoder[0]?.n_in);
  if (rowCells) {
    let alive = rowCells.map((_, row) => row);
    decoder.forEach((step, k) => {
      const number = layers.length + k + 1;
      const merged = step.merged.slice(0, -1);
      step.scores.forEach((score, i) => {
        for (const cell of rowCells[alive[i]]) cell.scores[number - 1] = score;
      });
      for (const row of merged) {
        for (const cell of rowCells[row]) {
          cell.gone = number;
          cell.into = rowCells[step.into][0]?.number ?? null;
        }
      }
      alive = step.kept;
    });
  }

  const all = tiles.flatMap((tile) => tile.cells);
  const steps = [];
  for (let number = 0; number <= total; number++) {
    const left = all.filter((cell) => cell.gone === 0 || cell.gone > number).length;
    const name = number === 0 ? 'as it was'
      : number <= layers.length ? `encoder, layer ${layers[number - 1]}`
      : `language model, layer ${decoder[number - layers.length - 1].layer}`;
    steps.push({ name, left, shown: number <= layers.length || rowCells !== null });
  }
  const { width, height } = images[0];
  return { index, width, height, steps, tiles };
}

/** Marks what one encoder step did; returns who is left. */
function apply(cells, alive, step, number) {
  step.scores.forEach((score, i) => { cells[alive[i]].scores[number - 1] = score; });
  for (const cell of step.merged.slice(0, -1)) {
    cells[cell].gone = number;
    cells[cell].into = step.into;
  }
  return step.kept;
}

/** [rows of the span] the cells each row stands for; null where the trace does not tell. */
function spanRows(trace, index, tiles, rows) {
  if (rows === undefined) return [];
  const part = trace.prompt.find((some) => some.span === index);
  for (const tile of tiles) tile.cells.forEach((cell, i) => { cell.number = i; });
  if (part?.cells) {
    // [tile, cell] of each row, or null for a row that shows no part of the picture (a newline).
    const byTile = new Map(tiles.map((tile) => [tile.tile, tile]));
    return part.cells.map((place) => {
      const cell = place && byTile.get(place[0])?.cells[place[1]];
      return cell ? [cell] : [];
    });
  }
  if (tiles.length !== 1) return null;
  const { alive, cells } = tiles[0];
  if (alive.length === rows) return alive.map((i) => [cells[i]]);
  // Four survivors in a row make one token where single patches are merged before a 2x2 projector.
  if (alive.length === rows * 4) {
    return Array.from({ length: rows }, (_, row) => alive.slice(4 * row, 4 * row + 4).map((i) => cells[i]));
  }
  return null;
}
