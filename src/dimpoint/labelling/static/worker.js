// Fetches frames and prepares them for display, off the page's thread.

import { localContrast, prepare } from "./image.js";

const ARRAYS = { uint8: Uint8Array, uint16: Uint16Array, float32: Float32Array };
const running = new Map(); // fetches that may be given up

async function pixels(frame, token, signal) {
  let response;
  try {
    response = await fetch(`/api/frames/${frame}/pixels`, { headers: { "X-Token": token }, signal });
    if (!response.ok) return { error: { status: response.status, content: await response.json().catch(() => ({})) } };
    const kind = response.headers.get("X-Type");
    const counts = new ARRAYS[kind](await response.arrayBuffer());
    const [width, height] = ["X-Width", "X-Height"].map((key) => Number(response.headers.get(key)));
    return { image: prepare({ kind, width, height, counts }) };
  } catch (error) {
    return { error: { status: 0, content: { error: signal.aborted ? "given up" : undefined } } };
  }
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
  const buffers = answer.image ? [...answer.image.levels.map((level) => level.counts.buffer), answer.image.sorted.buffer] : [];
  postMessage({ ticket, ...answer }, buffers);
});
