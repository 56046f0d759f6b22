"use strict";
const $ = (id) => document.getElementById(id);
const OLD_S = 1, OLD_INTERVALS = 3, GREY_TIMES = 3, KEPT_TIMES = 16, HISTORY = 60, LONGEST_WAIT_MS = 10000, CROSS_STEP = 0.02;
const about = { names: {}, colors: {}, bundles: [], zones: [], conf: 0.25, classes: null, paused: false };
const LEAST_FRAMES = 60, LEAST_MS = 200;
const COUNT_TEXTS = { longest_s: (seconds) => `longest stay ${seconds.toFixed(1)} s` };
const view = { frame: null, bitmap: null, receivedMs: 0, stats: {}, online: false, totals: {}, times: [], state: "connecting", countedMs: 0 };
const past = { fps: [], latency: [], celsius: [] };
const drawing = { kind: null, points: [], cross: [0.5, 0.5], isCrossShown: false };
let socket = null, waitMs = 500, chain = Promise.resolve();

// ---- the connection

function connect() {
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => { view.online = true; waitMs = 500; watch(); showState(); };
  socket.onmessage = (event) => {
    if (typeof event.data === "string") read(JSON.parse(event.data));
    else chain = chain.then(() => show(event.data)).catch(() => send("seen"));
  };
  socket.onclose = () => {
    view.online = false;
    showState();
    setTimeout(connect, waitMs);
    waitMs = Math.min(waitMs * 2, LONGEST_WAIT_MS);
  };
}

function send(command, value) {
  if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ command, value }));
}

function watch() { send("watch", isDrawnOnDevice() ? "boxes" : "plain"); }

const readers = {
  about(message) { Object.assign(about, message); showAbout(); },
  stats(message) { view.stats = message; addHistory(message); showStats(); showState(); },
  refused(message) { say(message.reason); },
};

function read(message) { if (readers[message.type]) readers[message.type](message); }

// A binary message: age (float32, ms), length of the JSON (uint32), the JSON, the JPEG.
async function show(buffer) {
  const head = new DataView(buffer), length = head.getUint32(4, true);
  const receivedMs = performance.now() - head.getFloat32(0, true);
  const frame = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  const bitmap = await createImageBitmap(new Blob([new Uint8Array(buffer, 8 + length)], { type: "image/jpeg" }));
  if (view.bitmap) view.bitmap.close();
  Object.assign(view, { frame, bitmap, receivedMs });
  view.times = [...view.times, receivedMs].slice(-KEPT_TIMES);
  for (const [name, answer] of Object.entries(frame.answers)) addTotal(name, answer.times.total_ms);
  render();
  showSeen();
  send("seen");
  document.dispatchEvent(new CustomEvent("picture", { detail: { sequence: frame.sequence } }));
}

function addTotal(name, ms) {
  const totals = view.totals[name] = view.totals[name] || [];
  totals.push(ms);
  if (totals.length > 90) totals.shift();
}

// ---- the picture

const isDrawnOnDevice = () => $("drawn").checked;
const hasControl = () => about.bundles.includes("control");
const isBeside = () => hasControl() && $("beside").checked && !isDrawnOnDevice();

function render() {
  if (!view.bitmap) return;
  paint($("slim"), "slim");
  if (isBeside()) paint($("control"), "control");
}

function paint(canvas, name) {
  const { bitmap, frame } = view;
  if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
  }
  const pen = canvas.getContext("2d");
  pen.drawImage(bitmap, 0, 0);
  if (isDrawnOnDevice()) { if (drawing.kind) paintDrawing(pen); return; }
  const scale = Math.max(canvas.width / (canvas.clientWidth || canvas.width), 0.5);
  if (frame.answers[name]) paintBoxes(pen, frame.answers[name], name === "slim" ? frame.track_ids : [], scale);
  if (name === "slim") { about.zones.forEach((zone) => paintZone(pen, zone, scale)); paintDrawing(pen); }
}

function paintBoxes(pen, answer, trackIds, scale) {
  const { width, height } = pen.canvas;
  pen.lineWidth = 2 * scale;
  pen.font = `600 ${Math.round(13 * scale)}px system-ui, sans-serif`;
  for (let i = answer.boxes.length - 1; i >= 0; i--) {
    const [x1, y1, x2, y2] = answer.boxes[i], id = answer.class_ids[i], color = about.colors[id] || "#cc3311";
    pen.strokeStyle = color;
    pen.strokeRect(x1 * width, y1 * height, (x2 - x1) * width, (y2 - y1) * height);
    const track = trackIds[i] ? ` #${trackIds[i]}` : "";
    label(pen, `${about.names[id] ?? id}${track} ${answer.scores[i].toFixed(2)}`, x1 * width, y1 * height, color, scale);
  }
}

function label(pen, text, x, y, color, scale) {
  const tall = 18 * scale, wide = pen.measureText(text).width + 8 * scale;
  const top = Math.max(0, y - tall), left = Math.max(0, Math.min(x - scale, pen.canvas.width - wide));
  pen.fillStyle = color;
  pen.fillRect(left, top, wide, tall);
  pen.fillStyle = "#fff";
  pen.fillText(text, left + 4 * scale, top + 13 * scale);
}

function trace(pen, points, isClosed) {
  pen.beginPath();
  points.forEach(([x, y], i) => pen[i ? "lineTo" : "moveTo"](x * pen.canvas.width, y * pen.canvas.height));
  if (isClosed) pen.closePath();
}

function paintZone(pen, zone, scale) {
  pen.strokeStyle = "#ffd33d";
  pen.lineWidth = 3 * scale;
  trace(pen, zone.points, zone.kind === "zone");
  if (zone.kind === "zone") { pen.fillStyle = "rgba(255, 211, 61, .14)"; pen.fill(); }
  pen.stroke();
  if (zone.kind === "line") paintDirection(pen, zone.points, scale);
  // A zone's first corner is often beside a line's start: the line has its text at the end.
  const counts = countsText(zone.name), [x, y] = zone.points[zone.kind === "line" ? 1 : 0];
  pen.font = `600 ${Math.round(13 * scale)}px system-ui, sans-serif`;
  label(pen, counts ? `${zone.name}: ${counts}` : zone.name, x * pen.canvas.width, y * pen.canvas.height, "#6b5300", scale);
}

// An arrow to the side that counts as "in": the right one, looking from the line's start to its end.
function paintDirection(pen, [start, end], scale) {
  const { width, height } = pen.canvas, x = (start[0] + end[0]) / 2 * width, y = (start[1] + end[1]) / 2 * height;
  const dx = (end[0] - start[0]) * width, dy = (end[1] - start[1]) * height, long = Math.hypot(dx, dy) || 1;
  pen.save();
  pen.translate(x, y);
  pen.rotate(Math.atan2(dx / long, -dy / long));
  pen.scale(scale, scale);
  pen.lineWidth = 3;
  pen.beginPath();
  pen.moveTo(0, 0); pen.lineTo(22, 0);
  pen.moveTo(14, -6); pen.lineTo(22, 0); pen.lineTo(14, 6);
  pen.stroke();
  pen.restore();
}

function paintDrawing(pen) {
  if (!drawing.kind) return;
  const { width, height } = pen.canvas, scale = Math.max(width / (pen.canvas.clientWidth || width), 0.5);
  pen.strokeStyle = "#00e5ff";
  pen.fillStyle = "#00e5ff";
  pen.lineWidth = 3 * scale;
  trace(pen, drawing.points, false);
  pen.stroke();
  for (const [x, y] of drawing.points) {
    pen.beginPath();
    pen.arc(x * width, y * height, 5 * scale, 0, 7);
    pen.fill();
  }
  if (!drawing.isCrossShown) return;
  const [x, y] = [drawing.cross[0] * width, drawing.cross[1] * height];
  pen.beginPath();
  pen.moveTo(x - 12 * scale, y); pen.lineTo(x + 12 * scale, y);
  pen.moveTo(x, y - 12 * scale); pen.lineTo(x, y + 12 * scale);
  pen.stroke();
}

function countsText(name) {
  const counts = (view.stats.counts || {})[name];
  if (counts === undefined || counts === null) return "";
  return typeof counts === "object" ? Object.entries(counts).map(([key, n]) => (COUNT_TEXTS[key] ? COUNT_TEXTS[key](n) : `${key} ${n}`)).join(", ") : String(counts);
}

// ---- age and state

// A source of one frame in five seconds isn't old after one: its usual interval counts.
function oldAfterS() {
  const gaps = view.times.slice(1).map((time, i) => (time - view.times[i]) / 1000);
  return Math.max(OLD_S, OLD_INTERVALS * (gaps.length ? median(gaps) : 0));
}

function ageS() { return view.frame ? (performance.now() - view.receivedMs) / 1000 : null; }

function showAge() {
  const age = ageS(), isPaused = about.paused && view.online;
  const limit = oldAfterS(), isOld = age !== null && age > limit && !isPaused;
  for (const screen of document.querySelectorAll(".screen")) {
    const text = screen.querySelector(".age");
    const said = !view.online ? "not connected" : isPaused ? "paused" : isOld ? `${age.toFixed(age < 10 ? 1 : 0)} s old` : "";
    text.hidden = !said || (!view.frame && view.online);
    text.textContent = said && !view.online && age !== null ? `${said}, ${age.toFixed(0)} s old` : said;
    screen.classList.toggle("old", !view.online || (age !== null && age > GREY_TIMES * limit && !isPaused));
  }
}

function showState() {
  const { state, reason } = view.stats;
  view.state = !view.online ? "offline" : state || "connecting";
  const text = !view.online ? "not connected: trying again" : reason ? `${view.state}: ${reason}` : view.state;
  const badge = $("state");
  badge.dataset.state = view.state;
  if (badge.textContent !== text) badge.textContent = text;
  showAge();
}

// ---- figures

const number = (value, digits = 1) => (typeof value === "number" ? value.toFixed(digits) : "-");
const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];

function addHistory(stats) {
  const values = { fps: stats.fps_now ?? stats.fps, latency: (stats.latency_ms || {}).p50, celsius: stats.celsius };
  for (const [name, value] of Object.entries(values)) {
    past[name].push(typeof value === "number" ? value : null);
    if (past[name].length > HISTORY) past[name].shift();
  }
}

function showStats() {
  const stats = view.stats, latency = stats.latency_ms || {};
  $("fps-value").textContent = number(stats.fps);
  $("latency-value").textContent = `${number(latency.p50, 0)} ms, p99 ${number(latency.p99, 0)} ms`;
  $("celsius-value").textContent = typeof stats.celsius === "number" ? `${number(stats.celsius, 0)} °C${throttledText(stats.throttled)}` : "not known";
  $("viewers").textContent = stats.viewers === 1 ? "1 viewer" : `${stats.viewers ?? 0} viewers`;
  graph($("fps"), past.fps);
  graph($("latency"), past.latency);
  graph($("celsius"), past.celsius);
  showFacts({
    "source": `${number(stats.source_fps)} FPS`, "dropped": stats.dropped ?? "-",
    "inference": `${number((stats.infer_ms || {}).p50)} ms`, "waited": `${number(stats.queue_age_ms)} ms`,
    "memory": `${number(stats.rss_mb, 0)} MB`,
  });
  showBundles();
  showZoneCounts();
  describe();
}

function throttledText(reasons) {
  if (Array.isArray(reasons)) return reasons.length ? `, throttled: ${reasons.join(", ")}` : "";
  return reasons ? ", throttled" : "";
}

function showFacts(facts) {
  const list = $("facts");
  if (list.children.length === 0) {
    for (const name of Object.keys(facts)) {
      const box = document.createElement("div"), term = document.createElement("dt");
      term.textContent = name;
      box.append(term, document.createElement("dd"));
      list.append(box);
    }
  }
  Object.values(facts).forEach((value, i) => { list.children[i].lastChild.textContent = value; });
}

function showBundles() {
  const ms = {};
  for (const name of ["slim", "control"]) {
    ms[name] = view.totals[name] ? median(view.totals[name]) : null;
    $(`${name}-figures`).textContent = ms[name] ? `${number(ms[name])} ms a frame, enough for ${number(1000 / ms[name])} FPS,` : "";
  }
  const frames = Math.min(...["slim", "control"].map((name) => (view.totals[name] || []).length));
  // The first frames are slow, and a few say nothing.
  $("gain").hidden = !(hasControl() && frames >= LEAST_FRAMES);
  if (frames >= LEAST_FRAMES) $("gain").textContent = `slim takes ${number(ms.slim)} ms, the control ${number(ms.control)} ms (median of ${frames} frames): ${number(ms.control / ms.slim, 2)} times as fast`;
}

// Objects in the newest picture: [class id, count], the most frequent first.
function seenCounts() {
  const counts = new Map();
  for (const id of view.frame.answers.slim.class_ids) counts.set(id, (counts.get(id) || 0) + 1);
  return [...counts].sort((one, other) => other[1] - one[1] || one[0] - other[0]);
}

// What was in a picture that is old isn't there "now". A fast camera's numbers change too often to be read.
function showSeen() {
  if (!view.frame || !view.frame.answers.slim || performance.now() - view.countedMs < LEAST_MS) return;
  view.countedMs = performance.now();
  for (const [name, answer] of Object.entries(view.frame.answers)) $(`${name}-found`).textContent = `${answer.boxes.length} found`;
  const isOld = !view.online || (ageS() > oldAfterS() && !about.paused), counts = isOld ? [] : seenCounts();
  const text = isOld ? "not known" : counts.length ? JSON.stringify([counts, about.names]) : "nothing";
  if ($("seen").dataset.text === text) return;
  $("seen").dataset.text = text;
  const rows = counts.length ? counts.map(([id, count]) => [swatch(id), `${about.names[id] ?? id} ${count}`]) : [[text]];
  $("seen").replaceChildren(...rows.map((parts) => {
    const item = document.createElement("li");
    item.append(...parts);
    return item;
  }));
}

function swatch(id) {
  const box = document.createElement("span");
  box.className = "swatch";
  box.style.background = about.colors[id];
  return box;
}

function describe() {
  if (!view.frame || !view.frame.answers.slim) return;
  const text = seenCounts().map(([id, n]) => `${n} ${about.names[id] ?? id}`).join(", ") || "nothing found";
  $("slim").setAttribute("aria-label", `Camera picture: ${text}`);
}

function graph(canvas, values) {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth * ratio, height = canvas.clientHeight * ratio;
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  const pen = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
  const known = values.filter((value) => value !== null), most = Math.max(...known, 1) * 1.15;
  pen.clearRect(0, 0, width, height);
  pen.strokeStyle = style.getPropertyValue("--edge");
  pen.lineWidth = ratio;
  pen.beginPath();
  pen.moveTo(0, height - ratio); pen.lineTo(width, height - ratio);
  pen.stroke();
  pen.strokeStyle = style.getPropertyValue("--accent");
  pen.lineWidth = 2 * ratio;
  pen.beginPath();
  let isDown = false;
  values.forEach((value, i) => {
    if (value === null) { isDown = false; return; }
    const x = (HISTORY - values.length + i) / (HISTORY - 1) * width, y = height - value / most * (height - 4 * ratio) - 2 * ratio;
    pen[isDown ? "lineTo" : "moveTo"](x, y);
    isDown = true;
  });
  pen.stroke();
  const last = known.length ? number(known[known.length - 1]) : "not known";
  canvas.setAttribute("aria-label", `${canvas.getAttribute("aria-label").split(":")[0]}: ${last}`);
}

// ---- the controls

function showAbout() {
  document.title = $("title").textContent = about.source || "Camera";
  $("slim-name").textContent = about.bundles[0] || "slim";
  if (document.activeElement !== $("conf")) $("conf").value = about.conf;
  $("conf-value").textContent = Number($("conf").value).toFixed(2);
  $("pause").setAttribute("aria-pressed", String(about.paused));
  $("pause").textContent = about.paused ? "Go on" : "Pause";
  $("clip").hidden = !about.has_clips;
  showLayout();
  showClasses();
  showZones();
  showAge();
  render();
}

function showLayout() {
  $("beside-label").hidden = !hasControl() || isDrawnOnDevice();
  $("control-figure").hidden = !isBeside();
}

const isOn = (id) => about.classes === null || about.classes.includes(id);
const classIds = () => Object.keys(about.names).map(Number);

function showClasses() {
  const list = $("classes"), ids = classIds();
  $("classes-count").textContent = about.classes === null ? `(all ${ids.length})` : `(${about.classes.length} of ${ids.length})`;
  if (list.dataset.names !== JSON.stringify(about.names)) {
    list.dataset.names = JSON.stringify(about.names);
    list.replaceChildren(...ids.map(classChoice));
  }
  for (const box of list.querySelectorAll("input")) box.checked = isOn(Number(box.value));
}

function classChoice(id) {
  const choice = document.createElement("label"), box = document.createElement("input");
  Object.assign(box, { type: "checkbox", value: id });
  box.onchange = () => setClasses(classIds().filter((other) => (other === id ? box.checked : isOn(other))));
  choice.append(box, swatch(id), about.names[id]);
  return choice;
}

function setClasses(ids) { send("classes", ids.length === classIds().length ? null : ids); }

function setConf(value) {
  const conf = Math.min(0.99, Math.max(0.01, Math.round(value * 100) / 100));
  $("conf").value = conf;
  $("conf-value").textContent = conf.toFixed(2);
  send("conf", conf);
}

function say(text) {
  $("message").textContent = text;
  $("message").hidden = !text;
  clearTimeout(say.timer);
  if (text) say.timer = setTimeout(() => say(""), 8000);
}

async function getClip(event) {
  event.preventDefault();
  say("");
  const answer = await fetch("/clip").catch(() => null);
  if (!answer || !answer.ok) { say(answer ? await answer.text() : "not connected"); return; }
  const link = document.createElement("a"), named = /filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition") || "");
  link.href = URL.createObjectURL(await answer.blob());
  link.download = named ? named[1] : "clip";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// ---- lines and zones

function showZones() {
  $("zones-count").textContent = about.zones.length ? `(${about.zones.length})` : "";
  if ($("zones").contains(document.activeElement) && document.activeElement.tagName === "INPUT") return;
  $("zones").replaceChildren(...about.zones.map(zoneRow));
  showZoneCounts();
}

function zoneRow(zone, index) {
  const row = document.createElement("li"), name = document.createElement("input"), counts = document.createElement("span"), remove = document.createElement("button");
  Object.assign(name, { value: zone.name, maxLength: about.most_name });
  name.setAttribute("aria-label", `Name of the ${zone.kind}`);
  name.onchange = () => { name.blur(); setZones(about.zones.map((one, i) => (i === index ? { ...one, name: name.value.trim() || one.name } : one))); };
  counts.className = "counts";
  Object.assign(remove, { type: "button", textContent: "Remove" });
  remove.setAttribute("aria-label", `Remove ${zone.name}`);
  remove.onclick = () => setZones(about.zones.filter((_, i) => i !== index));
  row.append(zone.kind, name, counts, remove);
  return row;
}

function showZoneCounts() {
  document.querySelectorAll("#zones .counts").forEach((span, i) => { span.textContent = about.zones[i] ? countsText(about.zones[i].name) : ""; });
}

function setZones(zones) { send("zones", zones.map(({ name, kind, points }) => ({ name, kind, points }))); }

function draw(kind) {
  Object.assign(drawing, { kind: drawing.kind === kind ? null : kind, points: [], cross: [0.5, 0.5], isCrossShown: false });
  if (drawing.kind) $("zones-box").open = true;
  // Pictures that the device draws may have two frames side by side: no place to draw in.
  if (drawing.kind && isDrawnOnDevice()) $("drawn").click();
  showDrawing();
  if (drawing.kind) $("slim").focus({ preventScroll: true });
}

function showDrawing() {
  const { kind, points } = drawing;
  $("add-line").setAttribute("aria-pressed", String(kind === "line"));
  $("add-zone").setAttribute("aria-pressed", String(kind === "zone"));
  $("finish").hidden = kind !== "zone" || points.length < 3;
  $("undo-point").hidden = points.length === 0 || !kind;
  $("cancel").hidden = $("drawing-hint").hidden = !kind;
  $("drawing-hint").textContent = kind === "line" ? `Point ${points.length + 1} of 2: click, or arrows and Space.` : `${points.length} points: click, or arrows and Space; Enter finishes.`;
  $("slim").parentElement.classList.toggle("drawing", Boolean(kind));
  render();
}

function addPoint(point) {
  drawing.points.push(point.map((value) => Math.min(1, Math.max(0, Number(value.toFixed(4))))));
  if (drawing.kind === "line" && drawing.points.length === 2) finish(); else showDrawing();
}

function finish() {
  const { kind, points } = drawing, taken = new Set(about.zones.map((zone) => zone.name));
  if (points.length < (kind === "line" ? 2 : 3)) return;
  let count = 1;
  while (taken.has(`${kind} ${count}`)) count++;
  setZones([...about.zones, { name: `${kind} ${count}`, kind, points }]);
  draw(kind);
}

function pointOf(event) {
  // The picture fills the canvas but for bars at its sides or above and below (object-fit: contain).
  const canvas = $("slim"), box = canvas.getBoundingClientRect();
  const scale = Math.min(box.width / canvas.width, box.height / canvas.height);
  const [width, height] = [canvas.width * scale, canvas.height * scale];
  return [(event.clientX - box.left - (box.width - width) / 2) / width, (event.clientY - box.top - (box.height - height) / 2) / height];
}

function moveCross(dx, dy) {
  drawing.cross = [drawing.cross[0] + dx, drawing.cross[1] + dy].map((value) => Math.min(1, Math.max(0, value)));
  drawing.isCrossShown = true;
  render();
}

const drawingKeys = {
  ArrowLeft: () => moveCross(-CROSS_STEP, 0), ArrowRight: () => moveCross(CROSS_STEP, 0),
  ArrowUp: () => moveCross(0, -CROSS_STEP), ArrowDown: () => moveCross(0, CROSS_STEP),
  " ": () => addPoint(drawing.cross), Enter: finish, Escape: () => draw(drawing.kind),
  Backspace: () => { drawing.points.pop(); showDrawing(); },
};

const keys = {
  p: () => $("pause").click(), s: () => $("snapshot").click(), c: () => { if (about.has_clips) $("clip").click(); },
  b: () => $("drawn").click(), d: () => { if (!$("beside-label").hidden) $("beside").click(); },
  l: () => draw("line"), z: () => draw("zone"),
  "+": () => setConf(Number($("conf").value) + 0.05), "-": () => setConf(Number($("conf").value) - 0.05),
  "?": () => $("help").showModal(),
};

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  const target = event.target, isText = target.tagName === "INPUT" && !["checkbox", "range"].includes(target.type);
  // Space and Enter on a button are the button's own.
  const isOwn = isText || ([" ", "Enter"].includes(event.key) && target.closest("button, a, summary, input"));
  const isSlider = target.type === "range" && event.key.startsWith("Arrow");
  const act = isOwn || isSlider ? null : (drawing.kind && drawingKeys[event.key]) || keys[event.key];
  if (act) { event.preventDefault(); act(); }
}

function listen() {
  $("conf").oninput = () => setConf(Number($("conf").value));
  $("pause").onclick = () => send("paused", !about.paused);
  $("clip").onclick = getClip;
  $("drawn").onchange = () => { watch(); showLayout(); };
  $("beside").onchange = () => { showLayout(); render(); };
  $("all-classes").onclick = () => send("classes", null);
  $("no-classes").onclick = () => send("classes", []);
  $("add-line").onclick = () => draw("line");
  $("add-zone").onclick = () => draw("zone");
  $("undo-point").onclick = drawingKeys.Backspace;
  $("finish").onclick = finish;
  $("cancel").onclick = drawingKeys.Escape;
  $("help-button").onclick = keys["?"];
  $("slim").addEventListener("pointerdown", (event) => { if (drawing.kind) { event.preventDefault(); addPoint(pointOf(event)); } });
  document.addEventListener("keydown", pressed);
}

listen();
connect();
setInterval(() => { showAge(); showSeen(); }, 250);
