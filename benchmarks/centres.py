"""How fast class centres stream, and in how much memory, beside a plain copy of the same embeddings.

    python benchmarks/centres.py                      # 10,000,000 embeddings of 500,000 identities
    python benchmarks/centres.py --images 500000 --identities 100000

Embeddings come in chunks of 8,192 from a small pool that is drawn once, labels in random order; every chunk is
copied, then summed, so that whatever else the machine does slows both alike. Other replacements of ``numpy.add.at``
get some of the chunks, on a table of the same size. The time is that of the clock, the peak that of the whole process.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch

from proxylesskd.classifier.centres import ClassSums

CHUNK, POOL = 8192, 16  # 16 chunks of 512-d embeddings are 256 MiB, beyond the caches

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Wide = npt.NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000_000)
    parser.add_argument("--identities", type=int, default=500_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--others", type=int, default=0, help="chunks for the other ways; they take more memory")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    random = np.random.default_rng(given.seed)
    pool = [_unit(random, CHUNK, given.dim) for _ in range(POOL)]
    _measure(pool, _labels(random, given.images, given.identities), given.identities)
    if given.others:
        _compare(pool, _labels(random, given.others * CHUNK, given.identities), given.identities)


def _unit(random: np.random.Generator, count: int, dim: int) -> Floats:
    drawn = random.standard_normal((count, dim), dtype=np.float32)
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float32)


def _labels(random: np.random.Generator, images: int, identities: int) -> Iterator[Labels]:
    for start in range(0, images, CHUNK):
        yield random.integers(0, identities, min(CHUNK, images - start))


def _measure(pool: list[Floats], chunks: Iterator[Labels], identities: int) -> None:
    """Print the ratio of speeds and the peak of memory."""
    dim = pool[0].shape[1]
    place = [np.zeros_like(chunk) for chunk in pool]
    warm = ClassSums(2**24 // dim, dim)  # a small table of the same kind: compiles the loop
    warm.add(torch.from_numpy(pool[0]), torch.arange(CHUNK))
    del warm
    start = time.perf_counter()
    sums, images, copying, adding = ClassSums(identities, dim), 0, 0.0, 0.0
    fetching = time.perf_counter() - start  # memory from the system, as was done for the copies beforehand
    for number, labels in enumerate(chunks):
        embeddings = pool[number % POOL][: len(labels)]
        copying += _seconds(lambda: np.copyto(place[number % POOL][: len(labels)], embeddings))  # noqa: B023
        adding += _seconds(lambda: sums.add(torch.from_numpy(embeddings), torch.from_numpy(labels)))  # noqa: B023
        images += len(labels)
    start = time.perf_counter()
    rows = sums.into_rows()
    making = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    buffers = 2 * POOL * CHUNK * dim * 4 / 2**30
    print(f"{images:,} embeddings [{dim}] of {identities:,} identities")
    print(f"table of sums      {fetching:8.2f} s")
    print(f"numpy.copyto       {copying:8.2f} s   {images / copying:12,.0f} embeddings/s")
    print(f"ClassSums.add      {adding:8.2f} s   {images / adding:12,.0f} embeddings/s")
    print(f"into unit rows     {making:8.2f} s   {rows.shape[0] / making:12,.0f} rows/s")
    print(
        f"speed against the copy: {copying / adding:.2f} (adding), {copying / (fetching + adding + making):.2f} (all)"
    )
    print(f"peak memory: {peak:.2f} GiB, of which {buffers:.2f} GiB are this benchmark's own embeddings")
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def _compare(pool: list[Floats], chunks: Iterator[Labels], identities: int) -> None:
    """Print what other ways to add rows at random places take, in times of a copy of the same chunk."""
    table = np.zeros((identities, pool[0].shape[1]))
    table.fill(0)
    place = np.zeros_like(pool[0])
    ways: dict[str, Callable[[Floats, Labels], None]] = {
        "numpy.copyto": lambda embeddings, _: np.copyto(place, embeddings),
        "numpy.add.at": lambda embeddings, labels: np.add.at(table, labels, embeddings),
        "sort, add.reduceat": lambda embeddings, labels: _reduceat(table, embeddings, labels),
        "scipy.sparse": lambda embeddings, labels: _sparse(table, embeddings, labels),
        "torch.index_add_": lambda embeddings, labels: _index_add(table, embeddings, labels),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number, labels in enumerate(chunks):
        for name, way in ways.items():
            taken[name].append(_seconds(lambda: way(pool[number % POOL], labels)))  # noqa: B023
    for name, seconds in taken.items():
        speed = statistics.median(taken["numpy.copyto"]) / statistics.median(seconds)
        print(f"{name:18s} {speed:.2f} of the speed of the copy")


def _reduceat(table: Wide, embeddings: Floats, labels: Labels) -> None:
    order = np.argsort(labels, kind="stable")
    rows, first = np.unique(labels[order], return_index=True)
    table[rows] += np.add.reduceat(embeddings[order], first, axis=0, dtype=np.float64)


def _sparse(table: Wide, embeddings: Floats, labels: Labels) -> None:
    from scipy.sparse import csr_matrix

    rows, place = np.unique(labels, return_inverse=True)
    ones = np.ones(len(labels))
    table[rows] += csr_matrix((ones, (place, np.arange(len(labels)))), (len(rows), len(labels))) @ embeddings


def _index_add(table: Wide, embeddings: Floats, labels: Labels) -> None:
    torch.from_numpy(table).index_add_(0, torch.from_numpy(labels), torch.from_numpy(embeddings).double())


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
