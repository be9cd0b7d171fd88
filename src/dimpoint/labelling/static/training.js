// The training panel: start, live loss, log, stop, and the model that comes out.

import * as api from "./api.js";
import { places } from "./dialogs.js";

const element = (id) => document.getElementById(id);

// What a training changed: key of the server's answer, title, and what a place's score is.
const GROUPS = [
  ["found", "Newly found targets", "best score before"],
  ["lost", "Lost targets", "best score now"],
  ["false", "New false alarms", "score"],
  ["gone", "False alarms that are gone", "score before"],
];

// parent: the difference of F1 to the model before, with the ends of its interval.
function verdict(parent) {
  if (parent?.low === undefined) return "";
  if (parent.high < 0) return " The new model is worse on these frames: do not use it. Label more frames, or train longer.";
  return parent.low > 0 ? " The new model is better on these frames." : " The frames are too few to tell whether it is better.";
}

export class Training {
  // changed: told of another proposing model; go: shows a place in a frame
  constructor(changed, go) {
    this.changed = changed;
    this.go = go;
    element("train-start").addEventListener("click", () => this.start());
    element("train-stop").addEventListener("click", () => this.stop());
    element("train-use").addEventListener("click", () => this.use());
  }

  async open(known) {
    const info = await api.get("project").catch(() => known);
    const { targets, empty } = info.counts;
    element("train-note").textContent =
      `Labelled so far: ${targets} with targets, ${empty} without. Training starts from the shipped model ` +
      `and needs at least ${info.fewest} frames with targets. It holds out a part of the frames to measure the result.`;
    element("train").showModal();
    this.watch();
  }

  async start() {
    const options = { minutes: Number(element("minutes").value), held_out: element("held-out").value };
    await this.attempt(() => api.post("training", options));
    this.watch();
  }

  async stop() {
    await this.attempt(() => api.remove("training"));
    this.watch();
  }

  async use() {
    const model = await this.attempt(() => api.post("model", { model: "trained" }));
    if (model) this.changed(model);
  }

  async attempt(work) {
    try {
      return await work();
    } catch (error) {
      this.log(error.message);
      return null;
    }
  }

  async watch() {
    clearTimeout(this.timer);
    const status = await api.get("training").catch(() => null);
    if (!status) return;
    const running = status.state === "running";
    element("train-start").disabled = running;
    element("train-stop").disabled = !running;
    element("train-use").disabled = !status.model;
    if (status.state !== "none") {
      const left = Math.max(0, 60 * status.minutes - status.seconds);
      const words = left > 90 ? `${Math.round(left / 60)} min` : `${Math.round(left)} s`;
      const head = running ? `Training, at most ${words} left` : `Training ${status.state}`;
      this.log([head, ...status.log].join("\n"));
      this.draw(status.loss);
    }
    if (running) element("changes").replaceChildren();
    else if (status.model && this.compared !== status.run) await this.compare(status.run);
    if (running && element("train").open) this.timer = setTimeout(() => this.watch(), 1000);
  }

  // What the run changed on the frames that it held out.
  async compare(run) {
    this.compared = run;
    const box = element("changes");
    const found = await api.get("changes").catch((error) => {
      box.textContent = error.message;
    });
    if (!found) return;
    const { validation, parent } = found.scores;
    const parts = [];
    const say = (tag, text) => {
      const line = document.createElement(tag);
      line.textContent = text;
      parts.push(line);
    };
    if (validation?.f1 !== undefined) {
      const range = validation.f1_low === undefined ? "" : ` (95 % ${validation.f1_low.toFixed(2)} to ${validation.f1_high.toFixed(2)})`;
      const after = `F1 on the ${found.frames} held-out frames: ${validation.f1.toFixed(3)}${range}`;
      const before = parent?.difference === undefined ? "" : `; before ${(validation.f1 - parent.difference).toFixed(3)}`;
      const low = parent?.low === undefined ? "" : `, difference ${parent.low.toFixed(2)} to ${parent.high.toFixed(2)}`;
      say("p", `${after}${before}${low}.${verdict(parent)}`);
    }
    const none = [];
    for (const [key, title, words] of GROUPS) {
      if (!found[key].length) none.push(title.toLowerCase());
      else {
        say("h2", `${title}: ${found[key].length}`);
        parts.push(places(found[key], this.go, element("train"), ({ score }) => `${words} ${score.toFixed(2)}`));
      }
    }
    if (none.length) say("p", `No ${none.join(", no ")}.`);
    box.replaceChildren(...parts);
  }

  log(text) {
    const box = element("train-log"), changed = box.textContent !== text;
    box.textContent = text;
    box.hidden = !text;
    if (changed) box.scrollTop = box.scrollHeight; // its last line
  }

  draw(losses) {
    const canvas = element("loss"), context = canvas.getContext("2d");
    canvas.hidden = losses.length < 2;
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (losses.length < 2) return;
    const high = Math.max(...losses), low = Math.min(...losses, 0);
    context.strokeStyle = "#4da3ff";
    context.lineWidth = 2;
    context.beginPath();
    losses.forEach((loss, index) => {
      const x = 8 + (index / (losses.length - 1)) * (canvas.width - 16);
      context.lineTo(x, canvas.height - 8 - ((loss - low) / (high - low || 1)) * (canvas.height - 16));
    });
    context.stroke();
  }
}
