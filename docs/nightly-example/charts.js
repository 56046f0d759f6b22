'use strict';
// Draws the charts in the page's colours: those near the window at once, the others while the page has nothing to do.
// The legend's buttons hide and show series.
(() => {
  const inks = {"#00694f": "--pass", "#0072b2": "--control", "#008060": "--green", "#1c2126": "--fg", "#2f8fc4": "--sky", "#5a646e": "--soft", "#6b7780": "--rival", "#7d5200": "--unproven", "#8f6f00": "--yellow", "#a6559d": "--violet", "#a8231c": "--fail", "#d55e00": "--slim", "#e1e5e9": "--line", "#f6f7f9": "--card"};
  const scheme = matchMedia('(prefers-color-scheme: dark)');
  const shown = new Map();  // figure -> Bokeh's views and its chart

  let hiddenTags = new Set();

  const coloured = (text) => {
    const style = getComputedStyle(document.documentElement);
    for (const [color, name] of Object.entries(inks)) text = text.replaceAll(color, style.getPropertyValue(name).trim());
    return text;
  };

  const toggled = (figure) => {
    const {chart} = shown.get(figure);
    if (!chart) return;
    const parts = [...chart.renderers, ...chart.center];
    for (const button of figure.querySelectorAll('.legend button')) {
      const visible = button.getAttribute('aria-pressed') === 'true';
      for (const part of parts) {
        if (part.name === button.dataset.series) part.visible = visible && !part.tags.some((tag) => hiddenTags.has(tag));
      }
    }
  };

  async function draw(figure) {
    for (const view of shown.get(figure)?.views ?? []) view.remove();
    shown.set(figure, {});
    const place = figure.querySelector('.canvas');
    const doc = JSON.parse(coloured(figure.querySelector('script').textContent));
    const id = doc.roots[0].id;
    const manager = await Bokeh.embed.embed_item({doc, root_id: id}, place);
    const chart = manager.get_by_id(id).model;
    shown.set(figure, {views: [...manager], chart});
    place.classList.toggle('dark', scheme.matches);
    // A finger scrolls the page; whoever wants to zoom chooses a tool.
    if (matchMedia('(pointer: coarse)').matches) chart.toolbar.active_drag = null;
    if (figure.dataset.axis) link(figure, chart.x_range);
    toggled(figure);
    figure.dataset.drawn = Math.round(performance.now());
  }

  // Charts with one axis of time zoom and move together.
  const link = (figure, range) => range.change.connect(() => {
    for (const [other, {chart}] of shown) {
      if (other === figure || !chart || other.dataset.axis !== figure.dataset.axis) continue;
      const {x_range} = chart;
      if (x_range.start !== range.start || x_range.end !== range.end) x_range.setv({start: range.start, end: range.end});
    }
  });

  const near = new IntersectionObserver((entries) => {
    for (const {target, isIntersecting} of entries) if (isIntersecting && !shown.has(target)) draw(target);
  }, {rootMargin: '400px'});

  // Drawing takes longer than a browser waits before it prints, so the charts must be there by then.
  const drawNext = async () => {
    const figure = [...document.querySelectorAll('figure.chart')].find((one) => !shown.has(one));
    if (!figure) return;
    await draw(figure);
    whenIdle();
  };
  const whenIdle = () => (window.requestIdleCallback ?? setTimeout)(drawNext);

  window.charts = {
    add(root) { for (const figure of root.querySelectorAll('figure.chart')) near.observe(figure); },
    hide(tags) { hiddenTags = new Set(tags); for (const figure of shown.keys()) toggled(figure); },
  };
  document.addEventListener('click', (event) => {
    const button = event.target.closest('.chart .legend button');
    if (!button) return;
    button.setAttribute('aria-pressed', button.getAttribute('aria-pressed') !== 'true');
    const figure = button.closest('figure');
    if (shown.has(figure)) toggled(figure);
  });
  scheme.addEventListener('change', () => { for (const figure of shown.keys()) draw(figure); });
  charts.add(document);
  addEventListener('load', whenIdle);
})();
