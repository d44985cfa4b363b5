"""One training set in every format: the same batches come out, to the last bit."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from proxylesskd.data.balanced import balanced_plan
from proxylesskd.data.convert import WRITERS, convert
from proxylesskd.data.decode import decode
from proxylesskd.data.loader import CorruptLog, load_batches
from proxylesskd.data.sampler import batch_indices
from proxylesskd.data.source import Source, open_source
from tests.faces import MemorySource

for package in ("pyarrow", "lmdb"):
    pytest.importorskip(package)

BATCH, SIZE, SEED = 8, 32, 11
Batches = list[tuple[int, torch.Tensor, torch.Tensor, torch.Tensor]]


def batches(source: Source, *, balanced: bool = False, workers: int = 2) -> Batches:
    plan = balanced_plan(source.labels, batch=BATCH, seed=SEED, images_per_identity=2) if balanced else None
    start = partial(load_batches, source, batch=BATCH, seed=SEED, start=0, stop=9, size=SIZE, corrupt=CorruptLog())
    return list(start(workers=workers, plan=plan))


def by_loop(source: Source) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """Batches without threads, buffers or the loader: one image after the other."""
    for step in range(9):
        indices = batch_indices(step, length=len(source), batch=BATCH, seed=SEED)
        read = [source.read(int(index)) for index in indices]
        images = [torch.from_numpy(np.array(decode(data, SIZE))) for data, _ in read]
        yield step, torch.stack(images), torch.tensor([label for _, label in read])


def assert_same(found: Batches, wanted: Batches) -> None:
    assert len(found) == len(wanted)
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine[0] == theirs[0]
        for tensor, other in zip(mine[1:], theirs[1:], strict=True):
            assert tensor.dtype == other.dtype
            assert torch.equal(tensor, other)  # type: ignore[arg-type]


def in_all_formats(source: Source, place: Path) -> dict[str, Source]:
    for scheme in WRITERS:
        convert(source, f"{scheme}:{place / scheme}")
    return {scheme: open_source(f"{scheme}:{place / scheme}") for scheme in WRITERS}


@pytest.mark.parametrize("balanced", [False, True])
def test_every_format_gives_the_same_training_batches(tmp_path: Path, balanced: bool) -> None:
    faces = MemorySource(6, 4)
    wanted = batches(faces, balanced=balanced)
    for source in in_all_formats(faces, tmp_path).values():
        assert_same(batches(source, balanced=balanced, workers=3), wanted)
    assert len({tuple(labels.tolist()) for _, _, labels, _ in wanted}) > 1, "the order tells nothing"


def test_the_batches_are_those_of_a_plain_loop(tmp_path: Path) -> None:
    faces = MemorySource(6, 4)
    for source in (faces, *in_all_formats(faces, tmp_path).values()):
        for (step, images, labels, _), wanted in zip(batches(source), by_loop(faces), strict=True):
            assert step == wanted[0]
            assert torch.equal(images, wanted[1])
            assert torch.equal(labels, wanted[2])


def test_a_broken_image_is_replaced_alike_in_every_format(tmp_path: Path) -> None:
    faces = MemorySource(6, 4)
    faces.spoil(9)
    for source in in_all_formats(faces, tmp_path).values():
        assert_same(batches(source), batches(faces))


def test_synthetic_faces_in_every_format(tmp_path: Path) -> None:
    """The faces of the demo, from the renderer itself and from files."""
    for package in ("anny", "numba", "cv2"):
        pytest.importorskip(package)
    faces = open_source("synthetic:identities=3,images=3,seed=1")
    formats = in_all_formats(faces, tmp_path)
    wanted = batches(formats.pop("folder"))
    assert torch.equal(wanted[0][1][0], torch.from_numpy(np.array(decode(faces.read(int(wanted[0][3][0]))[0], SIZE))))
    for source in formats.values():
        assert_same(batches(source), wanted)
