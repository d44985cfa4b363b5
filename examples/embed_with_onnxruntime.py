"""How alike are faces? With an exported file, numpy, pillow and onnxruntime alone.

python embed_with_onnxruntime.py student.onnx first.png second.png

The faces are aligned 112x112 crops. All that has to be done to them stands in the file.
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image


def embed(session: onnxruntime.InferenceSession, paths: list[str]) -> np.ndarray:
    """Turn aligned faces into ``[M, D]`` embeddings of unit length."""
    wants = (told := contract(session))["preprocessing"]
    faces = np.stack([np.asarray(Image.open(path).convert("RGB"), np.float32) for path in paths])
    faces = faces.transpose(0, 3, 1, 2)[:, :: 1 if wants["order"] == "rgb" else -1]
    area = average(faces.shape[2], wants["size"])
    faces = (area @ faces @ area.T - wants["mean"]) / wants["std"]
    faces = faces.transpose(0, 2, 3, 1) if wants["layout"] == "nhwc" else faces
    return session.run(["embedding"], {"image": np.ascontiguousarray(faces, told["dtype"])})[0]


def contract(session: onnxruntime.InferenceSession) -> dict:
    """Return what the file says of itself."""
    return json.loads(session.get_modelmeta().custom_metadata_map["proxylesskd"])


def average(length: int, size: int) -> np.ndarray:
    """Return ``[size, length]``: each row averages the pixels under one pixel of the smaller image."""
    row, pixel = np.arange(size)[:, None], np.arange(length)
    under = (pixel >= row * length // size) & (pixel < -(-(row + 1) * length // size))
    return (under / under.sum(1, keepdims=True)).astype(np.float32)


if __name__ == "__main__":
    session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
    first, second = embed(session, sys.argv[2:4])
    threshold = contract(session)["thresholds"].get("single", {}).get("1e-3")
    print(f"similarity {first @ second:.4f}, of one person from {threshold}")
