"use strict";
// Finds the targets of dropped pictures with whole.onnx beside this page.

ort.env.wasm.numThreads = 1; // more need headers that a plain file server does not send
ort.env.wasm.wasmPaths = new URL("ort/", document.baseURI).href;
ort.env.logLevel = "error";

const state = document.querySelector("#state");
const results = document.querySelector("#results");
const least = document.querySelector("#least");
const redraws = [];
let queue = ort.InferenceSession.create(new URL("whole.onnx", document.baseURI).href).then(
  (session) => {
    state.textContent = "Ready.";
    return session;
  },
  (error) => {
    state.textContent = `The model could not be loaded: ${error.message}`;
    state.className = "error";
    throw error;
  },
);

/** Grey counts of a picture, 8 bit, as uint16 (H, W). */
function countsOf(picture) {
  const canvas = new OffscreenCanvas(picture.width, picture.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  const { data } = context.getImageData(0, 0, picture.width, picture.height);
  const counts = new Uint16Array(picture.width * picture.height);
  for (let i = 0; i < counts.length; i++) {
    counts[i] = Math.round(0.299 * data[4 * i] + 0.587 * data[4 * i + 1] + 0.114 * data[4 * i + 2]);
  }
  return counts;
}

/** [{x, y, score}] of a picture. */
async function detect(session, picture) {
  const frame = new ort.Tensor("uint16", countsOf(picture), [picture.height, picture.width]);
  const { targets } = await session.run({ frame });
  return Array.from({ length: targets.dims[0] }, (_, row) => {
    const [x, y, score] = targets.data.slice(3 * row, 3 * row + 3);
    return { x, y, score };
  });
}

function show(name, picture, found) {
  const figure = document.createElement("figure");
  const canvas = figure.appendChild(document.createElement("canvas"));
  canvas.width = picture.width;
  canvas.height = picture.height;
  const caption = figure.appendChild(document.createElement("figcaption"));
  const table = figure.appendChild(document.createElement("table"));
  const draw = () => {
    const shown = found.filter(({ score }) => score >= Number(least.value));
    const context = canvas.getContext("2d");
    context.drawImage(picture, 0, 0);
    context.strokeStyle = "#ffd400";
    context.lineWidth = Math.max(1, picture.width / 400);
    for (const { x, y } of shown) {
      context.beginPath();
      context.arc(x + 0.5, y + 0.5, Math.max(6, picture.width / 60), 0, 2 * Math.PI);
      context.stroke();
    }
    caption.textContent = `${name}: ${shown.length} ${shown.length === 1 ? "target" : "targets"}`;
    table.replaceChildren();
    if (shown.length) addRow(table, "th", ["x", "y", "score"]);
    for (const { x, y, score } of shown) addRow(table, "td", [x.toFixed(2), y.toFixed(2), score.toFixed(3)]);
  };
  draw();
  redraws.push(draw);
  results.prepend(figure);
}

function addRow(table, kind, texts) {
  const row = table.insertRow();
  for (const text of texts) row.appendChild(document.createElement(kind)).textContent = text;
}

function fail(name, error) {
  const line = document.createElement("p");
  line.className = "error";
  line.textContent = `${name}: ${error.message}`;
  results.prepend(line);
}

/** Pictures one after the other, since a session runs one at a time. */
function add(files) {
  for (const file of files) {
    queue = queue.then(async (session) => {
      state.textContent = `Looking at ${file.name} …`;
      try {
        const picture = await createImageBitmap(file).catch(() => {
          throw new Error("not a picture that this browser can read");
        });
        show(file.name, picture, await detect(session, picture));
      } catch (error) {
        fail(file.name, error);
      }
      state.textContent = "Ready.";
      return session;
    });
  }
}

const drop = document.querySelector("#drop");
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", kind === "dragover");
    if (kind === "drop") add(event.dataTransfer.files);
  });
}
document.querySelector("#files").addEventListener("change", (event) => add(event.target.files));
least.addEventListener("input", () => {
  document.querySelector("#shown").textContent = least.value;
  for (const draw of redraws) draw();
});
