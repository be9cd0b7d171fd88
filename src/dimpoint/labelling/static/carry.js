// One click labels a track: a point is carried through the next frames, shown as a strip, and accepted.

import * as api from "./api.js";
import { load } from "./frames.js";

const element = (id) => document.getElementById(id);
const NEAR = 3; // pixels within which a frame has the point already
const MOST_SHOWN = 10;
const REACH = 12; // pixels around the point in a thumbnail

// Follow a point; `body` as the server's `carry` takes it.
export const follow = (frame, body) => api.post(`frames/${frame}/carry`, body);

// Thumbnails of a carried point. tone: how counts are shown; chosen: told of the steps up to a clicked one.
export async function strip(steps, tone, chosen) {
  const every = Math.ceil(steps.length / MOST_SHOWN);
  const shown = steps.filter((_, index) => index % every === 0 || index === steps.length - 1);
  const figures = [];
  for (const each of shown) {
    const image = await load(each.frame).image.catch(() => null);
    if (!image) continue;
    const upTo = steps.indexOf(each) + 1;
    const figure = document.createElement("figure"), caption = document.createElement("figcaption");
    caption.textContent = `+${upTo}`;
    figure.title = `Accept up to this frame (match ${each.match.toFixed(2)})`;
    figure.append(thumbnail(image, each, tone), caption);
    figure.addEventListener("click", () => chosen(steps.slice(0, upTo)));
    figures.push(figure);
  }
  element("strip").replaceChildren(...figures);
}

function thumbnail(image, { x, y }, tone) {
  const side = 2 * REACH + 1, canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  const [x0, y0] = [Math.round(x) - REACH, Math.round(y) - REACH];
  const left = Math.max(0, x0), top = Math.max(0, y0);
  const across = Math.min(image.width, x0 + side) - left, down = Math.min(image.height, y0 + side) - top;
  const pixels = tone.pixels(image.levels[0], { left, top, across, down });
  const context = canvas.getContext("2d");
  context.putImageData(new ImageData(pixels, across, down), left - x0, top - y0);
  context.strokeStyle = "#39d98a";
  context.strokeRect(REACH - 4.5, REACH - 4.5, 10, 10);
  return canvas;
}

// Add the point to each frame that lacks it; told(frame, stored) of each. Returns how many frames got it.
export async function accept(steps, author, told) {
  let done = 0;
  for (const { frame, x, y } of steps) {
    const { labels } = await api.get(`frames/${frame}`);
    if (labels.points.some(([a, b]) => Math.hypot(a - x, b - y) < NEAR)) continue;
    const points = [...labels.points, [x, y].map((value) => Math.round(value * 100) / 100)];
    told(frame, await api.put(`frames/${frame}`, { ...labels, points, author }));
    done += 1;
  }
  return done;
}
