'use strict';
// Any two runs of one cell: figures, classes, settings, SDKs, digests, widths. The address keeps the choice.
(() => {
  const {nights, cells, facts, classes, widths, unreadable} = window.runs;
  const $ = (id) => document.getElementById(id);
  const FIGURES = ['mAP50-95', 'mAP50', 'FPS', 'p50 ms', 'p99 ms', 'model file MB', 'peak memory MB'];
  const make = (tag, text, kind) => Object.assign(document.createElement(tag), {textContent: text ?? '', className: kind ?? ''});

  function table(head, rows) {
    const body = make('tbody');
    for (const row of rows) {
      const tr = body.appendChild(make('tr'));
      row.forEach((cell, i) => tr.append(make('td', cell, i ? 'long' : '')));
    }
    const line = make('tr');
    head.forEach((name, i) => line.append(make('th', name, i ? 'text' : '')));
    const found = make('table'), top = make('thead'), scroll = make('div', '', 'scroll');
    scroll.tabIndex = 0;
    top.append(line); found.append(top, body); scroll.append(found);
    return scroll;
  }

  const number = (value) => value === null || value === undefined ? 'not measured' : String(value);
  const change = (a, b) => a == null || b == null ? '' : `${b - a >= 0 ? '+' : ''}${Number((b - a).toPrecision(4))}${a ? ` (${(100 * (b / a - 1)).toFixed(1)} %)` : ''}`;
  const differing = (a, b) => [...new Set([...Object.keys(a), ...Object.keys(b)])]
    .filter((key) => String(a[key]) !== String(b[key])).map((key) => [key, a[key] ?? 'not set', b[key] ?? 'not set']);
  const title = (run) => `night ${run.night}, ${nights[run.night].at}, ${nights[run.night].commit}, ${run.status}`;

  function section(place, name, head, rows, none) {
    place.append(make('h2', name), rows.length ? table(head, rows) : make('p', none, 'soft'));
  }

  // Pictures exist of one pair of nights a cell; of all pairs they would be too many.
  function pictures(place, cell, a, b) {
    const pair = window.pairs[cell.name];
    place.append(make('h2', 'Images that got worse'));
    if (String(pair.nights) !== String([a.night, b.night])) {
      const note = place.appendChild(make('p', '', 'soft'));
      note.append('This command lists them, without pictures: ', make('code', `yolo-slim nightly diff ${a.night} ${b.night} '${cell.name}'`), '. ');
      if (!pair.nights) return;
      const link = make('a', `nights ${pair.nights.join(' and ')}`);
      link.href = `#${encodeURIComponent(cell.name)}&${pair.nights.join('&')}`;
      note.append('This page has pictures of the baseline and the last night: ', link, '.');
      return;
    }
    if (!pair.images.length) place.append(make('p', "None is shown: its accuracy didn't fall, or other cells lost more.", 'soft'));
    for (const image of pair.images) {
      const figure = place.appendChild(make('figure', '', 'pair'));
      (image.pictures ?? []).forEach((src, i) => figure.append(Object.assign(make('img'), {src, loading: 'lazy', alt: `${image.name} with the boxes of night ${i ? b.night : a.night}`})));
      const where = image.pictures ? `Left: night ${a.night}. Right: night ${b.night}.` : "The image can't be read on this machine any more.";
      figure.append(make('figcaption', `${image.name}: mAP50-95 of this image ${image.before.toFixed(3)} → ${image.after.toFixed(3)}. ${where}`));
    }
  }

  function show() {
    const cell = cells[$('cell').value], place = $('answer');
    const [a, b] = ['before', 'after'].map((id) => cell.runs.find((run) => String(run.night) === $(id).value));
    place.replaceChildren();
    const link = place.appendChild(make('p')).appendChild(make('a', cell.name));
    link.href = cell.page;
    for (const run of [a, b]) if (run.error !== undefined) place.append(make('p', `night ${run.night}: ${run.status}. ${run.error}`, 'missing'));
    const figures = FIGURES.map((name, i) => [name, number(a.figures?.[i]), number(b.figures?.[i]), change(a.figures?.[i], b.figures?.[i])]);
    section(place, 'Figures', ['figure', 'before', 'after', 'change'], figures, '');
    const [x, y] = [a, b].map((run) => classes[run.classes] ?? {});
    const rows = Object.entries(cell.names).map(([id, name]) => [name, number(x[id]), number(y[id]), change(x[id], y[id]), (y[id] ?? 0) - (x[id] ?? 0)]);
    section(place, 'AP50-95 of classes', ['class', 'before', 'after', 'change'], rows.sort((p, q) => p[4] - q[4]).map((row) => row.slice(0, 4)), '');
    if (a.figures && b.figures && a !== b) pictures(place, cell, a, b);
    const source = differing(...[a, b].map((run) => ({commit: nights[run.night].commit, subject: nights[run.night].subject})));
    section(place, 'Code', ['fact', 'before', 'after'], source, 'The commit is the same.');
    for (const [name, key] of [['Settings', 'settings'], ["Workstation's SDKs", 'workstation'], ['Device and its SDKs', 'environment'], ['Weights, data, bundle (SHA-256)', 'digests']]) {
      section(place, name, ['fact', 'before', 'after'], differing(facts[a[key]], facts[b[key]]), 'Nothing differs.');
    }
    const networks = [a, b].map((run) => facts[run.digests].network);
    const [v, w] = networks.map((network) => widths[network]);
    if (v && w) {
      const kept = (one) => Object.fromEntries(Object.entries(one).map(([layer, [, after]]) => [layer, after]));
      section(place, 'Widths (channels)', ['layer', 'before', 'after'], differing(kept(v), kept(w)), 'Nothing differs.');
    } else {
      const why = networks.map((network) => unreadable[network]).find(Boolean);
      section(place, 'Widths (channels)', [], [], why ? `The widths of one of them can't be read: ${why}` : 'The widths of one of them are not in this page.');
    }
    history.replaceState(null, '', `#${encodeURIComponent(cell.name)}&${a.night}&${b.night}`);
  }

  function fill(before, after) {
    const {runs} = cells[$('cell').value];
    for (const [id, wanted] of [['before', before], ['after', after]]) {
      $(id).replaceChildren(...[...runs].reverse().map((run) => Object.assign(make('option', title(run)), {value: run.night})));
      if (runs.some((run) => run.night === wanted)) $(id).value = wanted;
    }
    show();
  }

  cells.forEach((cell, i) => $('cell').append(Object.assign(make('option', cell.name), {value: i})));
  const newest = () => { const {runs} = cells[$('cell').value]; return [(runs.at(-2) ?? runs.at(-1)).night, runs.at(-1).night]; };
  function follow() {
    const [name, before, after] = location.hash.slice(1).split('&');
    const known = cells.findIndex((cell) => cell.name === decodeURIComponent(name));
    if (known >= 0) $('cell').value = known;
    const [first, second] = newest();
    fill(Number(before) || first, Number(after) || second);
  }
  follow();
  addEventListener('hashchange', follow);
  $('cell').addEventListener('change', () => fill(...newest()));
  for (const id of ['before', 'after']) $(id).addEventListener('change', show);
})();
