// Lists of mistakes, import and export, and the agreement of labellers.

import * as api from "./api.js";

const element = (id) => document.getElementById(id);
const KINDS = { missed: "missed", false: "false alarm" };

const scored = ({ kind, score, caption }) =>
  `${KINDS[kind] ?? kind}  ·  ${caption ?? `${kind === "missed" ? "best score" : "score"} ${score.toFixed(2)}`}`;

// A list of places in frames; a click on one closes the dialog and shows it. words: what is said of one.
export function places(items, go, dialog, words = scored) {
  const list = document.createElement("ul");
  list.className = "places";
  for (const item of items) {
    const line = document.createElement("li"), button = document.createElement("button");
    button.textContent = `${item.name}  ·  ${words(item)}`;
    button.title = `x ${item.x.toFixed(1)}, y ${item.y.toFixed(1)}`;
    button.addEventListener("click", () => {
      dialog.close();
      go(item);
    });
    line.append(button);
    list.append(line);
  }
  return list;
}

// model: the one that proposes. from: "model" or "report", whose mistakes are listed.
export async function showMistakes(model, go, from) {
  const dialog = element("mistakes"), note = element("mistakes-note");
  note.textContent = from === "report" ? "" : "Looking at the labelled frames …";
  for (const each of ["model", "report"]) element(`mistakes-${each}`).classList.toggle("on", each === from);
  element("mistakes-list").replaceChildren();
  if (!dialog.open) dialog.showModal();
  try {
    const [found, text] = from === "report" ? await ofReport() : await ofModel(model);
    if (!element(`mistakes-${from}`).classList.contains("on")) return; // the other list was chosen meanwhile
    note.textContent = text;
    element("mistakes-list").replaceChildren(places(found, go, dialog));
  } catch (error) {
    note.textContent = error.message;
  }
}

async function ofModel(model) {
  const found = await api.get("mistakes");
  const text = found.length
    ? `Where ${model} and the labels differ, the worst first. Click one to see it, then correct the label, or reject the proposal.`
    : `${model} and the labels agree on every labelled frame.`;
  return [found, text];
}

async function ofReport() {
  const { places: found, others } = await api.get("report");
  const rest = others ? ` ${others} more are in frames that this project does not have.` : "";
  const text = found.length ? "The worst misses and false alarms of the report." : "The report shows no mistake in a frame of this project.";
  return [found, text + rest];
}

const ANSWERS = { unlabelled: "no answer", empty: "no target", unsure: "unsure" };
const answer = ({ status, points }) => ANSWERS[status] ?? (points.length === 1 ? "1 target" : `${points.length} targets`);

// The states of a frame's labels, the newest first; restore(state) makes one the present one again.
export async function showHistory(frame, restore) {
  const dialog = element("history");
  const states = (await api.get(`frames/${frame}/history`)).reverse();
  const lines = states.map((one, index) => {
    const line = document.createElement("li"), button = document.createElement("button");
    const when = new Date(1000 * one.changed).toLocaleString();
    button.textContent = `${when}  ·  ${one.author || "no name"}  ·  ${answer(one)}${index ? "" : "  (now)"}`;
    button.title = one.points.map(([x, y]) => `${x.toFixed(1)}, ${y.toFixed(1)}`).join("; ");
    button.addEventListener("click", () => {
      dialog.close();
      if (index) restore(one);
    });
    line.append(button);
    return line;
  });
  element("history-list").replaceChildren(...lines);
  element("history-note").textContent = lines.length
    ? "Every state of this frame's labels. Click one to restore it."
    : "This frame has not been labelled yet.";
  dialog.showModal();
}

export async function showLabels() {
  element("import-done").textContent = "";
  element("agreement").textContent = "Comparing the labellers …";
  element("labels").showModal();
  const pairs = await api.get("agreement").catch(() => []);
  const lines = pairs.map((one) => {
    const line = document.createElement("p");
    const share = one.f1 === null ? "no targets" : `${(100 * one.f1).toFixed(0)} % of the targets agree`;
    const apart = one.distance === null ? "" : `, median distance ${one.distance.toFixed(2)} px`;
    line.textContent = `${one.first} and ${one.second}: ${one.frames === 1 ? "1 frame" : `${one.frames} frames`} labelled by both, ${one.same} with the same answer; ${share}${apart}.`;
    return line;
  });
  const none = document.createElement("p");
  none.textContent = "No two named labellers have answered the same frame.";
  element("agreement").replaceChildren(...(lines.length ? lines : [none]));
}

export async function importFiles(files, author, done) {
  const total = { labelled: 0, points: 0, kept: 0, outside: 0, beside: 0, unknown_count: 0 };
  const unknown = [], refused = [];
  for (const file of files) {
    const snap = element("import-snap").checked ? 1 : 0;
    const query = new URLSearchParams({ name: file.name, author, snap });
    try {
      const found = await api.send(`import?${query}`, file);
      for (const key of Object.keys(total)) total[key] += found[key];
      unknown.push(...found.unknown);
    } catch (error) {
      refused.push(error.message);
    }
  }
  const parts = [`${api.counted(total.labelled, "frame")} labelled with ${api.counted(total.points, "target")}.`];
  if (total.kept) parts.push(`${total.kept} frames had an answer and keep it.`);
  if (total.outside) parts.push(`${total.outside} labels outside their frame were left out.`);
  if (total.beside) parts.push(`${api.counted(total.beside, "frame")} got no answer: all labels lie outside.`);
  if (total.unknown_count) parts.push(`${total.unknown_count} names are no frames of this project: ${unknown.slice(0, 5).join(", ")}.`);
  element("import-done").textContent = [...parts, ...refused].join(" ");
  done();
}
