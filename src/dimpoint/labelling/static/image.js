// Sensor counts -> grey or colour pixels: window and level on the true counts, never on 8 bits.

const SAMPLES = 200000;

// Sorted sample of the counts: percentiles and histogram come from it.
export function sample(image) {
  const { counts } = image;
  const step = Math.max(1, Math.floor(counts.length / SAMPLES));
  const values = new Float32Array(Math.ceil(counts.length / step));
  for (let i = 0, j = 0; i < counts.length; i += step, j += 1) values[j] = counts[i];
  return values.sort();
}

export function percentile(sorted, share) {
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.round(share * (sorted.length - 1))))];
}

// Counts minus the mean of a 41 x 41 box, over the box's spread: small things in any background.
export function localContrast(image, reach = 20) {
  const { width, height, counts } = image;
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
  return { ...image, counts: out };
}

const COLOURS = [[0, 0, 4], [60, 9, 101], [140, 41, 99], [213, 72, 66], [249, 142, 9], [246, 215, 70], [252, 255, 240]];

function palette(colour) {
  const table = new Uint32Array(256);
  for (let i = 0; i < 256; i += 1) {
    let rgb = [i, i, i];
    if (colour) {
      const place = (i / 255) * (COLOURS.length - 1);
      const low = Math.min(COLOURS.length - 2, Math.floor(place));
      rgb = COLOURS[low].map((value, k) => Math.round(value + (place - low) * (COLOURS[low + 1][k] - value)));
    }
    table[i] = (255 << 24) | (rgb[2] << 16) | (rgb[1] << 8) | rgb[0];
  }
  return table;
}

// Draw the counts between low and high into a canvas of the frame's size.
export function render(image, canvas, { low, high, invert, colour }) {
  const { width, height, counts } = image;
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const context = canvas.getContext("2d");
  const data = context.createImageData(width, height);
  const out = new Uint32Array(data.data.buffer);
  const table = palette(colour);
  const scale = 255.999 / Math.max(high - low, 1e-9);
  for (let i = 0; i < counts.length; i += 1) {
    let level = (counts[i] - low) * scale;
    level = level < 0 ? 0 : level > 255 ? 255 : level | 0;
    out[i] = table[invert ? 255 - level : level];
  }
  context.putImageData(data, 0, 0);
}
