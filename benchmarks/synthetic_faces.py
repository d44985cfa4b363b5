"""How well a face recogniser trained on real faces tells synthetic identities apart, and how fast they render.

Usage: python benchmarks/synthetic_faces.py --teacher MODEL.onnx [--identities 200] [--images 6] [--seed 0]

The model is fed one image at a time as NCHW float RGB 0..255, which suits OpenCV's SFace.
"""

from __future__ import annotations

import argparse
import io
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from PIL import Image

from proxylesskd.synthetic.faces import face_jpeg

Floats = npt.NDArray[np.float64]


def render_all(identities: int, images: int, seed: int) -> tuple[list[bytes], float]:
    """Return the encoded faces, identity by identity, and the CPU seconds an image took."""
    face_jpeg(seed, 0, 0)  # loads the head and compiles; not part of the speed
    start = time.process_time()
    faces = [face_jpeg(seed, identity, image) for identity in range(identities) for image in range(images)]
    return faces, (time.process_time() - start) / len(faces)


def embed(faces: list[bytes], teacher: Path) -> Floats:
    """Return unit embeddings [N, D]."""
    model = onnx.load(teacher)
    nodes = model.graph.node
    stored = {weight.name for weight in model.graph.initializer}
    used = {name for node in nodes for name in node.input} - stored
    wanted = [value for value in model.graph.input if value.name in used]  # some files list weights here too
    del model.graph.input[:]
    model.graph.input.extend(wanted)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    rows = []
    for face in faces:
        pixels = np.asarray(Image.open(io.BytesIO(face)).convert("RGB"), np.float32).transpose(2, 0, 1)[None]
        rows.append(session.run(None, {name: pixels})[0][0])
    embeddings = np.stack(rows).astype(np.float64)
    return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)


def measure(embeddings: Floats, labels: npt.NDArray[np.int64]) -> dict[str, str]:
    """Return the verification table over all pairs, and rank-1 with one gallery image per identity."""
    similarity = embeddings @ embeddings.T
    above = np.triu_indices(len(labels), 1)
    genuine = labels[above[0]] == labels[above[1]]
    same, other = similarity[above][genuine], np.sort(similarity[above][~genuine])
    auc = np.searchsorted(other, same).mean() / len(other)
    table = {"AUC": f"{auc:.4f}"}
    for rate in (1e-2, 1e-3):
        table[f"TAR at FAR {rate:g}"] = f"{(same > other[int(np.ceil(len(other) * (1 - rate))) - 1]).mean():.3f}"
    gallery = np.unique(labels, return_index=True)[1]
    probes = np.setdiff1d(np.arange(len(labels)), gallery)
    best = labels[gallery][similarity[np.ix_(probes, gallery)].argmax(1)]
    table["rank-1"] = f"{(best == labels[probes]).mean():.3f}"
    table["same identity"] = f"{same.mean():.2f} +- {same.std():.2f}"
    table["different identities"] = f"{other.mean():.2f} +- {other.std():.2f}"
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--identities", type=int, default=200)
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    faces, seconds = render_all(options.identities, options.images, options.seed)
    labels = np.repeat(np.arange(options.identities), options.images)
    table = measure(embed(faces, options.teacher), labels)
    table["CPU milliseconds an image"] = f"{1000 * seconds:.1f}"
    table["images a second on one core"] = f"{1 / seconds:.1f}"
    for name, value in table.items():
        print(f"{name:28} {value}")


if __name__ == "__main__":
    main()
