// Frames of the project: fetched and prepared by a worker, a few neighbours ahead.

import * as api from "./api.js";

const KEPT_BYTES = 400e6; // of prepared frames
const FEWEST = 4;

const worker = new Worker("worker.js", { type: "module" });
const waiting = new Map();
let tickets = 0;

worker.addEventListener("message", ({ data: { ticket, image, error } }) => {
  const { resolve, reject } = waiting.get(ticket);
  waiting.delete(ticket);
  if (image) resolve(image);
  else reject(new api.ApiError(error.status, error.content));
});

function ask(message) {
  tickets += 1;
  const ticket = tickets;
  const answer = new Promise((resolve, reject) => waiting.set(ticket, { resolve, reject }));
  worker.postMessage({ ticket, ...message });
  return { ticket, answer };
}

// The frame in local contrast, made when it is first asked for.
export function contrast(image) {
  const { kind, width, height, counts } = image;
  image.contrast ??= ask({ image: { kind, width, height, counts } }).answer;
  return image.contrast;
}

const ahead = new Map(); // id -> { info, image, ticket }; in the order of their use

// The labels and the prepared counts of a frame, as two promises.
export function load(id) {
  let entry = ahead.get(id);
  if (entry) ahead.delete(id);
  else {
    const { ticket, answer } = ask({ frame: id, token: api.token });
    entry = { ticket, image: answer, info: null, bytes: 0 };
    entry.image.then(({ counts }) => { entry.bytes = 1.4 * counts.byteLength; }, () => drop(id, entry));
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
