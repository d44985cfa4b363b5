"""What exporting does to a student: size, speed and accuracy of its files, and its speed against an IResNet-50.

python benchmarks/export.py RUN --images folder:FACES --pairs PAIRS [--root FOLDER] [--teacher MODEL]

The run folder is copied, exported as fp32, fp16 and int8 through the gate, and the files are called in turn in random
order, round by round; ratios are taken within a round. The IResNet-50 has random weights, which its speed does not
depend on.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from interleave import Run, interleave, ratio

from proxylesskd.data.pairs import read_pairs
from proxylesskd.export.assemble import FLOAT, assemble
from proxylesskd.export.contract import open_session, prepare
from proxylesskd.export.graph import tidy
from proxylesskd.export.onnx import float_file, frozen_copy, network_graph
from proxylesskd.export.package import Delivery
from proxylesskd.export.search import quantised
from proxylesskd.finish import export_files
from proxylesskd.models.preprocess import Preprocessing
from proxylesskd.models.registry import create_model

LARGE = "iresnet50"
Faces = npt.NDArray[np.uint8]


def write_large(path: Path) -> Path:
    """Write the usual teacher's network: IResNet-50 of 512 dimensions at 112 pixels."""
    preprocessing = Preprocessing()
    body = network_graph(frozen_copy(create_model(LARGE, dim=512, image_size=112)), preprocessing)
    path.write_bytes(float_file(body, preprocessing, FLOAT).SerializeToString())
    return path


def write_usual(place: Path, faces: Faces) -> dict[str, Path]:
    """Write a student of the usual size with random weights, in float and in eight bits: 1.2 million parameters."""
    preprocessing = Preprocessing()
    body = network_graph(frozen_copy(create_model("mobilefacenet", dim=512, image_size=112)), preprocessing)
    prepared = prepare(faces, preprocessing)
    eight, _ = quantised(body, prepared[:32], prepared[32:48], target=-1.0, methods=("minmax",))
    protos = {"onnx": float_file(body, preprocessing, FLOAT), "int8": assemble(eight, preprocessing, FLOAT)}
    for name, proto in protos.items():
        tidy(proto)
        (place / f"usual-{name}.onnx").write_bytes(proto.SerializeToString())
    sizes = {name: (place / f"usual-{name}.onnx").stat().st_size for name in protos}
    ratio = sizes["onnx"] / sizes["int8"]
    print(f"MobileFaceNet, 512-d at 112 pixels: int8 {ratio:.2f} times smaller ({sizes['int8']:,} bytes)", flush=True)
    return {name: place / f"usual-{name}.onnx" for name in protos}


def calls(files: Mapping[str, Path], batch: int, threads: int) -> dict[str, Callable[[], Run]]:
    """Return by name what opens a file and returns one call of it."""

    def opened(path: Path) -> Run:
        session = open_session(path, threads=threads)
        first = session.get_inputs()[0]
        image = np.random.default_rng(0).uniform(-1, 1, (batch, *first.shape[1:])).astype(np.float32)
        return lambda: session.run(None, {first.name: image})

    runs = {name: opened(path) for name, path in files.items()}
    return {name: (lambda run=run: many(run)) for name, run in runs.items()}  # type: ignore[misc]


def many(run: Run, times: int = 5) -> Run:
    """Return several calls as one, so that the clock's steps do not count."""

    def repeated() -> Any:
        for _ in range(times):
            run()

    return repeated


def show_goals(delivery: Delivery) -> None:
    """Print what the table says about the goals."""
    made = {one.name: one for one in delivery.artefacts}
    whole, eight = made["onnx"], made["int8"]
    assert whole.agreement is not None
    assert eight.agreement is not None
    print(f"fp32: worst cosine {whole.agreement.cosine.worst_cosine:.7f}")
    print(f"int8: {whole.size / eight.size:.2f} times smaller ({whole.size:,} and {eight.size:,} bytes)")
    print(f"int8: {len(eight.notes['floating'])} of {eight.notes['layers']} layers float, {eight.notes['method']}")
    for name, change in (("accuracy", eight.agreement.accuracy), ("TAR", eight.agreement.tar)):
        if change is not None:
            own = f"own interval [{100 * change.own[0]:.2f}, {100 * change.own[1]:.2f}]"
            ends = f"[{100 * change.lower:+.2f}, {100 * change.upper:+.2f}]"
            print(f"int8: {name} {100 * change.file:.2f} of {100 * change.network:.2f}, {own}, change {ends}")


def main() -> None:
    """Export, then time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--images", required=True)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--teacher")
    parser.add_argument("--usual", action="store_true", help="sizes and times of an untrained MobileFaceNet too")
    parser.add_argument("--rounds", type=int, default=30)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        run = Path(place) / "run"
        shutil.copytree(asked.run, run, ignore=shutil.ignore_patterns("checkpoints"))
        delivery = export_files(
            run,
            asked.images,
            formats=("onnx", "fp16", "int8"),
            pairs=read_pairs(asked.pairs, asked.root),
            teacher=asked.teacher,
        )
        print(delivery.table, flush=True)
        show_goals(delivery)
        files = {one.name: one.path for one in delivery.artefacts}
        large = {LARGE: write_large(Path(place) / "large.onnx")}
        compare(files, large, asked.rounds)
        if asked.usual:
            faces = read_pairs(asked.pairs, asked.root).images[:48]
            print("the usual size:")
            compare(write_usual(Path(place), faces), large, asked.rounds)


def compare(files: Mapping[str, Path], large: Mapping[str, Path], rounds: int) -> None:
    """Print ratios of times of one thread."""
    device = torch.device("cpu")
    for batch in (1, 32):
        timings = interleave(calls(files, batch, 1), rounds=rounds, seconds=120, device=device)
        for name in (name for name in files if name != "onnx"):
            print(
                f"batch {batch}: fp32 takes {ratio(timings['onnx'], timings[name])} times the time of {name}",
                flush=True,
            )
    timings = interleave(calls({**files, **large}, 1, 1), rounds=rounds, seconds=120, device=device)
    for name in files:
        print(f"batch 1: {LARGE} takes {ratio(timings[LARGE], timings[name])} times the time of {name}", flush=True)


if __name__ == "__main__":
    main()
