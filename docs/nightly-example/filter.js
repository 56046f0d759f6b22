'use strict';
// Search and filters: what doesn't match leaves the table and the charts. The address keeps the choice.
(() => {
  const search = document.getElementById('search');
  const selects = [...document.querySelectorAll('.filter select')];
  const rows = [...document.querySelectorAll('table.cells tbody tr')];

  function matches(row) {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const text = row.textContent.toLowerCase();
    return words.every((word) => text.includes(word)) &&
      selects.every((select) => !select.value || row.dataset[select.dataset.key] === select.value);
  }

  function apply() {
    const hidden = rows.filter((row) => !matches(row));
    for (const row of rows) row.hidden = hidden.includes(row);
    document.getElementById('found').textContent = hidden.length ? `${rows.length - hidden.length} of ${rows.length} cells` : '';
    charts.hide(hidden.map((row) => row.dataset.cell));
    const chosen = Object.fromEntries(selects.filter((one) => one.value).map((one) => [one.dataset.key, one.value]));
    if (search.value) chosen.search = search.value;
    history.replaceState(null, '', `#${new URLSearchParams(chosen)}`);
  }

  const given = new URLSearchParams(location.hash.slice(1));
  search.value = given.get('search') ?? '';
  for (const select of selects) select.value = given.get(select.dataset.key) ?? '';
  for (const one of [search, ...selects]) one.addEventListener('input', apply);
  document.addEventListener('keydown', (event) => {
    if (event.key === '/' && !event.target.closest('input, select')) { event.preventDefault(); search.focus(); }
    if (event.key === 'Escape' && event.target === search) { search.value = ''; apply(); }
  });
  if (location.hash.length > 1) apply();
})();
