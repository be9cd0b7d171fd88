// Targets of a frame of raw counts, 16 bit little endian:
//   npm install onnxruntime-node
//   node detect.mjs whole.onnx frame.raw HEIGHT WIDTH
import { readFile } from "node:fs/promises";
import { InferenceSession, Tensor } from "onnxruntime-node";

const [model, file, height, width] = process.argv.slice(2);
const session = await InferenceSession.create(model, { logSeverityLevel: 3 });
const bytes = await readFile(file);
const counts = new Uint16Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
const frame = new Tensor("uint16", counts, [Number(height), Number(width)]);
const { targets } = await session.run({ frame });
for (let row = 0; row < targets.dims[0]; row++) {
  const [x, y, score] = targets.data.slice(3 * row, 3 * row + 3);
  console.log(x.toFixed(2), y.toFixed(2), score.toFixed(3));
}
