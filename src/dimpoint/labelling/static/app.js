// The page: one frame at a time, its labels, and what keys and mouse do to them.

import * as api from "./api.js";
import * as carrying from "./carry.js";
import { importFiles, showHistory, showLabels, showMistakes } from "./dialogs.js";
import { Display } from "./display.js";
import * as frames from "./frames.js";
import { Rows } from "./rows.js";
import * as saving from "./saving.js";
import { Training } from "./training.js";
import { View } from "./view.js";

const element = (id) => document.getElementById(id);
const NEAR = 9; // screen pixels within which a click takes hold of a point

const state = {
  info: null, frame: null, labels: null, image: null, proposals: [], undo: [], redo: [], selected: -1, region: false,
  loading: 0,
};
const view = new View(element("view"), element("loupe"));
const display = new Display(view);
const rows = new Rows(element("rows"), element("rows-inner"), (id) => open(id));
const training = new Training((model) => {
  state.info = { ...state.info, ...model };
  showModel();
  loadProposals.again = true;
  loadProposals();
}, show);

// Open a frame and look at a place in it.
async function show({ frame, x, y }) {
  await open(frame);
  if (state.frame?.id !== frame || !state.image) return;
  element("view").focus(); // keys act on the frame
  select(state.labels.points.findIndex((point) => distance(point, { x, y }) < 1));
  view.look({ x, y });
}

// ---- Frames

async function open(id) {
  if (!id) return;
  const ticket = (state.loading += 1);
  if (saving.has(id)) await saving.settled(); // back before it was stored
  const readBefore = frames.has(id);
  let frame, image, shown;
  try {
    const entry = frames.load(id);
    frames.only((other) => Math.abs(other - id) <= 2); // the rest can wait
    const counts = entry.whole ?? (element("local").checked ? entry.image : entry.early);
    [frame, image] = await Promise.all([entry.info, counts]);
    shown = await display.of(image);
  } catch (error) {
    if (ticket !== state.loading) return;
    if (error.status === 410) await skipUnreadable(id, error);
    else warn(error.message);
    return;
  }
  if (ticket !== state.loading) return;
  const kept = state.image && state.image.kind === image.kind && state.image.width === image.width && view.moved;
  Object.assign(state, { frame, image, labels: frame.labels, undo: [], redo: [], selected: -1, proposals: [] });
  saving.known(id, frame.labels.version);
  element("banner").hidden = true;
  element("strip").replaceChildren();
  display.show(shown);
  if (!kept) view.fit();
  view.cursor = null;
  element("name").textContent = `${frame.name}  ·  ${image.width} × ${image.height}  ${image.kind}`;
  rows.show(id);
  refresh();
  loadProposals();
  if (readBefore) renew(id);
  if (!image.counts) sharpen(frames.load(id), ticket);
  readAhead(ticket); // at once: the server reads while this page receives
}

// The rest of a frame that is on the screen already.
async function sharpen(entry, ticket) {
  try {
    const image = await entry.image, local = element("local").checked, shown = await display.of(image);
    if (ticket !== state.loading) return;
    state.image = image;
    if (local) display.show(shown);
    else display.sharpen(shown);
  } catch (error) {
    if (ticket === state.loading) warn(error.message);
  }
}

// Labels may have changed elsewhere since the frame was read ahead. A change made here in the meantime goes
// to the server as it is, and is refused there if it was made on an older version.
async function renew(id) {
  const frame = await frames.renew(id).catch(() => null);
  if (!frame || state.frame.id !== id || frame.labels.version === state.labels.version) return;
  if (state.undo.length || saving.has(id)) return;
  state.labels = frame.labels;
  saving.known(id, frame.labels.version);
  refresh();
}

// The neighbours one after another, the next one in the chosen order first.
async function readAhead(ticket) {
  const { next: after, previous } = state.frame;
  const following = await next.id().catch(() => null);
  for (const id of new Set([following, after, previous])) {
    if (ticket !== state.loading) return;
    if (!id) continue;
    const { info, image } = frames.load(id);
    const [read, counts] = await Promise.all([info, image]).catch(() => []);
    if (!counts || ticket !== state.loading) continue;
    await display.of(counts);
    if (id === after && order() === "sequence" && read.next) frames.load(read.next);
  }
}

async function skipUnreadable(id, error) {
  const frame = await frames.renew(id).catch(() => null);
  if (!frame) return warn(error.message);
  Object.assign(state, { frame, labels: frame.labels, image: null, proposals: [], undo: [], redo: [], selected: -1 });
  display.show(null);
  element("name").textContent = frame.name;
  rows.show(id);
  refresh();
  warn(error.message, frame.next ? [["Next frame", () => open(frame.next)]] : []);
}

const order = () => element("order").value;

async function next() {
  let id = await next.id().catch((error) => warn(error.message) ?? null);
  if (id && id === state.frame?.id && order() !== "sequence") {
    await saving.settled(); // it was asked for before this frame had its answer
    next.known = null;
    id = await next.id().catch(() => null);
  }
  if (id && id !== state.frame?.id) await open(id);
  else warn(order() === "sequence" ? "This is the last frame." : "No other frame without a label is left.");
}

// The frame that follows in the chosen order; asked for ahead and kept.
next.id = async () => {
  const from = state.frame?.id ?? 0;
  if (order() === "sequence") return state.frame?.next ?? null;
  if (next.known?.from !== from || next.known.order !== order()) {
    const answer = api.get(`next?order=${order()}&after=${from}`).then(({ id }) => id);
    next.known = { from, order: order(), answer };
    answer.catch(() => { next.known = null; });
  }
  return next.known.answer;
};

// Proposals of the frame on the screen: one request at a time, frames that were left meanwhile are passed over.
async function loadProposals() {
  if (loadProposals.busy || !state.image) return;
  loadProposals.busy = true;
  let id = null;
  while (state.image && (id !== state.frame.id || loadProposals.again)) {
    ({ id } = state.frame);
    loadProposals.again = false;
    try {
      const found = await api.get(`frames/${id}/proposals`);
      if (state.frame.id === id) state.proposals = found;
      refresh();
    } catch (error) {
      if (error.status !== 410) warn(error.message);
    }
  }
  loadProposals.busy = false;
}

// ---- Labels

function change(parts, { remember = true } = {}) {
  if (!state.image) return;
  if (remember) {
    state.undo.push(content(state.labels));
    state.redo = [];
  }
  state.labels = { ...state.labels, ...parts, author: element("author").value };
  if (state.labels.points.length) state.labels.status = "targets";
  else if (state.labels.status === "targets") state.labels.status = "unlabelled";
  refresh();
  save();
}

const content = ({ points, regions, rejected, status }) => ({ points, regions, rejected, status });

function step(from, to) {
  if (!from.length) return;
  to.push(content(state.labels));
  state.selected = -1;
  change(from.pop(), { remember: false });
}

// Changes go to the server one after another; the page does not wait for them.
function save() {
  saving.save(state.frame.id, { ...state.labels, author: element("author").value });
}

saving.reportTo({
  state(text) {
    element("saved").textContent = text;
    element("saved").classList.toggle("bad", text === "NOT saved");
  },
  stored(id, sent, stored) {
    if (id === state.frame?.id) state.labels.version = stored.version;
    frames.relabel(id, stored);
    rows.update(id, stored);
    count();
  },
  failed(id, error) {
    if (error.status === 409) conflict(id, error);
    else warn(`Not saved: ${error.message}`, [["Try again", () => saving.retry(id)]]);
  },
});

function conflict(id, { message, content: { current } }) {
  const here = id === state.frame?.id;
  const theirs = () => {
    saving.giveUp(id);
    frames.relabel(id, current);
    rows.update(id, current);
    if (id !== state.frame?.id) return;
    Object.assign(state, { labels: current, undo: [], redo: [], selected: -1 });
    saving.known(id, current.version);
    refresh();
  };
  const mine = () => saving.retry(id, current.version);
  const what = ({ status, points }) => (status === "targets" ? `${points.length} target${points.length === 1 ? "" : "s"}` : status);
  const where = here ? "" : ` in ${rows.name(id) ?? `frame ${id}`}`;
  warn(`Conflict${where}: ${message} (theirs: ${what(current)}).`, [["Load theirs", theirs], ["Keep mine", mine]]);
}

let counting = null;
function count() {
  clearTimeout(counting);
  counting = setTimeout(async () => {
    state.info = await api.get("project").catch(() => state.info);
    showProgress();
  }, 300);
}

// After an import: every row and the present frame may have changed.
async function refreshAll() {
  frames.renewAll();
  next.known = null;
  rows.forget();
  count();
  if (state.frame) await open(state.frame.id);
}

async function addPoint({ x, y }) {
  const inside = x >= -0.5 && y >= -0.5 && x <= state.image.width - 0.5 && y <= state.image.height - 0.5;
  if (!inside) return;
  const id = state.frame.id;
  const point = [round(x), round(y)];
  change({ points: [...state.labels.points, point] });
  select(state.labels.points.length - 1);
  if (!element("snap").checked) return;
  const dark = element("invert").checked ? 1 : 0;
  const found = await api.get(`frames/${id}/snap?x=${x}&y=${y}&dark=${dark}`).catch(() => null);
  if (!found || id !== state.frame.id) return;
  const index = state.labels.points.indexOf(point);
  if (index >= 0) change({ points: state.labels.points.with(index, [round(found.x), round(found.y)]) }, { remember: false });
}

const round = (value) => Math.round(value * 100) / 100;

function select(index) {
  state.selected = index;
  const point = state.labels.points[index];
  if (point) view.cursor = { x: point[0], y: point[1] };
  refresh();
}

function movePoint(dx, dy) {
  const clamp = (value, size) => Math.min(Math.max(round(value), -0.5), size - 0.5);
  const [x, y] = state.labels.points[state.selected];
  const moved = [clamp(x + dx, state.image.width), clamp(y + dy, state.image.height)];
  change({ points: state.labels.points.with(state.selected, moved) });
  select(state.selected);
}

function removePoint(index = state.selected) {
  if (index < 0) return;
  const points = state.labels.points.filter((_, each) => each !== index);
  state.selected = -1;
  change({ points });
}

const distance = ([x, y], other) => Math.hypot(x - other.x, y - other.y);

// Proposals above the slider that are not labelled or rejected already.
function open_proposals() {
  const least = Number(element("score").value);
  const known = [...(state.labels?.points ?? []), ...(state.labels?.rejected ?? [])];
  return state.proposals.filter((each) => each.score > least && !known.some((point) => distance(point, each) < 4));
}

function accept() {
  const found = open_proposals();
  if (found.length) change({ points: [...state.labels.points, ...found.map(({ x, y }) => [round(x), round(y)])] });
}

function reject() {
  const found = open_proposals();
  if (!found.length) return;
  const at = view.cursor ?? found[0];
  const nearest = found.reduce((a, b) => (distance([a.x, a.y], at) <= distance([b.x, b.y], at) ? a : b));
  change({ rejected: [...state.labels.rejected, [round(nearest.x), round(nearest.y)]] });
}

async function carry() {
  const point = state.labels.points[state.selected] ?? state.labels.points[0];
  if (!point) return warn("Select a point to carry through the next frames.");
  await saving.settled();
  const from = state.frame.id, [x, y] = point;
  const body = { x, y, frames: Number(element("carry-frames").value), dark: element("invert").checked };
  const steps = await carrying.follow(from, body).catch((error) => warn(error.message) ?? []);
  if (state.frame.id !== from) return null;
  if (!steps.length) return warn("The point could not be followed into the next frame.");
  await carrying.strip(steps, display.tone(), acceptTrack);
  return warn(`Followed through ${steps.length} frames. Check the strip; click the last good picture, or:`, [
    ["Accept all", () => acceptTrack(steps)],
  ], () => element("strip").replaceChildren());
}

async function acceptTrack(steps) {
  element("strip").replaceChildren();
  next.known = null;
  const told = (id, stored) => {
    frames.relabel(id, stored);
    rows.update(id, stored);
  };
  try {
    const done = await carrying.accept(steps, element("author").value, told);
    warn(`${api.counted(done, "frame")} labelled.`, [["Go to the last", () => open(steps.at(-1).frame)]]);
  } catch (error) {
    warn(`Not every frame got the point: ${error.message}`);
  }
  count();
}

// ---- What the page says

// actions: [text, work] of each button; closed: done by the button that closes it
function warn(text, actions = [], closed = () => {}) {
  const buttons = [...actions, ["Close", closed]].map(([label, act]) => {
    const button = document.createElement("button");
    button.textContent = label;
    button.addEventListener("click", () => {
      element("banner").hidden = true;
      act();
    });
    return button;
  });
  const span = document.createElement("span");
  span.textContent = text;
  element("banner").replaceChildren(span, ...buttons);
  element("banner").hidden = false;
}

function refresh() {
  const { labels } = state;
  if (!labels) return;
  const found = open_proposals();
  Object.assign(view.marks, {
    points: labels.points.map(([x, y]) => ({ x, y })),
    rejected: labels.rejected.map(([x, y]) => ({ x, y })),
    regions: labels.regions,
    proposals: found,
    selected: state.selected,
  });
  const texts = {
    unlabelled: "No answer yet. Click a target, accept proposals, or press “No target here”.", targets: `${labels.points.length} target${labels.points.length === 1 ? "" : "s"}.`,
    empty: "No target in this frame.", unsure: "Marked as unsure; not used for training.",
  };
  element("status").textContent = texts[labels.status] + (labels.author ? `  (${labels.author})` : "");
  element("none").classList.toggle("on", labels.status === "empty");
  element("unsure").classList.toggle("on", labels.status === "unsure");
  element("region").classList.toggle("on", state.region);
  element("undo").disabled = !state.undo.length;
  element("redo").disabled = !state.redo.length;
  element("proposal-count").textContent = found.length ? `(${found.length})` : "";
  element("score-text").textContent = Number(element("score").value).toFixed(2);
  element("points").replaceChildren(...labels.points.map(pointItem));
  view.draw();
}

function pointItem([x, y], index) {
  const item = document.createElement("li");
  item.className = index === state.selected ? "selected" : "";
  const text = document.createElement("span"), button = document.createElement("button");
  text.textContent = `${x.toFixed(2)}, ${y.toFixed(2)}`;
  button.textContent = "✕";
  button.title = "Delete";
  item.append(text, button);
  item.addEventListener("click", () => select(index));
  button.addEventListener("click", (event) => {
    event.stopPropagation();
    removePoint(index);
  });
  return item;
}

function showProgress() {
  const { all, targets, empty, unsure } = state.info.counts;
  element("project").textContent = state.info.name;
  element("progress").textContent = `${targets + empty} of ${all} labelled${unsure ? `, ${unsure} unsure` : ""}`;
}

function showModel() {
  element("model").textContent = `from ${state.info.model}`;
  element("score").value = state.info.threshold;
}

// ---- Mouse

const canvas = element("view");
let hold = null;

canvas.addEventListener("pointermove", (event) => {
  if (!state.image) return;
  const at = view.toFrame(event.offsetX, event.offsetY);
  if (hold) drag(event, at);
  else view.cursor = at;
  const x = Math.round(at.x), y = Math.round(at.y);
  const inside = x >= 0 && y >= 0 && x < state.image.width && y < state.image.height;
  const count = state.image.counts?.[y * state.image.width + x] ?? "";
  element("cursor").textContent = inside ? `x ${x}  y ${y}  count ${count}` : "";
  view.draw();
});

canvas.addEventListener("pointerdown", (event) => {
  if (!state.image) return;
  canvas.focus();
  canvas.setPointerCapture(event.pointerId);
  const at = view.toFrame(event.offsetX, event.offsetY);
  const base = { x: event.offsetX, y: event.offsetY, at, low: display.low, high: display.high };
  if (event.button === 1 || event.shiftKey) hold = { ...base, kind: "pan" };
  else if (event.button === 2) hold = { ...base, kind: "window" };
  else if (state.region) hold = { ...base, kind: "region" };
  else {
    const index = state.labels.points.findIndex((point) => distance(point, at) * view.scale < NEAR);
    hold = index >= 0 ? { ...base, kind: "point", before: content(state.labels), moved: false } : { ...base, kind: "click" };
    if (index >= 0) select(index);
  }
  event.preventDefault();
});

function drag(event, at) {
  const dx = event.offsetX - hold.x, dy = event.offsetY - hold.y;
  if (hold.kind === "pan") {
    view.pan(event.movementX, event.movementY);
  } else if (hold.kind === "window") {
    const span = hold.high - hold.low, level = (hold.high + hold.low) / 2 - (dy / 300) * span;
    const half = (span / 2) * Math.exp(dx / 250);
    display.window(level - half, level + half);
  } else if (hold.kind === "region") {
    const clampX = (x) => Math.min(Math.max(x, -0.5), state.image.width - 0.5);
    const clampY = (y) => Math.min(Math.max(y, -0.5), state.image.height - 0.5);
    const [a, b] = [hold.at, at];
    view.marks.drag = [clampX(Math.min(a.x, b.x)), clampY(Math.min(a.y, b.y)), clampX(Math.max(a.x, b.x)), clampY(Math.max(a.y, b.y))];
  } else if (hold.kind === "point" && Math.hypot(dx, dy) > 2) {
    hold.moved = true;
    view.marks.points[state.selected] = at;
  }
}

canvas.addEventListener("pointerup", (event) => {
  if (!hold) return;
  const { kind, x, y, moved } = hold;
  const at = view.toFrame(event.offsetX, event.offsetY);
  hold = null;
  if (kind === "click" && Math.hypot(event.offsetX - x, event.offsetY - y) < 4) addPoint(at);
  else if (kind === "point" && moved) {
    const [px, py] = state.labels.points[state.selected];
    movePoint(at.x - px, at.y - py);
  } else if (kind === "region" && view.marks.drag) {
    const [left, top, right, bottom] = view.marks.drag.map(round);
    view.marks.drag = null;
    state.region = false;
    if (right - left >= 1 && bottom - top >= 1) change({ regions: [...state.labels.regions, [left, top, right, bottom]] });
    refresh();
  }
});

canvas.addEventListener("contextmenu", (event) => event.preventDefault());
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  view.zoom(Math.exp(-event.deltaY / 400), event.offsetX, event.offsetY);
}, { passive: false });

// ---- Keyboard

function moveCursor(dx, dy) {
  const { width, height } = state.image;
  const at = view.cursor ?? { x: width / 2, y: height / 2 };
  const clamp = (value, size) => Math.min(Math.max(Math.round(10 * value) / 10, 0), size - 1);
  view.cursor = { x: clamp(at.x + dx, width), y: clamp(at.y + dy, height) };
  view.draw();
}

function arrow(dx, dy) {
  return (event) => {
    const size = event.shiftKey ? 0.1 : event.altKey ? 10 : 1;
    if (state.selected >= 0) movePoint(dx * size, dy * size);
    else moveCursor(dx * size, dy * size);
  };
}

function selectNext() {
  const { length } = state.labels.points;
  select(length ? (state.selected + 1) % length : -1);
}

const toggle = (id) => () => {
  element(id).checked = !element(id).checked;
  element(id).dispatchEvent(new Event("change"));
};

async function flicker(key) {
  const id = key === "," ? state.frame.previous : state.frame.next;
  if (!id || !state.image) return;
  flicker.held = key;
  const image = await frames.load(id).image.catch(() => null);
  const shown = image && image.width === state.image.width && (await display.of(image));
  if (shown && flicker.held === key) display.peek(shown);
}

// key, what it does, the work; the table of the help is made from it
const KEYS = [
  ["n", "next frame, in the chosen order", next],
  ["p", "previous frame", () => open(state.frame.previous)],
  ["e", "no target in this frame", () => change({ points: [], status: "empty" })],
  ["u", "unsure", () => change({ points: [], status: "unsure" })],
  ["ArrowUp", "move the selected point or the cross-hair by 1 px; with Shift 0.1 px, with Alt 10 px", arrow(0, -1)],
  ["ArrowDown", "", arrow(0, 1)],
  ["ArrowLeft", "", arrow(-1, 0)],
  ["ArrowRight", "", arrow(1, 0)],
  ["Enter", "set a target at the cross-hair", () => addPoint(view.cursor ?? { x: state.image.width / 2, y: state.image.height / 2 })],
  ["Tab", "select the next point", selectNext],
  ["Escape", "select nothing", () => { state.region = false; select(-1); }],
  ["Delete", "delete the selected point", () => removePoint()],
  ["Backspace", "", () => removePoint()],
  ["a", "accept all proposals", accept],
  ["x", "reject the proposal next to the cross-hair", reject],
  ["r", "draw an ignore region", () => { state.region = !state.region; refresh(); }],
  ["c", "carry the selected point through the next frames", carry],
  [",", "hold: see the previous frame", () => flicker(",")],
  [".", "hold: see the next frame", () => flicker(".")],
  ["s", "snap to blobs on or off", toggle("snap")],
  ["i", "invert", toggle("invert")],
  ["l", "local contrast", toggle("local")],
  ["m", "false colours", toggle("colour")],
  ["w", "window from the frame's percentiles", () => display.auto()],
  ["[", "narrower window", () => display.wider(0.8)],
  ["]", "wider window", () => display.wider(1.25)],
  ["+", "zoom in", () => view.zoom(1.25)],
  ["-", "zoom out", () => view.zoom(0.8)],
  ["0", "whole frame", () => { view.fit(); view.draw(); }],
  ["g", "mistakes: where the model and the labels differ", () => mistakes(state.info.report ? "report" : "model")],
  ["h", "history of this frame's labels", history],
  ["t", "train", () => training.open(state.info)],
  ["?", "show these keys", () => element("help").showModal()],
];
const ACTIONS = Object.fromEntries(KEYS.map(([key, , act]) => [key, act]));

document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]") || event.target.matches("input:not([type=checkbox]):not([type=range]), select")) return;
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") {
    event.preventDefault();
    const back = event.shiftKey ? [state.redo, state.undo] : [state.undo, state.redo];
    if (state.labels) inTurn(() => step(...back), false);
    return;
  }
  if (event.ctrlKey || event.metaKey) return;
  if (event.target.matches("button") && (event.key === "Enter" || event.key === "Tab" || event.key === " ")) return;
  const act = ACTIONS[event.key] ?? ACTIONS[event.key.toLowerCase()];
  if (!act || !state.frame) return;
  event.preventDefault();
  inTurn(() => (state.image || ["n", "p", "?"].includes(event.key) ? act(event) : null), "np".includes(event.key));
});

// Keys pressed while another frame is on its way are meant for that frame: they wait for it.
let moving = null;
function inTurn(work, moves) {
  const act = () => {
    const done = work();
    return moves ? done : null;
  };
  if (!moving && !moves) return void act();
  const mine = (moving ? moving.then(act) : Promise.resolve(act())).catch(() => {});
  moving = mine;
  mine.then(() => { if (moving === mine) moving = null; });
  return undefined;
}
document.addEventListener("keyup", (event) => {
  if (event.key !== flicker.held) return;
  flicker.held = null;
  display.redraw();
});

async function mistakes(from) {
  await saving.settled();
  showMistakes(state.info.model, show, from);
}

async function history() {
  await saving.settled();
  const restore = ({ points, regions, rejected, status }) => change({ points, regions, rejected, status });
  await showHistory(state.frame.id, restore).catch((error) => warn(error.message));
}

// ---- Buttons

const click = (id, act) => element(id).addEventListener("click", act);
click("none", ACTIONS.e);
click("unsure", ACTIONS.u);
click("region", ACTIONS.r);
click("undo", () => step(state.undo, state.redo));
click("redo", () => step(state.redo, state.undo));
click("accept", accept);
click("reject", reject);
click("carry", carry);
click("help-open", ACTIONS["?"]);
click("train-open", ACTIONS.t);
click("mistakes-open", ACTIONS.g);
click("history-open", history);
click("mistakes-report", () => mistakes("report"));
click("mistakes-model", () => mistakes("model"));
click("labels-open", async () => {
  await saving.settled();
  showLabels();
});
click("export", async () => {
  await saving.settled();
  const format = element("export-format").value;
  try {
    const lost = await api.download(`export?format=${format}`);
    if (lost) warn(`Ignore regions left out: ${lost}. The format ${format} has none, so their pixels are background.`);
  } catch (error) {
    warn(error.message);
  }
});
element("import-files").addEventListener("change", async ({ target }) => {
  await importFiles([...target.files], element("author").value, refreshAll);
  target.value = "";
});
element("local").addEventListener("change", async () => {
  const { image } = state, shown = image?.counts && (await display.of(image)); // else it is on its way
  if (shown && image === state.image) display.show(shown);
});
element("order").addEventListener("change", () => state.frame && readAhead(state.loading));
element("score").addEventListener("input", refresh);
element("author").value = localStorage.getItem("author") ?? "";
element("author").addEventListener("change", () => localStorage.setItem("author", element("author").value));

const names = { ArrowUp: "arrows", Escape: "Esc", Delete: "Del" };
for (const [key, text] of KEYS) {
  if (!text) continue;
  const row = element("keys").insertRow();
  const kbd = document.createElement("kbd");
  kbd.textContent = names[key] ?? key;
  row.insertCell().append(kbd);
  row.insertCell().textContent = text;
}
const row = element("keys").insertRow();
row.insertCell().innerHTML = "<kbd>Ctrl+Z</kbd>";
row.insertCell().textContent = "undo; with Shift redo";

window.addEventListener("beforeunload", (event) => {
  if (!saving.isIdle()) event.preventDefault();
});

async function start() {
  try {
    state.info = await api.get("project");
  } catch (error) {
    warn(error.message);
    return;
  }
  showProgress();
  showModel();
  rows.setTotal(state.info.counts.all);
  element("mistakes-of").hidden = !state.info.report;
  if (await goToHash()) return;
  const { id } = await api.get("next?order=unlabelled");
  await open(id ?? 1);
  if (state.info.report) mistakes("report");
}

// #frame=NAME&x=12&y=34, as in a link of a report: opens that place and says whether there is one.
async function goToHash() {
  const asked = new URLSearchParams(location.hash.slice(1));
  if (!asked.has("frame")) return false;
  const { id } = await api.get(`find?name=${encodeURIComponent(asked.get("frame"))}`);
  if (!id) {
    warn(`This project has no frame ${asked.get("frame")}.`);
    return false;
  }
  await show({ frame: id, x: Number(asked.get("x") ?? 0), y: Number(asked.get("y") ?? 0) });
  return true;
}

window.addEventListener("hashchange", goToHash);
start();
