// Frames of the project: fetched and prepared by a worker, a few neighbours ahead.

import * as api from "./api.js";

const KEPT_BYTES = 400e6; // of prepared frames
const FEWEST = 4;

const worker = new Worker("worker.js", { type: "module" });
const waiting = new Map();
let tickets = 0;

worker.addEventListener("message", ({ data: { ticket, early, image, error } }) => {
  const { resolve, reject, begin } = waiting.get(ticket);
  if (early) return begin(early);
  waiting.delete(ticket);
  return image ? resolve(image) : reject(new api.ApiError(error.status, error.content));
});

function ask(message) {
  tickets += 1;
  const ticket = tickets;
  const hands = {};
  const answer = new Promise((resolve, reject) => Object.assign(hands, { resolve, reject }));
  const begun = new Promise((begin) => Object.assign(hands, { begin }));
  waiting.set(ticket, hands);
  worker.postMessage({ ticket, ...message });
  return { ticket, answer, early: Promise.race([answer, begun]) };
}

// The frame in local contrast, made when it is first asked for.
export function contrast(image) {
  const { kind, width, height, counts } = image;
  image.contrast ??= ask({ image: { kind, width, height, counts } }).answer;
  return image.contrast;
}

const ahead = new Map(); // id -> { info, image, ticket }; in the order of their use

// The labels and the prepared counts of a frame, as promises `info` and `image`. `early` may be there sooner: the frame
// with its coarsest level alone. `whole`: the prepared counts, once they are here.
export function load(id) {
  let entry = ahead.get(id);
  if (entry) ahead.delete(id);
  else {
    const { ticket, answer, early } = ask({ frame: id, token: api.token });
    entry = { ticket, image: answer, early, info: null, whole: null, bytes: 0 };
    answer.then((image) => Object.assign(entry, { whole: image, bytes: 1.4 * image.counts.byteLength }), () => drop(id, entry));
    early.catch(() => drop(id, entry));
  }
  if (!entry.info) {
    entry.info = api.get(`frames/${id}`);
    entry.info.catch(() => drop(id, entry));
  }
  ahead.set(id, entry);
  shrink();
  return entry;
}

export function has(id) {
  return ahead.has(id);
}

function drop(id, entry) {
  if (ahead.get(id) === entry) ahead.delete(id);
}

function shrink() {
  let total = [...ahead.values()].reduce((sum, { bytes }) => sum + bytes, 0);
  for (const [id, { bytes }] of ahead) {
    if (ahead.size <= FEWEST || (total <= KEPT_BYTES && ahead.size <= 24)) return;
    total -= bytes;
    ahead.delete(id);
  }
}

// Give up what is still on its way and not wanted any more, so that the others come sooner.
export function only(wanted) {
  for (const [id, entry] of ahead) {
    if (wanted(id) || !waiting.has(entry.ticket)) continue;
    worker.postMessage({ cancel: entry.ticket });
    ahead.delete(id);
  }
}

// The frame has other labels now, as this page knows.
export function relabel(id, labels) {
  const entry = ahead.get(id);
  if (entry) entry.info = entry.info?.then((info) => ({ ...info, labels }));
}

// Labels may have changed elsewhere: they are asked for again, the counts stay.
export function renew(id) {
  const entry = ahead.get(id);
  if (entry) entry.info = null;
  return load(id).info;
}

export function renewAll() {
  for (const entry of ahead.values()) entry.info = null;
}
