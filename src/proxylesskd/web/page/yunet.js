// YuNet (Wu, Peng, Yu; Machine Intelligence Research 20, 2023): its input, and faces out of its twelve outputs.

const STRIDES = [8, 16, 32];
export const SCORE = 0.6, OVERLAP = 0.3;

// {values, dims}: [1, 3, H, W] float32 BGR, 0..255; black beyond the image up to whole multiples of the largest stride.
export function input(image) {
  const [width, height] = [image.width, image.height].map((side) => Math.ceil(side / 32) * 32);
  const plane = width * height, values = new Float32Array(3 * plane);
  for (let y = 0; y < image.height; y++) for (let x = 0; x < image.width; x++) for (let c = 0; c < 3; c++) {
    values[(2 - c) * plane + y * width + x] = image.data[4 * (y * image.width + x) + c];
  }
  return { values, dims: [1, 3, height, width] };
}

// Faces {score, box: [x, y, width, height], landmarks: five [x, y]}, surest first; outputs by name, flat arrays,
// of an input of this width.
export function faces(outputs, width, score = SCORE, overlap = OVERLAP) {
  const found = STRIDES.flatMap((stride) => candidates(outputs, width, stride, score));
  found.sort((one, other) => other.score - one.score);
  const kept = [];
  for (const face of found) if (kept.every((other) => shared(face.box, other.box) <= overlap)) kept.push(face);
  return kept;
}

function candidates(outputs, wide, stride, least) {
  const [cls, obj, bbox, kps] = ["cls", "obj", "bbox", "kps"].map((name) => outputs[`${name}_${stride}`]);
  const columns = wide / stride, found = [];
  for (let i = 0; i < cls.length; i++) {
    const score = Math.sqrt(unit(cls[i]) * unit(obj[i]));
    if (score < least) continue;
    const column = i % columns, row = Math.floor(i / columns);
    const [x, y] = [(column + bbox[4 * i]) * stride, (row + bbox[4 * i + 1]) * stride];
    const [width, height] = [Math.exp(bbox[4 * i + 2]) * stride, Math.exp(bbox[4 * i + 3]) * stride];
    const landmarks = [0, 1, 2, 3, 4].map((n) => [
      (kps[10 * i + 2 * n] + column) * stride, (kps[10 * i + 2 * n + 1] + row) * stride,
    ]);
    found.push({ score, box: [x - width / 2, y - height / 2, width, height], landmarks });
  }
  return found;
}

const unit = (value) => Math.min(1, Math.max(0, value));

function shared([x, y, width, height], [u, v, wide, high]) {
  const across = Math.min(x + width, u + wide) - Math.max(x, u), down = Math.min(y + height, v + high) - Math.max(y, v);
  if (across <= 0 || down <= 0) return 0;
  return (across * down) / (width * height + wide * high - across * down);
}
