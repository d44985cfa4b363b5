// What the student takes, as its contract says, and what its answers mean.

// {values, dims} of an aligned face for the file's input; pixels are averaged where the input is smaller.
export function prepare(face, contract) {
  const { size, mean, std, order, layout } = contract.preprocessing;
  const whole = contract.dtype === "uint8";
  const values = whole ? new Uint8Array(3 * size * size) : new Float32Array(3 * size * size);
  for (let y = 0; y < size; y++) for (let x = 0; x < size; x++) for (let c = 0; c < 3; c++) {
    const value = (under(face, x, y, order === "bgr" ? 2 - c : c, size) - mean) / std;
    const at = layout === "nhwc" ? 3 * (y * size + x) + c : c * size * size + y * size + x;
    values[at] = whole ? Math.min(255, Math.max(0, Math.round(value))) : value;
  }
  return { values, dims: layout === "nhwc" ? [1, size, size, 3] : [1, 3, size, size] };
}

// The mean of the source pixels under a target pixel: whole pixels, any overlap counts fully.
function under(face, x, y, c, size) {
  const bin = (i, length) => [Math.floor((i * length) / size), Math.ceil(((i + 1) * length) / size)];
  const [left, right] = bin(x, face.width), [top, bottom] = bin(y, face.height);
  let sum = 0;
  for (let v = top; v < bottom; v++) for (let u = left; u < right; u++) sum += face.data[4 * (v * face.width + u) + c];
  return sum / ((right - left) * (bottom - top));
}

export function cosine(one, other) {
  let dot = 0, first = 0, second = 0;
  for (let i = 0; i < one.length; i++) {
    dot += one[i] * other[i];
    first += one[i] * one[i];
    second += other[i] * other[i];
  }
  return dot / Math.sqrt(first * second);
}

// The probability of one person at even odds before, or null where the contract has no calibration.
export function probability(similarity, contract) {
  const curve = contract.calibration?.single;
  return curve ? 1 / (1 + Math.exp(-(curve.slope * similarity + curve.intercept))) : null;
}
