"""From a source to batches: threads decode ahead, what comes out depends on (seed, step) alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

from proxylesskd.data.decode import decode_into
from proxylesskd.data.sampler import batch_indices
from proxylesskd.data.source import Source
from proxylesskd.errors import CorruptImageError, UserError

Indices = npt.NDArray[np.int64]
Batch = tuple[int, torch.Tensor, torch.Tensor, torch.Tensor]


@dataclass
class CorruptLog:
    """Counts and names the corrupt images of a source.

    Attributes:
        seen: how many images were asked for.
        entries: index of a corrupt image -> its name and what is wrong with it.
    """

    MIN_SEEN = 100
    MAX_SHARE = 0.1

    seen: int = 0
    entries: dict[int, str] = field(default_factory=dict)

    def add(self, asked: int, failures: dict[int, str]) -> None:
        """Count ``asked`` images, of which those in ``failures`` are corrupt.

        Raises:
            UserError: more than a tenth of at least 100 images are corrupt: that is no accident.
        """
        self.seen += asked
        self.entries.update(failures)
        if self.seen >= self.MIN_SEEN and len(self.entries) > self.MAX_SHARE * self.seen:
            raise UserError(f"expected at most 10 % corrupt images, found {self.summary()}; mend the data")

    def summary(self) -> str:
        """Return one line: how many are corrupt and the first of them."""
        if not self.entries:
            return f"no corrupt images in {self.seen} read"
        first = next(iter(self.entries.values()))
        return f"{len(self.entries)} corrupt in {self.seen} images read, first {first}"


class _Decoder:
    """Decodes by index and remembers which indices failed; shared by the worker threads."""

    def __init__(self, source: Source, size: int) -> None:
        self.source = source
        self.size = size
        self.failed: dict[int, str] = {}

    def try_decode(self, index: int, out: npt.NDArray[np.uint8]) -> bool:
        """Decode image ``index`` into ``out [size, size, 3]``; return whether it was whole."""
        if index in self.failed:
            return False
        try:
            decode_into(self.source.read(index)[0], out)
        except CorruptImageError as error:
            self.failed[index] = f"{self.source.name(index)}: {error}"
            return False
        return True

    def substitute(self, index: int, out: npt.NDArray[np.uint8]) -> int:
        """Decode the next image after ``index`` that is whole; return its index."""
        length = len(self.source)
        # A longer run of corrupt images than a tenth of everything would be refused anyway.
        for offset in range(1, min(length, max(100, length // 10) + 2)):
            candidate = (index + offset) % length
            if self.try_decode(candidate, out):
                return candidate
        raise UserError(f"expected whole images, found none near {self.failed[index]}; mend or replace the source")

    def fill(self, indices: Indices, out: npt.NDArray[np.uint8]) -> None:
        """Decode ``indices`` into ``out``; write the index of the substitute where one is corrupt."""
        for row, index in enumerate(indices.tolist()):
            if not self.try_decode(index, out[row]):
                indices[row] = self.substitute(index, out[row])

    def mark(self, indices: Indices, out: npt.NDArray[np.uint8]) -> None:
        """Decode ``indices`` into ``out``; write -1 where one is corrupt."""
        for row, index in enumerate(indices.tolist()):
            if not self.try_decode(index, out[row]):
                indices[row] = -1


@dataclass
class _Pending:
    """One batch under way: the threads write into ``images [b, size, size, 3]`` and ``found [b]``."""

    asked: Indices
    found: Indices
    images: npt.NDArray[np.uint8]
    parts: list[Future[None]]

    def wait(self) -> None:
        for part in self.parts:
            part.result()


def _submit(pool: ThreadPoolExecutor, decoder: _Decoder, asked: Indices, workers: int, *, replace: bool) -> _Pending:
    images = np.empty((len(asked), decoder.size, decoder.size, 3), dtype=np.uint8)
    found = asked.copy()
    work = decoder.fill if replace else decoder.mark
    edges = np.linspace(0, len(asked), workers + 1).astype(int).tolist()
    spans = [slice(a, b) for a, b in pairwise(edges) if b > a]
    return _Pending(asked, found, images, [pool.submit(work, found[s], images[s]) for s in spans])


def _decoded(
    decoder: _Decoder,
    batches: Iterable[Indices],
    *,
    workers: int,
    prefetch: int,
    replace: bool,
    corrupt: CorruptLog,
) -> Generator[_Pending, None, None]:
    """Yield batches in order while the threads work on the next ``prefetch`` ones."""
    pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="decode")
    pending: deque[_Pending] = deque()
    todo = iter(batches)
    try:
        while True:
            while len(pending) <= prefetch and (asked := next(todo, None)) is not None:
                pending.append(_submit(pool, decoder, asked, workers, replace=replace))
            if not pending:
                return
            done = pending.popleft()
            done.wait()
            missed = done.asked[done.asked != done.found].tolist()
            corrupt.add(len(done.asked), {i: decoder.failed[i] for i in missed})
            yield done
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _channels_first(images: npt.NDArray[np.uint8]) -> torch.Tensor:
    """Return ``[b, size, size, 3]`` seen as ``[b, 3, size, size]``; the device brings it into that order in memory."""
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise UserError(f"expected {name} >= 1, found {count}")


def load_batches(
    source: Source,
    *,
    batch: int,
    seed: int,
    start: int,
    stop: int,
    size: int = 112,
    workers: int = 2,
    corrupt: CorruptLog,
    rank: int = 0,
    world: int = 1,
    prefetch: int = 3,
    plan: Callable[[int], Indices] | None = None,
) -> Iterator[Batch]:
    """Yield the training batches of steps ``start`` to ``stop - 1``.

    A corrupt image is counted and replaced by the next image of the source that is whole, with that one's label
    and index: batches keep their size and remain a pure function of (seed, step).

    Args:
        source: where images come from.
        batch: samples per step on this rank.
        seed: of the order of samples, see :func:`proxylesskd.data.sampler.batch_indices`.
        start: first step.
        stop: one past the last step.
        size: height and width of the images in pixels.
        workers: decoding threads; the result does not depend on it.
        corrupt: receives what was corrupt.
        rank: this process, in ``[0, world)``.
        world: number of processes.
        prefetch: how many batches are decoded ahead, which bounds memory.
        plan: another order of samples: from a step to the ``[batch]`` indices of this rank, which then take the place
            of those of ``seed``, ``rank`` and ``world``; see :func:`proxylesskd.data.balanced.balanced_plan`.

    Yields:
        step, images ``[batch, 3, size, size] uint8`` RGB (channels last in memory), labels ``[batch] int64``, indices
        ``[batch] int64``.

    Raises:
        UserError: too many images are corrupt, or a size is not positive.
    """
    _check_counts(batch=batch, workers=workers, prefetch=prefetch, size=size)
    length = len(source)
    if plan is None:
        plan = partial(batch_indices, length=length, batch=batch, seed=seed, rank=rank, world=world)
    todo = (plan(step) for step in range(start, stop))
    labels = source.labels
    decoded = _decoded(_Decoder(source, size), todo, workers=workers, prefetch=prefetch, replace=True, corrupt=corrupt)
    with closing(decoded):
        for step, done in zip(range(start, stop), decoded, strict=True):
            chosen = done.found
            yield step, _channels_first(done.images), torch.from_numpy(labels[chosen]), torch.from_numpy(chosen)


def iterate(
    source: Source,
    *,
    batch: int,
    size: int = 112,
    workers: int = 2,
    corrupt: CorruptLog,
    prefetch: int = 3,
    only: Iterable[int] | None = None,
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Yield all images once, in order; corrupt ones are counted and left out, so a batch may be shorter.

    Args:
        source: where images come from.
        batch: images per batch, at most.
        size: height and width of the images in pixels.
        workers: decoding threads; the result does not depend on it.
        corrupt: receives what was corrupt.
        prefetch: how many batches are decoded ahead, which bounds memory.
        only: numbers of the batches wanted, batch k being the images from ``k * batch`` on; all of them unless given.

    Yields:
        images ``[b, 3, size, size] uint8`` RGB (channels last in memory), labels ``[b] int64``, indices ``[b] int64``,
        with 1 <= b <= batch.

    Raises:
        UserError: too many images are corrupt, or all of them and ``only`` is not given, or a size is not positive.
    """
    _check_counts(batch=batch, workers=workers, prefetch=prefetch, size=size)
    length = len(source)
    starts = range(0, length, batch) if only is None else (number * batch for number in only)
    plan = (np.arange(i, min(i + batch, length), dtype=np.int64) for i in starts)
    decoded = _decoded(_Decoder(source, size), plan, workers=workers, prefetch=prefetch, replace=False, corrupt=corrupt)
    labels, whole = source.labels, 0
    with closing(decoded):
        for done in decoded:
            kept = done.found[done.found >= 0]
            whole += len(kept)
            if len(kept):
                images = done.images if len(kept) == len(done.found) else done.images[done.found >= 0]
                yield _channels_first(images), torch.from_numpy(labels[kept]), torch.from_numpy(kept)
    if not whole and only is None:
        raise UserError(f"expected whole images, found {corrupt.summary()}; mend or replace the source")
