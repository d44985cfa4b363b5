"""Batches, against a loop that decodes one image after the other."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from proxylesskd.data.loader import CorruptLog, iterate, load_batches
from proxylesskd.data.sampler import batch_indices
from proxylesskd.errors import UserError


def face(index: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(index).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


class Memory:
    """A source in memory: image i is noise from seed i, its label i // 3; some are corrupt, some are slow."""

    def __init__(self, count: int, corrupt: Sequence[int] = (), slow: Sequence[int] = ()) -> None:
        self.data = [b"broken" if i in corrupt else png(face(i)) for i in range(count)]
        self.slow = set(slow)
        self.labels = np.arange(count, dtype=np.int64) // 3
        self.identities = [str(i) for i in range(count // 3 + 1)]
        self.reads: list[int] = []

    def __len__(self) -> int:
        return len(self.data)

    def read(self, index: int) -> tuple[bytes, int]:
        self.reads.append(index)
        if index in self.slow:
            time.sleep(0.01)
        return self.data[index], int(self.labels[index])

    def name(self, index: int) -> str:
        return f"image-{index}"


def pixels_of(indices: Sequence[int]) -> torch.Tensor:
    return torch.from_numpy(np.stack([face(i).transpose(2, 0, 1) for i in indices]))


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_batches_are_those_of_the_sampler(workers: int) -> None:
    source = Memory(20, slow=[1, 5, 13])
    log = CorruptLog()
    steps = []
    for step, images, labels, indices in load_batches(
        source, batch=7, seed=3, start=2, stop=9, size=16, workers=workers, corrupt=log
    ):
        expected = batch_indices(step, length=20, batch=7, seed=3)
        assert indices.tolist() == expected.tolist()
        assert labels.tolist() == [i // 3 for i in expected]
        assert labels.dtype == indices.dtype == torch.int64
        assert torch.equal(images, pixels_of(expected.tolist()))
        steps.append(step)
    assert steps == list(range(2, 9))
    assert log.seen == 49
    assert log.entries == {}


def test_ranks_share_an_epoch() -> None:
    source = Memory(12)
    seen: list[int] = []
    for rank in range(3):
        loaded = load_batches(
            source, batch=2, seed=0, start=0, stop=2, size=16, corrupt=CorruptLog(), rank=rank, world=3
        )
        seen += [i for *_, indices in loaded for i in indices.tolist()]
    assert sorted(seen) == list(range(12))


def test_resuming_gives_the_same_batches() -> None:
    source = Memory(10, corrupt=[4])
    whole = list(load_batches(source, batch=4, seed=1, start=0, stop=6, size=16, corrupt=CorruptLog()))
    resumed = list(load_batches(source, batch=4, seed=1, start=3, stop=6, size=16, corrupt=CorruptLog()))
    for a, b in zip(whole[3:], resumed, strict=True):
        assert a[0] == b[0]
        assert all(torch.equal(x, y) for x, y in zip(a[1:], b[1:], strict=True))


@pytest.mark.parametrize("workers", [1, 4])
def test_a_corrupt_image_is_replaced_by_the_next_whole_one(workers: int) -> None:
    source = Memory(30, corrupt=[28, 29, 0, 11])
    stands_in = {28: 1, 29: 1, 0: 1, 11: 12}
    log = CorruptLog()
    for step, images, labels, indices in load_batches(
        source, batch=10, seed=5, start=0, stop=3, size=16, workers=workers, corrupt=log
    ):
        asked = batch_indices(step, length=30, batch=10, seed=5).tolist()
        expected = [stands_in.get(i, i) for i in asked]
        assert indices.tolist() == expected
        assert labels.tolist() == [i // 3 for i in expected]
        assert torch.equal(images, pixels_of(expected))
    assert sorted(log.entries) == [0, 11, 28, 29]
    assert log.entries[11].startswith("image-11: expected")
    assert log.summary().startswith("4 corrupt in 30 images read, first image-")


def test_a_corrupt_image_is_decoded_but_once() -> None:
    source = Memory(10, corrupt=[4])
    list(load_batches(source, batch=5, seed=1, start=0, stop=20, size=16, workers=1, corrupt=CorruptLog()))
    assert source.reads.count(4) == 1


def test_nothing_but_corrupt_images_stops_training() -> None:
    source = Memory(6, corrupt=range(6))
    with pytest.raises(UserError, match="expected whole images, found none near image-"):
        list(load_batches(source, batch=2, seed=0, start=0, stop=1, size=16, corrupt=CorruptLog()))


def test_more_than_a_tenth_corrupt_stops_training() -> None:
    source = Memory(200, corrupt=range(0, 200, 8))
    with pytest.raises(UserError, match=r"expected at most 10 % corrupt images, found \d+ corrupt in"):
        list(load_batches(source, batch=20, seed=0, start=0, stop=10, size=16, corrupt=CorruptLog()))


def test_the_log_forgives_a_tenth_and_small_numbers() -> None:
    log = CorruptLog()
    log.add(99, {i: f"{i}: bad" for i in range(10)})
    log.add(1, {})
    assert log.summary() == "10 corrupt in 100 images read, first 0: bad"
    with pytest.raises(UserError, match="11 corrupt in 101"):
        log.add(1, {10: "10: bad"})
    assert CorruptLog().summary() == "no corrupt images in 0 read"


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("batch", [1, 4, 100])
def test_one_pass_in_order_leaves_the_corrupt_out(workers: int, batch: int) -> None:
    source = Memory(11, corrupt=[0, 6], slow=[2])
    log = CorruptLog()
    images, labels, indices = [], [], []
    for x, y, i in iterate(source, batch=batch, size=16, workers=workers, corrupt=log):
        assert 1 <= len(x) == len(y) == len(i) <= batch
        images.append(x)
        labels += y.tolist()
        indices += i.tolist()
    kept = [i for i in range(11) if i not in (0, 6)]
    assert indices == kept
    assert labels == [i // 3 for i in kept]
    assert torch.equal(torch.cat(images), pixels_of(kept))
    assert sorted(log.entries) == [0, 6]
    assert log.seen == 11


def test_a_pass_over_nothing_whole_is_an_error() -> None:
    with pytest.raises(UserError, match="expected whole images, found 5 corrupt in 5 images read"):
        list(iterate(Memory(5, corrupt=range(5)), batch=2, size=16, corrupt=CorruptLog()))


def test_an_image_of_another_size_is_resized() -> None:
    images, _, _ = next(iterate(Memory(3), batch=3, size=8, corrupt=CorruptLog()))
    assert images.shape == (3, 3, 8, 8)


def decoding_threads() -> int:
    return sum(t.name.startswith("decode") for t in threading.enumerate())


def test_stopping_early_ends_the_threads() -> None:
    before = decoding_threads()
    loaded = load_batches(Memory(50), batch=4, seed=0, start=0, stop=10**9, size=16, workers=3, corrupt=CorruptLog())
    next(loaded)
    assert decoding_threads() == before + 3
    loaded.close()  # type: ignore[attr-defined]
    assert decoding_threads() == before


def test_an_error_of_the_source_arrives_and_ends_the_threads() -> None:
    class Failing(Memory):
        def read(self, index: int) -> tuple[bytes, int]:
            raise RuntimeError(f"the disk of image {index} is on fire")

    before = decoding_threads()
    with pytest.raises(RuntimeError, match="on fire"):
        list(iterate(Failing(9), batch=2, size=16, corrupt=CorruptLog()))
    assert decoding_threads() == before


def test_decoding_ahead_is_bounded() -> None:
    source = Memory(300)
    loaded = iterate(source, batch=10, size=16, workers=2, corrupt=CorruptLog(), prefetch=2)
    next(loaded)
    time.sleep(0.2)
    assert len(source.reads) <= 30


@pytest.mark.parametrize("wrong", ["batch", "workers", "prefetch", "size"])
def test_senseless_numbers_are_refused(wrong: str) -> None:
    numbers = {"batch": 2, "workers": 1, "prefetch": 1, "size": 16, wrong: 0}
    with pytest.raises(UserError, match=f"expected {wrong} >= 1, found 0"):
        next(iterate(Memory(3), corrupt=CorruptLog(), **numbers))
    with pytest.raises(UserError, match=f"expected {wrong} >= 1, found 0"):
        next(load_batches(Memory(3), seed=0, start=0, stop=1, corrupt=CorruptLog(), **numbers))


def test_another_plan_takes_the_place_of_the_sampler() -> None:
    source = Memory(9, corrupt=[4])
    log = CorruptLog()
    asked: list[int] = []

    def plan(step: int) -> npt.NDArray[np.int64]:
        asked.append(step)
        return np.array([step, 8 - step, step], dtype=np.int64)

    found = list(load_batches(source, batch=3, seed=0, start=1, stop=5, size=16, corrupt=log, plan=plan))
    expected = [[1, 7, 1], [2, 6, 2], [3, 5, 3], [5, 5, 5]]
    assert [indices.tolist() for _, _, _, indices in found] == expected
    assert [labels.tolist() for _, _, labels, _ in found] == [[i // 3 for i in row] for row in expected]
    assert [step for step, *_ in found] == asked == [1, 2, 3, 4]
    assert torch.equal(found[0][1], pixels_of([1, 7, 1]))
