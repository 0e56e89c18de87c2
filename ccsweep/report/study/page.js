// What moves on a study's page: colours that follow day and night, and tables that are sorted.
function paint() {  // plotly's colours do not follow the page's
  const style = getComputedStyle(document.documentElement);
  const [ink, line] = ['--ink', '--line'].map(name => style.getPropertyValue(name).trim());
  for (const chart of document.querySelectorAll('.js-plotly-plot')) {
    const change = {'font.color': ink, 'hoverlabel.bgcolor': style.getPropertyValue('--paper').trim()};
    for (const axis of Object.keys(chart.layout).filter(key => /^[xy]axis/.test(key)))
      Object.assign(change, {[axis + '.gridcolor']: line, [axis + '.linecolor']: ink, [axis + '.tickcolor']: ink});
    Plotly.relayout(chart, change);
  }
}
addEventListener('load', paint);
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', paint);

function fill(table, data, column, sign) {
  const rows = data.rows.map((row, place) => [row, place]);
  if (column !== null)
    rows.sort(([a, i], [b, j]) => {
      const [x, y] = [a[column], b[column]];
      if (x === null || y === null) return (x === null) - (y === null) || i - j;  // what is missing comes last
      return sign * (typeof x === 'number' && typeof y === 'number' ? x - y : String(x).localeCompare(String(y)))
        || i - j;
    });
  const body = document.createElement('tbody');
  for (const [row] of rows) {
    const line = body.insertRow();
    row.forEach((value, place) => {
      const cell = line.insertCell();
      if (typeof value === 'number') cell.className = 'number';
      if (value === null) return;
      const shown = typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(4)) : value;
      if (data.heads[place] !== 'run' || !row[data.link]) { cell.textContent = shown; return; }
      const link = cell.appendChild(document.createElement('a'));
      link.href = row[data.link];
      link.textContent = String(shown).slice(0, 8);
    });
    if (data.link >= 0) line.deleteCell(data.link);
  }
  table.tBodies[0].replaceWith(body);
}
addEventListener('DOMContentLoaded', () => {
  for (const table of document.querySelectorAll('table.sortable')) {
    const data = JSON.parse(document.getElementById(table.dataset.rows).textContent);
    fill(table, data, null, 1);
    table.tHead.addEventListener('click', event => {
      const head = event.target.closest('th');
      const sign = head.getAttribute('aria-sort') === 'ascending' ? -1 : 1;
      for (const other of table.tHead.querySelectorAll('th')) other.removeAttribute('aria-sort');
      head.setAttribute('aria-sort', sign > 0 ? 'ascending' : 'descending');
      fill(table, data, data.heads.indexOf(head.dataset.key), sign);
    });
  }
});
