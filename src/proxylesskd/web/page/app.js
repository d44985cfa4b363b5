// The page: photos in, the answer out. What it computes stands in the other modules.
import * as ort from "./ort/ort.wasm.min.mjs";
import { SIZE, crop, shrunk } from "./geometry.js";
import { cosine, prepare, probability } from "./student.js";
import { faces, input } from "./yunet.js";

const SIDES = [640, 320]; // longest sides at which a photo is looked at, one after the other
const MOST = 4096; // larger photos are brought to this first
const byId = (id) => document.getElementById(id);
const slots = ["first", "second"].map((id) => ({ root: byId(id), embedding: null, photo: null, turn: 0, stream: null }));
let contract, student, detector;

async function load() {
  if (location.protocol === "file:") throw new Error("Serve this folder first: python -m http.server --directory FOLDER");
  ort.env.wasm.wasmPaths = new URL("./ort/", location.href).href;
  ort.env.wasm.numThreads = 1;
  contract = await (await fetch("contract.json")).json();
  const options = { executionProviders: ["wasm"], logSeverityLevel: 3 };
  student = await ort.InferenceSession.create("student.onnx", options);
  detector = await ort.InferenceSession.create("detector.onnx", options);
  byId("model").textContent = `Model: ${contract.name}, ${contract.dim} numbers for a face; thresholds of its evaluation.`;
  offerRates();
  say("waiting", "Ready. Choose two photos.");
}

function offerRates() {
  const rates = Object.entries(contract.thresholds.single ?? {}).sort((one, other) => other[1] - one[1]).reverse();
  byId("far").replaceChildren(...rates.map(([far]) => new Option(spoken(far), far)));
  const usual = rates.map(([far]) => far);
  byId("far").value = usual.includes("1e-3") ? "1e-3" : usual.at(-1);
  byId("far").closest("label").hidden = !rates.length;
}

const spoken = (far) => `1 in ${Math.round(1 / Number(far)).toLocaleString("en")}`;

function say(state, text, detail = "") {
  byId("answer").dataset.state = state;
  byId("verdict").textContent = text;
  byId("detail").textContent = detail;
}

async function pixelsOf(blob) {
  const bitmap = await createImageBitmap(blob).catch(() => {
    throw new Error("This is no picture that the browser can read.");
  });
  return drawn(bitmap, Math.min(1, MOST / Math.max(bitmap.width, bitmap.height)));
}

function drawn(picture, scale) {
  const [width, height] = [picture.width, picture.height].map((side) => Math.max(1, Math.round(side * scale)));
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

async function find(photo) {
  for (const side of SIDES) {
    const scale = Math.min(1, side / Math.max(photo.width, photo.height));
    const [width, height] = [photo.width, photo.height].map((length) => Math.max(1, Math.round(length * scale)));
    const seen = scale < 1 ? shrunk(photo, width, height) : photo;
    const { values, dims } = input(seen);
    const said = await detector.run({ [detector.inputNames[0]]: new ort.Tensor("float32", values, dims) });
    const flat = Object.fromEntries(Object.entries(said).map(([name, tensor]) => [name, tensor.data]));
    const found = faces(flat, dims[3]);
    const back = [photo.width / seen.width, photo.height / seen.height];
    for (const face of found) face.landmarks = face.landmarks.map(([x, y]) => [x * back[0], y * back[1]]);
    if (found.length) return found;
  }
  throw new Error("No face was found. Choose a photo that shows one upright.");
}

async function aligned(photo) {
  if (byId("aligned").checked) {
    if (photo.width !== SIZE || photo.height !== SIZE) {
      throw new Error(`An aligned face has ${SIZE}x${SIZE} pixels; this one has ${photo.width}x${photo.height}.`);
    }
    return { face: photo, note: "Taken as it is." };
  }
  const found = await find(photo);
  const area = ({ box }) => box[2] * box[3];
  const largest = found.reduce((one, other) => (area(other) > area(one) ? other : one));
  const note = found.length > 1 ? `${found.length} faces: the largest is taken.` : "One face.";
  return { face: crop(photo, largest.landmarks), note };
}

export async function embed(face) {
  const { values, dims } = prepare(face, contract);
  const said = await student.run({ image: new ort.Tensor(contract.dtype, values, dims) });
  return said.embedding.data;
}

async function take(slot, blob) {
  const turn = ++slot.turn, part = (name) => slot.root.querySelector(`.${name}`);
  Object.assign(slot, { embedding: null, photo: blob, times: null });
  show(slot, blob);
  part("said").classList.remove("wrong");
  part("said").textContent = "Looking for a face …";
  try {
    await ready;
    const photo = await pixelsOf(blob), started = performance.now();
    const { face, note } = await aligned(photo), cut = performance.now();
    const embedding = await embed(face), done = performance.now();
    if (turn !== slot.turn) return; // another photo was chosen meanwhile
    Object.assign(slot, { embedding, times: [cut - started, done - cut] });
    part("face").getContext("2d").putImageData(new ImageData(face.data, SIZE, SIZE), 0, 0);
    part("face").hidden = false;
    part("said").textContent = note;
  } catch (error) {
    if (turn !== slot.turn) return;
    part("face").hidden = true;
    part("said").classList.add("wrong");
    part("said").textContent = error.message;
  }
  answer();
}

function show(slot, blob) {
  const whole = slot.root.querySelector(".whole");
  URL.revokeObjectURL(whole.src);
  whole.src = URL.createObjectURL(blob);
  whole.hidden = false;
  slot.root.querySelector(".hint").hidden = true;
}

function answer() {
  if (!slots.every((slot) => slot.embedding)) {
    byId("scale").hidden = true;
    const one = slots.some((slot) => slot.embedding);
    say("waiting", one ? "One face is ready. Choose the other photo." : "Choose two photos that show a face each.");
    return;
  }
  const similarity = cosine(slots[0].embedding, slots[1].embedding), far = byId("far").value;
  const threshold = contract.thresholds.single?.[far];
  drawScale(similarity, far);
  const [look, read] = [0, 1].map((k) => slots.reduce((sum, slot) => sum + slot.times[k], 0) / 2);
  byId("timing").textContent = `A photo took ${look.toFixed(0)} ms to find and align its face and ${read.toFixed(0)} ms to read it.`;
  const likely = probability(similarity, contract);
  const odds = likely === null ? "" : ` At even odds before, one person is ${percent(likely)} likely.`;
  if (threshold === undefined) return say("waiting", `Similarity ${similarity.toFixed(3)}`, `This model was exported without thresholds.${odds}`);
  const same = similarity >= threshold;
  const limit = `Similarity ${similarity.toFixed(3)}, ${same ? "at or above" : "below"} the threshold ${threshold.toFixed(3)}.`;
  say(same ? "same" : "different", same ? "Same person" : "Different people", limit + odds);
}

const percent = (share) => (share > 0.9999 ? "more than 99.99 %" : share < 0.0001 ? "less than 0.01 %" : `${(100 * share).toFixed(2)} %`);

function drawScale(similarity, far) {
  const rates = Object.entries(contract.thresholds.single ?? {}).sort((one, other) => one[1] - other[1]);
  const place = (value) => `${100 * Math.min(1, Math.max(0, (value + 0.2) / 1.2))}%`; // -0.2 to 1
  byId("scale").hidden = false;
  byId("mark").style.left = place(similarity);
  byId("thresholds").replaceChildren(...rates.map(([rate, value], i) => {
    const item = document.createElement("li");
    item.textContent = rate;
    item.title = `${value.toFixed(3)}: ${spoken(rate)} strangers is taken for one person`;
    item.style.left = place(value);
    item.classList.toggle("chosen", rate === far);
    item.classList.toggle("low", i % 2 === 1);
    return item;
  }));
}

async function camera(slot) {
  const video = slot.root.querySelector(".live"), button = slot.root.querySelector(".camera");
  if (slot.stream) {
    const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
    canvas.getContext("2d").drawImage(video, 0, 0);
    slot.stream.getTracks().forEach((track) => track.stop());
    Object.assign(slot, { stream: null });
    video.hidden = true;
    button.textContent = "Use the camera";
    return take(slot, await canvas.convertToBlob());
  }
  try {
    slot.stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user" } });
    video.srcObject = slot.stream;
    video.hidden = false;
    await video.play();
    button.textContent = "Take the picture";
  } catch {
    slot.root.querySelector(".said").classList.add("wrong");
    slot.root.querySelector(".said").textContent = "The browser gave no camera.";
  }
}

for (const slot of slots) {
  const drop = slot.root.querySelector(".drop"), chosen = slot.root.querySelector("input");
  chosen.addEventListener("change", () => chosen.files[0] && take(slot, chosen.files[0]));
  drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    if (event.dataTransfer.files[0]) take(slot, event.dataTransfer.files[0]);
  });
  slot.root.querySelector(".camera").addEventListener("click", () => camera(slot));
}
byId("far").addEventListener("change", answer);
byId("aligned").addEventListener("change", () => slots.forEach((slot) => slot.photo && take(slot, slot.photo)));

const ready = load();
ready.catch((error) => say("broken", "The model could not be loaded.", error.message));
export { slots };
