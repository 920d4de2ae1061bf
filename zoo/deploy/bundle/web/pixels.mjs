// From decoded pixels to the model's: what zoo_runtime/pixels.py does with Pillow, level for level.
// An image is {data, width, height}; `data` has 3 bytes a pixel, RGB, row by row.

// Pillow computes in fixed point: 32 bits, less 8 of the result, less 2 for overshoot.
const PRECISION_BITS = 32 - 8 - 2;
const KERNELS = {
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: { support: 2, weight: cubic },
};

function cubic(x) {
  const a = -0.5;
  x = Math.abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

/** Blend RGBA over white, as Pillow's alpha_composite rounds it. */
export function overWhite({ data, width, height }) {
  const rgb = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; from < data.length; from += 4) {
    const alpha = data[from + 3];
    for (let channel = 0; channel < 3; channel += 1, to += 1) {
      const sum = (data[from + channel] * alpha + 255 * (255 - alpha)) * 128 + 128 * 128;
      rgb[to] = ((sum >> 8) + sum) >> 8 >> 7;
    }
  }
  return { data: rgb, width, height };
}

/**
 * Resize and crop an image to what the model takes.
 * @param {{data: Uint8Array, width: number, height: number}} image RGB, of any size.
 * @param {{size: number[], crop: string, crop_fraction: number, interpolation: string}} view `preprocess` of artifact.json.
 */
export function prepare(image, view) {
  const [height, width] = view.size;
  if (view.crop === "center") return center(image, height, width, view);
  if (view.crop === "squash") return resize(image, height, width, view.interpolation);
  if (view.crop === "border") return border(image, height, width, view.interpolation);
  throw new Error(`unknown crop ${view.crop}`);
}

function center(image, height, width, { crop_fraction: fraction, interpolation }) {
  const wanted = [Math.floor(height / fraction), Math.floor(width / fraction)];
  const byHeight = wanted[0] * image.width >= wanted[1] * image.height;
  const scaled = byHeight
    ? [wanted[0], Math.trunc((wanted[0] * image.width) / image.height)]
    : [Math.trunc((wanted[1] * image.height) / image.width), wanted[1]];
  const whole = resize(image, scaled[0], scaled[1], interpolation);
  const cut = { data: new Uint8Array(height * width * 3), width, height };
  copy(whole, cut, -toEven((scaled[0] - height) / 2), -toEven((scaled[1] - width) / 2));
  return cut;
}

function border(image, height, width, interpolation) {
  const scale = Math.min(height / image.height, width / image.width);
  const scaled = [Math.max(1, toEven(image.height * scale)), Math.max(1, toEven(image.width * scale))];
  const whole = resize(image, scaled[0], scaled[1], interpolation);
  const canvas = { data: new Uint8Array(height * width * 3), width, height };
  copy(whole, canvas, Math.floor((height - scaled[0]) / 2), Math.floor((width - scaled[1]) / 2));
  return canvas;
}

/** Round as Python does: a half goes to the even neighbour. */
function toEven(value) {
  const below = Math.floor(value);
  return value - below === 0.5 ? below + (below % 2) : Math.round(value);
}

/** Lay an image into another with its corner at `top`, `left`; what hangs over is left out. */
function copy(from, into, top, left) {
  const first = Math.max(0, -left);
  const last = Math.min(from.width, into.width - left);
  for (let y = Math.max(0, -top); y < Math.min(from.height, into.height - top); y += 1) {
    const row = from.data.subarray((y * from.width + first) * 3, (y * from.width + last) * 3);
    into.data.set(row, ((y + top) * into.width + first + left) * 3);
  }
}

function resize(image, height, width, interpolation) {
  if (image.height === height && image.width === width) return image;
  if (interpolation === "nearest") return nearest(image, height, width);
  const kernel = KERNELS[interpolation];
  if (!kernel) throw new Error(`unknown interpolation ${interpolation}`);
  // Across first, then down, as `zoo.runtime.pixels` does: the order shows, as each pass clips.
  const across = image.width === width ? image : alongRows(image, taps(image.width, width, kernel));
  return across.height === height ? across : alongColumns(across, taps(across.height, height, kernel));
}

/** For each place of the result: where its window in the source begins, and the weights of the pixels there. */
function taps(source, result, kernel) {
  const scale = source / result;
  const stretch = Math.max(scale, 1);
  const support = kernel.support * stretch;
  return Array.from({ length: result }, (_, place) => {
    const middle = (place + 0.5) * scale;
    const start = Math.max(0, Math.trunc(middle - support + 0.5));
    const stop = Math.min(source, Math.trunc(middle + support + 0.5));
    const inverse = 1 / stretch;
    const weights = new Float64Array(stop - start);
    let total = 0;
    for (let x = 0; x < weights.length; x += 1) {
      weights[x] = kernel.weight((x + start - middle + 0.5) * inverse);
      total += weights[x];
    }
    return { start, weights: Int32Array.from(weights, (weight) => fixed(total ? weight / total : weight)) };
  });
}

function fixed(weight) {
  return Math.trunc((weight < 0 ? -0.5 : 0.5) + weight * (1 << PRECISION_BITS));
}

function alongRows({ data, width, height }, windows) {
  const out = new Uint8ClampedArray(windows.length * height * 3);
  let to = 0;
  for (let y = 0; y < height; y += 1) {
    for (const { start, weights } of windows) weigh(data, (y * width + start) * 3, 3, weights, out, (to += 3) - 3);
  }
  return { data: out, width: windows.length, height };
}

function alongColumns({ data, width }, windows) {
  const out = new Uint8ClampedArray(width * windows.length * 3);
  let to = 0;
  for (const { start, weights } of windows) {
    for (let x = 0; x < width; x += 1) weigh(data, (start * width + x) * 3, width * 3, weights, out, (to += 3) - 3);
  }
  return { data: out, width, height: windows.length };
}

/** Write one pixel: the weighted sum of pixels that are `step` bytes apart; the array clamps it to 0..255. */
function weigh(data, from, step, weights, out, to) {
  let red = 1 << (PRECISION_BITS - 1);
  let green = red;
  let blue = red;
  for (let i = 0; i < weights.length; i += 1, from += step) {
    red += data[from] * weights[i];
    green += data[from + 1] * weights[i];
    blue += data[from + 2] * weights[i];
  }
  out[to] = red >> PRECISION_BITS;
  out[to + 1] = green >> PRECISION_BITS;
  out[to + 2] = blue >> PRECISION_BITS;
}

function nearest(image, height, width) {
  const [rows, columns] = [places(image.height, height), places(image.width, width)];
  const out = new Uint8Array(height * width * 3);
  let to = 0;
  for (const y of rows) {
    for (const x of columns) {
      const from = (y * image.width + x) * 3;
      out[to] = image.data[from];
      out[to + 1] = image.data[from + 1];
      out[to + 2] = image.data[from + 2];
      to += 3;
    }
  }
  return { data: out, width, height };
}

/** Steps are added up, as Pillow adds them: a product would round otherwise. */
function places(source, result) {
  const step = source / result;
  let place = step * 0.5;
  return Array.from({ length: result }, () => {
    const found = Math.min(source - 1, Math.trunc(place));
    place += step;
    return found;
  });
}
