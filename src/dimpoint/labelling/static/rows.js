// The list of frames: only the visible rows exist, so that 100,000 frames scroll as fast as 100.

import * as api from "./api.js";

const HEIGHT = 28;
const PAGE = 200;
const TAGS = { unlabelled: "", targets: "", empty: "none", unsure: "?" };

export class Rows {
  constructor(box, inner, choose) {
    this.box = box;
    this.inner = inner;
    this.choose = choose;
    this.pages = new Map();
    this.total = 0;
    this.current = 0;
    box.addEventListener("scroll", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(box);
  }

  setTotal(total) {
    this.total = total;
    this.inner.style.height = `${total * HEIGHT}px`;
    this.draw();
  }

  async page(number) {
    if (this.pages.has(number)) return this.pages.get(number);
    this.pages.set(number, null);
    const rows = await api.get(`frames?start=${number * PAGE}&count=${PAGE}`);
    this.pages.set(number, rows);
    this.draw();
    return rows;
  }

  forget() {
    this.pages.clear();
    this.draw();
  }

  update(id, labels) {
    const row = this.pages.get(Math.floor((id - 1) / PAGE))?.[(id - 1) % PAGE];
    if (row) Object.assign(row, { status: labels.status, points: labels.points.length });
    this.draw();
  }

  name(id) {
    return this.pages.get(Math.floor((id - 1) / PAGE))?.[(id - 1) % PAGE]?.name;
  }

  show(id) {
    this.current = id;
    const top = (id - 1) * HEIGHT;
    if (top < this.box.scrollTop || top + HEIGHT > this.box.scrollTop + this.box.clientHeight)
      this.box.scrollTop = top - this.box.clientHeight / 2;
    this.draw();
  }

  draw() {
    const first = Math.max(0, Math.floor(this.box.scrollTop / HEIGHT) - 3);
    const last = Math.min(this.total, first + Math.ceil(this.box.clientHeight / HEIGHT) + 6);
    const visible = [];
    for (let index = first; index < last; index += 1) {
      const rows = this.pages.get(Math.floor(index / PAGE));
      if (rows === undefined) this.page(Math.floor(index / PAGE));
      const row = rows?.[index % PAGE];
      if (row) visible.push(this.element(row, index));
    }
    this.inner.replaceChildren(...visible);
  }

  element(row, index) {
    const element = document.createElement("div");
    element.className = row.id === this.current ? "frame current" : "frame";
    element.style.top = `${index * HEIGHT}px`;
    const name = document.createElement("span");
    name.textContent = row.name.length > 20 ? `…${row.name.slice(-19)}` : row.name; // ends tell frames apart
    name.title = row.name;
    const tag = document.createElement("span");
    tag.className = `tag ${row.status}`;
    tag.textContent = row.status === "targets" ? `● ${row.points}` : TAGS[row.status];
    element.append(name, tag);
    element.addEventListener("click", () => this.choose(row.id));
    return element;
  }
}
