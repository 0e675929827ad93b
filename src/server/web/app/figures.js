// The report as a table; beside it the same question with merging off, where it was asked.

const MIB = 1024 * 1024;

function count(n) {
  return n === undefined || n === null ? '' : n.toLocaleString('en');
}

function ms(value) {
  return value === undefined ? '' : value >= 10_000 ? `${(value / 1000).toFixed(1)} s` : `${Math.round(value)} ms`;
}

function mib(bytes) {
  return bytes === undefined ? '' : `${(bytes / MIB).toFixed(1)} MiB`;
}

function rows(report) {
  const { tokens, ms: times, bytes, tokens_per_second: rates } = report;
  return [
    ['visual tokens', count(tokens.visual)],
    ['after the encoder', count(tokens.visual_after_encoder)],
    ...(tokens.visual_kv ?? []).map(({ layers, tokens: held }) => [`in layers ${layers[0]} to ${layers[1] - 1}`, count(held)]),
    ['encoder', ms(times.encoder)],
    ['prefill', ms(times.prefill)],
    ['first token', ms(times.first_token)],
    ['tokens a second', rates.generate === undefined ? '' : rates.generate.toFixed(1)],
    ['KV cache', mib(bytes.kv)],
  ];
}

/** Fills `table`. Without `other`, the report's own figure for the KV cache without merging stands in the last column. */
export function figures(table, report, other) {
  table.replaceChildren();
  if (!report) return;
  const off = report.merge?.schedule === 'off';
  const beside = off ? null : other ? rows(other) : [['visual tokens', count(report.tokens.visual)], ['KV cache', mib(report.bytes.kv_without_merge)]];
  const head = table.createTHead().insertRow();
  for (const title of ['', off ? 'off' : 'merged', ...(beside ? ['off'] : [])]) {
    const cell = document.createElement(title ? 'th' : 'td');
    if (title) cell.scope = 'col';
    cell.textContent = title;
    head.append(cell);
  }
  const body = table.createTBody();
  for (const [name, value] of rows(report)) {
    const row = body.insertRow();
    const title = document.createElement('th');
    title.scope = 'row';
    title.textContent = name;
    row.append(title);
    row.insertCell().textContent = value;
    if (beside) row.insertCell().textContent = beside.find(([same]) => same === name)?.[1] ?? '';
  }
}
