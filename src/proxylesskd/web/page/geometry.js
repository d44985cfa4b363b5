// From a photo and five landmarks to the aligned face. Images are {width, height, data}: RGBA, 0..255.

export const SIZE = 112;
export const TEMPLATE = [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]];

// The similarity [a, b, x, y] that brings points nearest to the template: (px, py) -> (a px - b py + x, b px + a py + y).
// Umeyama (1991) in the plane: with points as complex numbers about their means, a = sum(conj(z) w) / sum(|z|^2).
export function similarity(points, template = TEMPLATE) {
  const mean = (list, k) => list.reduce((sum, p) => sum + p[k], 0) / list.length;
  const [zx, zy, wx, wy] = [mean(points, 0), mean(points, 1), mean(template, 0), mean(template, 1)];
  let real = 0, imaginary = 0, spread = 0;
  points.forEach(([px, py], i) => {
    const [x, y, u, v] = [px - zx, py - zy, template[i][0] - wx, template[i][1] - wy];
    real += x * u + y * v;
    imaginary += x * v - y * u;
    spread += x * x + y * y;
  });
  const [a, b] = [real / spread, imaginary / spread];
  if (!(Math.hypot(a, b) > 1e-4)) throw new Error("The five points of this face span no face.");
  return [a, b, wx - (a * zx - b * zy), wy - (b * zx + a * zy)];
}

// The image averaged over k x k pixels; the last row and column are repeated to whole squares.
export function averaged(image, k) {
  const width = Math.ceil(image.width / k), height = Math.ceil(image.height / k);
  const data = new Uint8ClampedArray(width * height * 4);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) for (let c = 0; c < 4; c++) {
    let sum = 0;
    for (let j = 0; j < k; j++) for (let i = 0; i < k; i++) {
      const row = Math.min(y * k + j, image.height - 1), column = Math.min(x * k + i, image.width - 1);
      sum += image.data[4 * (row * image.width + column) + c];
    }
    data[4 * (y * width + x) + c] = sum / (k * k);
  }
  return { width, height, data };
}

// The image brought to a smaller width and height: every pixel the mean of the area it covers.
export function shrunk(image, width, height) {
  const wide = along(image.data, image.width, image.height, width, 4, 4 * image.width);
  const high = along(wide, image.height, width, height, 4 * width, 4);
  return { width, height, data: Uint8ClampedArray.from(high) };
}

// Means along one axis of length `from` to length `to`; `step` apart there, `lines` others `apart`; four channels.
function along(data, from, lines, to, step, apart) {
  const scale = from / to, out = new Float32Array(to * lines * 4);
  const [stepOut, apartOut] = step === 4 ? [4, 4 * to] : [step, 4];
  for (let i = 0; i < to; i++) {
    const start = i * scale, end = Math.min(from, (i + 1) * scale);
    for (let j = Math.floor(start); j < Math.ceil(end); j++) {
      const weight = (Math.min(end, j + 1) - Math.max(start, j)) / scale;
      for (let line = 0; line < lines; line++) for (let c = 0; c < 4; c++) {
        out[i * stepOut + line * apartOut + c] += weight * data[j * step + line * apart + c];
      }
    }
  }
  return out;
}

// The aligned face, SIZE x SIZE: bilinear, black beyond the edge; averaged first where the face is k times too large.
export function crop(image, landmarks) {
  let [a, b, x, y] = similarity(landmarks);
  const k = Math.floor(1 / Math.hypot(a, b) + 1e-9);
  if (k > 1) {
    const half = (k - 1) / 2; // a pixel u of the averaged image lies at k u + half
    [x, y] = [x + a * half - b * half, y + b * half + a * half];
    [a, b] = [a * k, b * k];
    image = averaged(image, k);
  }
  const norm = a * a + b * b, data = new Uint8ClampedArray(SIZE * SIZE * 4);
  for (let v = 0; v < SIZE; v++) for (let u = 0; u < SIZE; u++) {
    const [dx, dy] = [u - x, v - y];
    sample(image, (a * dx + b * dy) / norm, (a * dy - b * dx) / norm, data, 4 * (v * SIZE + u));
  }
  return { width: SIZE, height: SIZE, data };
}

function sample(image, x, y, out, at) {
  const left = Math.floor(x), top = Math.floor(y), right = x - left, below = y - top;
  for (let c = 0; c < 3; c++) {
    const upper = (1 - right) * pixel(image, left, top, c) + right * pixel(image, left + 1, top, c);
    const lower = (1 - right) * pixel(image, left, top + 1, c) + right * pixel(image, left + 1, top + 1, c);
    out[at + c] = (1 - below) * upper + below * lower;
  }
  out[at + 3] = 255;
}

function pixel(image, x, y, c) {
  return x < 0 || y < 0 || x >= image.width || y >= image.height ? 0 : image.data[4 * (y * image.width + x) + c];
}
