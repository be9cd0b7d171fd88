// Changes on their way to the server: one request at a time, the newest labels of each frame.

import * as api from "./api.js";

const changed = new Map(); // frame id -> labels that are not stored yet
const versions = new Map(); // frame id -> version that the server stored last
let work = null;
let report = { state: () => {}, stored: () => {}, failed: () => {} };

// state(text): "saving …", "saved" or "NOT saved". stored(id, sent, stored), failed(id, error): of a frame.
export function reportTo(callbacks) {
  report = callbacks;
}

export function save(id, labels) {
  changed.set(id, labels);
  report.state("saving …");
  work ??= run();
}

// Whether labels of a frame are not stored yet.
export const has = (id) => changed.has(id);

export const isIdle = () => !changed.size;

export async function settled() {
  while (work) await work;
}

// Send the labels of a frame again, made on this version.
export function retry(id, version) {
  if (version !== undefined) versions.set(id, version);
  if (changed.has(id)) save(id, changed.get(id));
}

export function giveUp(id) {
  changed.delete(id);
  versions.delete(id);
  if (!changed.size) report.state("saved");
}

// A frame was read from the server: its version counts from here.
export function known(id, version) {
  if (!changed.has(id)) versions.set(id, version);
}

async function run() {
  const refused = new Set();
  for (;;) {
    const id = [...changed.keys()].find((each) => !refused.has(each));
    if (id === undefined) break;
    const labels = changed.get(id);
    try {
      const stored = await api.put(`frames/${id}`, { ...labels, version: versions.get(id) ?? labels.version });
      versions.set(id, stored.version);
      if (changed.get(id) === labels) changed.delete(id);
      report.stored(id, labels, stored);
    } catch (error) {
      refused.add(id);
      report.failed(id, error);
    }
  }
  work = null;
  report.state(changed.size ? "NOT saved" : "saved");
}
