// Fetches frames and prepares them for display, off the page's thread.

import { localContrast, prepare, sample } from "./image.js";

const ARRAYS = { uint8: Uint8Array, uint16: Uint16Array, float32: Float32Array };
const running = new Map(); // fetches that may be given up

async function pixels(frame, token, signal) {
  let response;
  try {
    response = await fetch(`/api/frames/${frame}/pixels`, { headers: { "X-Token": token }, signal });
    if (!response.ok) return { error: { status: response.status, content: await response.json().catch(() => ({})) } };
    const kind = response.headers.get("X-Type");
    const [least, most] = response.headers.get("X-Ends").match(/[^\s,[\]]+/g).map(Number);
    const sizes = response.headers.get("X-Levels").split(" ").map((size) => size.split("x").map(Number));
    return { image: { kind, least, most, ...leveled(kind, sizes, await response.arrayBuffer()) } };
  } catch (error) {
    return { error: { status: 0, content: { error: signal.aborted ? "given up" : undefined } } };
  }
}

// The levels of a frame, one after another in the buffer; the first one is the frame.
function leveled(kind, sizes, buffer) {
  let start = 0;
  const levels = sizes.map(([width, height]) => {
    const counts = new ARRAYS[kind](buffer, start, width * height);
    start += counts.byteLength;
    return { width, height, counts };
  });
  return { ...levels[0], levels, sorted: sample(levels[0].counts) };
}

addEventListener("message", async ({ data: { ticket, cancel, frame, token, image } }) => {
  if (cancel) {
    running.get(cancel)?.abort();
    return;
  }
  let answer;
  if (image) answer = { image: prepare(localContrast(image)) };
  else {
    running.set(ticket, new AbortController());
    answer = await pixels(frame, token, running.get(ticket).signal);
    running.delete(ticket);
  }
  const { levels = [], sorted } = answer.image ?? {};
  const buffers = new Set(levels.map((level) => level.counts.buffer));
  if (sorted) buffers.add(sorted.buffer);
  postMessage({ ticket, ...answer }, [...buffers]);
});
