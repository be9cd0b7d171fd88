// Sensor counts -> grey or colour pixels: window and level on the true counts, never on 8 bits.
// Used by the page and by its worker: no DOM here.

const SAMPLES = 65536;
const LARGEST = 1024; // of the coarsest level's sides, pixels

// What the page needs of counts that were made here: levels of detail, each half as large as the one before, and
// the range. sorted: a sample of the counts in order, for percentiles and the histogram. Of a frame the server
// makes the levels, in a twentieth of the time.
export function prepare(image) {
  const sorted = sample(image.counts);
  let least = Infinity, most = -Infinity;
  for (const value of image.counts) {
    if (value < least) least = value;
    if (value > most) most = value;
  }
  if (least > most) [least, most] = [0, 1]; // nothing but NaN
  const levels = [{ width: image.width, height: image.height, counts: image.counts }];
  while (Math.max(levels.at(-1).width, levels.at(-1).height) > LARGEST) levels.push(halved(levels.at(-1)));
  return { ...image, levels, sorted, least, most };
}

function sample(counts) {
  const step = Math.max(1, Math.floor(counts.length / SAMPLES));
  const values = new Float32Array(Math.ceil(counts.length / step));
  let number = 0;
  for (let i = 0; i < counts.length; i += step) if (!Number.isNaN(counts[i])) values[number++] = counts[i];
  return number ? values.subarray(0, number).sort() : new Float32Array(1);
}

export function percentile(sorted, share) {
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.round(share * (sorted.length - 1))))];
}

// The means of 2 x 2 pixels; a last odd row or column is left out.
function halved({ width, height, counts }) {
  const across = Math.max(1, width >> 1), down = Math.max(1, height >> 1);
  const right = width > 1 ? 1 : 0, below = height > 1 ? width : 0;
  const out = new counts.constructor(across * down);
  for (let y = 0, at = 0; y < down; y += 1) {
    let from = 2 * y * width;
    for (let x = 0; x < across; x += 1, at += 1, from += 2)
      out[at] = (counts[from] + counts[from + right] + counts[from + below] + counts[from + below + right]) / 4;
  }
  return { width: across, height: down, counts: out };
}

// Counts minus the mean of a 41 x 41 box, over the box's spread: small things in any background.
export function localContrast({ width, height, counts }, reach = 20) {
  const stride = width + 1;
  const sums = new Float64Array(stride * (height + 1));
  const squares = new Float64Array(stride * (height + 1));
  for (let y = 0; y < height; y += 1) {
    let row = 0, rowSquare = 0;
    for (let x = 0; x < width; x += 1) {
      const value = counts[y * width + x];
      row += value;
      rowSquare += value * value;
      const at = (y + 1) * stride + x + 1;
      sums[at] = sums[at - stride] + row;
      squares[at] = squares[at - stride] + rowSquare;
    }
  }
  const out = new Float32Array(counts.length);
  for (let y = 0; y < height; y += 1) {
    const top = Math.max(0, y - reach), bottom = Math.min(height, y + reach + 1);
    for (let x = 0; x < width; x += 1) {
      const left = Math.max(0, x - reach), right = Math.min(width, x + reach + 1);
      const [a, b, c, d] = [top * stride + left, top * stride + right, bottom * stride + left, bottom * stride + right];
      const number = (bottom - top) * (right - left);
      const mean = (sums[d] - sums[b] - sums[c] + sums[a]) / number;
      const square = (squares[d] - squares[b] - squares[c] + squares[a]) / number;
      out[y * width + x] = (counts[y * width + x] - mean) / (Math.sqrt(Math.max(0, square - mean * mean)) + 1);
    }
  }
  return { kind: "float32", width, height, counts: out };
}

const COLOURS = [[0, 0, 4], [60, 9, 101], [140, 41, 99], [213, 72, 66], [249, 142, 9], [246, 215, 70], [252, 255, 240]];

function palette(colour, invert) {
  const table = new Uint32Array(256);
  for (let i = 0; i < 256; i += 1) {
    let rgb = [i, i, i];
    if (colour) {
      const place = (i / 255) * (COLOURS.length - 1);
      const low = Math.min(COLOURS.length - 2, Math.floor(place));
      rgb = COLOURS[low].map((value, k) => Math.round(value + (place - low) * (COLOURS[low + 1][k] - value)));
    }
    table[invert ? 255 - i : i] = (255 << 24) | (rgb[2] << 16) | (rgb[1] << 8) | rgb[0];
  }
  return table;
}

// Turns counts between low and high into pixels: through a table of all counts where there is one for each.
export class Tone {
  constructor({ low, high, invert = false, colour = false }) {
    Object.assign(this, { low, colours: palette(colour, invert), scale: 255.999 / Math.max(high - low, 1e-9) });
    this.tables = new Map();
  }

  level(value) {
    const level = (value - this.low) * this.scale;
    return level > 0 ? (level > 255 ? 255 : level | 0) : 0;
  }

  table(size) {
    if (!this.tables.has(size)) {
      const table = new Uint32Array(size);
      for (let i = 0; i < size; i += 1) table[i] = this.colours[this.level(i)];
      this.tables.set(size, table);
    }
    return this.tables.get(size);
  }

  // A rectangle of a level of detail, as pixels in the order of ImageData.
  pixels({ width, counts }, { left, top, across, down }) {
    const data = new Uint8ClampedArray(4 * across * down);
    const out = new Uint32Array(data.buffer);
    const table = counts instanceof Float32Array ? null : this.table(256 ** counts.BYTES_PER_ELEMENT);
    for (let y = 0, at = 0; y < down; y += 1) {
      let from = (top + y) * width + left;
      if (table) for (const end = at + across; at < end; at += 1, from += 1) out[at] = table[counts[from]];
      else for (const end = at + across; at < end; at += 1, from += 1) out[at] = this.colours[this.level(counts[from])];
    }
    return data;
  }
}
