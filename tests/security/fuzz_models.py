"""The readers of networks and of last layers: checkpoints, arrays, graphs, classifiers."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.security.target import Files, Planted, Target, attempt, collect, poison

ROWS = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)


def torch_bytes(content: Any, *, zipped: bool = True) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def checkpoint_seeds(folder: Path) -> list[Files]:
    """Checkpoints whole, in shards and as safetensors."""
    import safetensors.torch
    import torch

    rows = torch.from_numpy(ROWS)
    wrapped = {"state_dict_softmax_fc": {"weight": rows}, "epoch": 3, "state_dict_backbone": {"c": rows[:, :2]}}
    return [
        {"t.pt": torch_bytes({"weight": rows})},
        {"t.pt": torch_bytes({"weight": rows, "bias": rows[:, 0]}, zipped=False)},
        {"t.pt": torch_bytes({"weight": rows, "more": Planted()})},
        {"t.pt": pickle.dumps({"weight": ROWS, "more": Planted()}, 2)},
        {f"checkpoint_gpu_{rank}.pt": torch_bytes(wrapped) for rank in (0, 1)},
        {f"classifier_rank{rank}.pt": torch_bytes({"partial_fc.weight": rows}) for rank in (0, 1)},
        {"t.safetensors": safetensors.torch.save({"weight": rows.half(), "n": torch.arange(3)}, {"a": "b"})},
    ]


def array_seeds(folder: Path) -> list[Files]:
    seeds = []
    for packed in (np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        packed(buffer, weight=ROWS, bias=ROWS[:, 0])
        seeds.append({"t.npz": buffer.getvalue()})
    objects = np.array([[Planted()]], dtype=object)
    for array in (ROWS, np.asfortranarray(ROWS.astype(">f8")), objects):
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=True)
        seeds.append({"t.npy": buffer.getvalue()})
    return seeds


def keras_seeds(folder: Path) -> list[Files]:
    import h5py

    def stored(fill: Any, **how: Any) -> bytes:
        buffer = io.BytesIO()
        with h5py.File(buffer, "w", **how) as file:
            fill(file)
        return buffer.getvalue()

    def plain(file: Any) -> None:
        file.create_dataset("logits/logits/kernel:0", data=ROWS.T)
        file.create_dataset("logits/logits/bias:0", data=ROWS[:, 0])
        file.attrs["poison"] = np.void(poison())

    def chunked(file: Any) -> None:
        data = np.tile(ROWS.T, (1, 5))
        file.create_dataset("a/arcface/norm_dense_w:0", data=data, chunks=(2, 10), compression="gzip", shuffle=True)
        file.create_dataset("b/kernel", data=data, chunks=(4, 5), compression="lzf", fletcher32=True)

    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as keras:
        keras.writestr("model.weights.h5", stored(plain))
        keras.writestr("config.json", "{}")
    both = [stored(fill, libver=version) for fill in (plain, chunked) for version in ("earliest", "latest")]
    return [*({"t.h5": data} for data in both), {"t.keras": archive.getvalue()}]


def graph_seeds(folder: Path) -> list[Files]:
    from onnx import helper

    from tests.models.graphs import DIM, write_graph

    half, scale = np.float32(127.5), np.full((1, 3, 1, 1), 1 / 128, np.float32)
    before = [helper.make_node("Sub", ["input", "half"], ["s"]), helper.make_node("Mul", ["s", "scale"], ["pixels"])]
    product = [helper.make_node("MatMul", ["flat", "w"], ["x"])]
    write_graph(folder / "a", before=before, pixels="pixels", constants={"half": np.array(half), "scale": scale})
    write_graph(folder / "b", after=product, constants={"w": np.ones((DIM, 20), "f4")}, output=("x", ["n", 20]))
    write_graph(folder / "c", nhwc=True, batch=1, weights_as_inputs=True, tail=(1, DIM))
    return [{"t.onnx": data} for data in collect(folder).values()]


def read_last_layer(folder: Path) -> None:
    """Read a head from a file by name, or from the folder of its shards."""
    from proxylesskd.classifier.from_checkpoint import read_head
    from proxylesskd.models.checkpoint import read_state_dict

    files = [path for path in sorted(folder.iterdir()) if path.is_file()]
    held = sum(path.stat().st_size for path in files)
    if files[0].suffix in (".pt", ".safetensors"):
        attempt(lambda: read_state_dict(files[0]))
    head = read_head(folder if len(files) > 1 else files[0])
    assert head.rows.ndim == 2
    assert head.rows.numel() <= max(held, 1 << 24)


def read_network_graph(folder: Path) -> None:
    from proxylesskd.classifier.from_checkpoint import read_head
    from proxylesskd.models import onnx_graph

    attempt(lambda: read_head(folder / "t.onnx"))
    model, _ = onnx_graph.read_graph(folder / "t.onnx")
    attempt(lambda: onnx_graph.recorded_preprocessing(model))
    wanted = onnx_graph.image_input(model)
    onnx_graph.output_shapes(model)
    onnx_graph.output_operators(model)
    onnx_graph.detected_scaling(model)
    if wanted.batch is not None:
        onnx_graph.freed_batch(model, wanted.batch)


def classifier_seeds(folder: Path) -> list[Files]:
    import torch

    from proxylesskd.classifier.classifier import InheritedClassifier

    rows, names = torch.from_numpy(ROWS), ["é", *map(str, range(8))]
    classifier = InheritedClassifier(rows, names, {"how": "by hand", "files": ["a"]})
    for store in ("float32", "int8"):
        classifier.save(folder / f"{store}.safetensors", store)
    return [{"classifier.safetensors": data} for data in collect(folder).values()]


def read_own_classifier(folder: Path) -> None:
    from proxylesskd.classifier.classifier import InheritedClassifier

    found = InheritedClassifier.load(folder / "classifier.safetensors")
    assert len(found.identities) == len(found.rows)
    assert all(isinstance(name, str) for name in found.identities)
    found.describe()


def model_seeds(folder: Path) -> list[Files]:
    """A whole model, and one whose header has been kept apart from its weights to be changed more often."""
    from proxylesskd.models.preprocess import Preprocessing
    from proxylesskd.models.registry import create_model
    from proxylesskd.models.weights import save_model

    save_model(folder / "m.safetensors", create_model("mobilefacenet", dim=8, width=0.125), Preprocessing())
    return [{"m.safetensors": (folder / "m.safetensors").read_bytes()}]


def read_model(folder: Path) -> None:
    from proxylesskd.models.weights import load_model, read_metadata

    path = folder / "m.safetensors"
    attempt(lambda: json.dumps(read_metadata(path)))
    load_model(path)


TARGETS: dict[str, Target] = {
    "checkpoint": Target(checkpoint_seeds, read_last_layer),
    "arrays": Target(array_seeds, read_last_layer),
    "keras": Target(keras_seeds, read_last_layer),
    "onnx": Target(graph_seeds, read_network_graph),
    "classifier": Target(classifier_seeds, read_own_classifier),
    "model": Target(model_seeds, read_model),
}
