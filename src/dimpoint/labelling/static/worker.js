// Fetches frames and prepares them for display, off the page's thread.

import { localContrast, prepare } from "./image.js";

const ARRAYS = { uint8: Uint8Array, uint16: Uint16Array, float32: Float32Array };
const running = new Map(); // fetches that may be given up

// early: told of a large frame that has its coarsest level, before the others are here.
async function pixels(frame, token, signal, early) {
  let response;
  try {
    response = await fetch(`/api/frames/${frame}/pixels`, { headers: { "X-Token": token }, signal });
    if (!response.ok) return { error: { status: response.status, content: await response.json().catch(() => ({})) } };
    const kind = response.headers.get("X-Type");
    const [least, most] = response.headers.get("X-Ends").match(/[^\s,[\]]+/g).map(Number);
    const sizes = response.headers.get("X-Levels").split(" ").map((size) => size.split("x").map(Number));
    const number = Number(response.headers.get("X-Sample"));
    const ends = sizes.reduce((known, [width, height]) => [...known, known.at(-1) + width * height * ARRAYS[kind].BYTES_PER_ELEMENT], [4 * number]);
    const known = { kind, least, most };
    const bytes = new Uint8Array(ends.at(-1));
    const reader = response.body.getReader();
    let got = 0, told = sizes.length === 1;
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      bytes.set(part.value, got);
      got += part.value.length;
      if (!told && got >= ends[1]) {
        told = true;
        early({ ...known, ...leveled(kind, number, sizes, bytes.slice(0, ends[1]).buffer) });
      }
    }
    if (got < bytes.length) throw new Error("cut off");
    return { image: { ...known, ...leveled(kind, number, sizes, bytes.buffer) } };
  } catch (error) {
    return { error: { status: 0, content: { error: signal.aborted ? "given up" : undefined } } };
  }
}

// What lies in the buffer: a sorted sample, then the levels, coarsest first. Levels that it lacks have no counts; the
// last one of the sizes is the frame's.
function leveled(kind, number, sizes, buffer) {
  let start = 4 * number;
  const levels = sizes.map(([width, height]) => {
    const length = width * height * ARRAYS[kind].BYTES_PER_ELEMENT;
    const counts = start + length <= buffer.byteLength ? new ARRAYS[kind](buffer, start, width * height) : null;
    start += length;
    return { width, height, counts };
  });
  levels.reverse();
  return { ...levels[0], levels, sorted: new Float32Array(buffer, 0, number) };
}

const buffers = ({ levels, sorted }) => [...new Set([sorted, ...levels.map(({ counts }) => counts)].filter(Boolean).map(({ buffer }) => buffer))];

addEventListener("message", async ({ data: { ticket, cancel, frame, token, image } }) => {
  if (cancel) {
    running.get(cancel)?.abort();
    return;
  }
  let answer;
  if (image) answer = { image: prepare(localContrast(image)) };
  else {
    running.set(ticket, new AbortController());
    const early = (part) => postMessage({ ticket, early: part }, buffers(part));
    answer = await pixels(frame, token, running.get(ticket).signal, early);
    running.delete(ticket);
  }
  postMessage({ ticket, ...answer }, answer.image ? buffers(answer.image) : []);
});
