// Window, level and the other controls of how counts are shown, with the histogram.

import { contrast } from "./frames.js";
import { Tone, percentile } from "./image.js";

const element = (id) => document.getElementById(id);

export class Display {
  constructor(view) {
    this.view = view;
    this.image = null; // what is shown: the frame, or its local contrast
    for (const id of ["low", "high"]) element(id).addEventListener("input", () => this.slide());
    for (const id of ["invert", "colour"]) element(id).addEventListener("change", () => this.redraw());
    element("auto").addEventListener("click", () => this.auto());
    element("full").addEventListener("click", () => this.window(...this.ends()));
  }

  // What is shown of a frame; made ahead it costs nothing later.
  of(image) {
    return element("local").checked ? contrast(image) : image;
  }

  // image: as `of` gives it, null for none.
  show(image) {
    this.image = image;
    if (image) this.auto();
    else {
      this.view.tone = null;
      this.view.draw();
    }
  }

  // The same frame with all of its levels.
  sharpen(image) {
    this.image = image;
    this.view.image = image;
    this.view.draw();
  }

  auto() {
    if (!this.image) return;
    const [low, high] = [0.005, 0.998].map((share) => percentile(this.image.sorted, share));
    this.window(low, high > low ? high : low + 1);
  }

  window(low, high) {
    Object.assign(this, { low, high });
    this.redraw();
  }

  ends() {
    const { least, most } = this.image;
    return [least, Math.max(most, least + 1e-6)];
  }

  tone() {
    const [invert, colour] = ["invert", "colour"].map((id) => element(id).checked);
    return new Tone({ low: this.low, high: this.high, invert, colour });
  }

  redraw() {
    if (!this.image) return;
    const [least, most] = this.ends();
    for (const key of ["low", "high"]) {
      element(key).value = (1000 * (this[key] - least)) / (most - least);
      const whole = this.image.kind !== "float32" || Math.abs(this[key]) >= 1000;
      element(`${key}-text`).textContent = whole ? this[key].toFixed(0) : this[key].toPrecision(4);
    }
    this.view.image = this.image;
    this.view.tone = this.tone();
    this.view.draw();
    clearTimeout(this.due); // the picture first
    this.due = setTimeout(() => this.histogram());
  }

  // Another frame in the place of this one, in the same window, until `redraw`.
  peek(image) {
    this.view.image = image;
    this.view.draw();
  }

  histogram() {
    if (!this.image) return;
    const canvas = element("histogram"), context = canvas.getContext("2d");
    const [least, most] = this.ends();
    const bins = new Array(128).fill(0);
    for (const value of this.image.sorted) bins[Math.min(127, Math.floor((127.99 * (value - least)) / (most - least)))] += 1;
    const top = Math.log1p(Math.max(...bins));
    context.clearRect(0, 0, 256, 44);
    context.fillStyle = "rgb(77 163 255 / .2)";
    const place = (value) => (256 * (value - least)) / (most - least);
    context.fillRect(place(this.low), 0, place(this.high) - place(this.low), 44);
    context.fillStyle = "#98a1ab";
    bins.forEach((count, index) => context.fillRect(index * 2, 44, 2, -40 * (Math.log1p(count) / top)));
  }

  slide() {
    if (!this.image) return;
    const [least, most] = this.ends();
    const [a, b] = ["low", "high"].map((key) => least + (element(key).value / 1000) * (most - least));
    const low = Math.min(a, b);
    this.window(low, Math.max(b, low + (most - least) / 1e4));
  }

  wider(factor) {
    const middle = (this.low + this.high) / 2, half = ((this.high - this.low) / 2) * factor;
    this.window(middle - half, middle + half);
  }
}
