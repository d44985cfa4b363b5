"""Size, speed and accuracy of every exported file, the teacher first: one table as JSON and as Markdown."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from proxylesskd.errors import UserError
from proxylesskd.export.agreement import Agreement
from proxylesskd.export.contract import open_session
from proxylesskd.export.runtimes import Runner, call, open_file
from proxylesskd.export.speed import Latency
from proxylesskd.models.onnx_graph import read_graph

BATCHES, THREADS, REPEATS = (1, 32), (1, 8), 15


@dataclass(frozen=True)
class Row:
    """One file.

    Attributes:
        name: of the row.
        file: name of the file; None where there is none, as for a teacher in PyTorch.
        size: bytes; None likewise.
        accuracy: ten-fold verification accuracy in [0, 1], None where not measured.
        tar: TAR at ``far`` in [0, 1], None likewise.
        far: false accept rate of ``tar``.
        agreement: with the PyTorch student; None for the teacher.
        refused: why the gate refused it, empty where it did not.
        latencies: times of calls.
        sha256: of the file.
        notes: what was chosen in making it.
    """

    name: str
    file: str | None
    size: int | None
    accuracy: float | None
    tar: float | None
    far: float | None
    agreement: Agreement | None = None
    refused: str = ""
    latencies: tuple[Latency, ...] = ()
    sha256: str | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for files."""
        return {
            "name": self.name,
            "file": self.file,
            "bytes": self.size,
            "sha256": self.sha256,
            "accuracy": self.accuracy,
            "tar": self.tar,
            "far": self.far,
            "agreement": None if self.agreement is None else self.agreement.to_dict(),
            "refused": self.refused,
            "latencies": [latency.to_dict() for latency in self.latencies],
            "notes": dict(self.notes),
        }


class _Timed:
    """A file with random images of the kind it takes."""

    def __init__(self, path: Path, threads: int) -> None:
        self.path, self.threads = path, threads
        self.shape, self.dtype, self._takes, self._run = _own(path, threads) or _foreign(path, threads)

    def calls(self, batch: int) -> tuple[Any, int]:
        """Return images for one call, and how many calls embed ``batch`` of them."""
        only, most = self._takes
        size = only or min(batch, most or batch)
        random, shape = np.random.default_rng(0), (size, *self.shape)
        if self.dtype == "uint8":
            images: Any = random.integers(0, 256, shape).astype(np.uint8)
        else:
            images = random.uniform(-1, 1, shape).astype(np.float32)
        return images, -(-batch // size)

    def run(self, inputs: Any, times: int) -> float:
        """Return the milliseconds of so many calls."""
        start = time.perf_counter()
        for _ in range(times):
            self._run(inputs)
        return 1000 * (time.perf_counter() - start)


def _own(path: Path, threads: int) -> Any:
    try:
        runner: Runner = open_file(path, threads=threads)
    except UserError:
        if path.suffix != ".onnx":
            raise
        return None
    p = runner.contract.preprocessing
    shape = (3, p.size, p.size) if p.layout == "nchw" else (p.size, p.size, 3)
    return shape, runner.contract.dtype, (runner.batch, runner.most), lambda inputs: call(runner, path, inputs)


def _foreign(path: Path, threads: int) -> Any:
    """Open an ONNX file without a contract, such as a teacher's, by the shape of its input."""
    graph, _ = read_graph(path)  # without the weights that foreign files list among their inputs
    session = open_session(path, threads=threads, content=graph.SerializeToString())
    first = next(value for value in session.get_inputs() if len(value.shape) == 4)
    batch, *shape = (side if isinstance(side, int) else None for side in first.shape)
    shape = [side or 112 for side in shape]
    dtype = "uint8" if first.type == "tensor(uint8)" else "float32"
    return tuple(shape), dtype, (batch, None), lambda inputs: session.run(None, {first.name: inputs})


def time_together(
    files: Mapping[str, Path],
    *,
    batches: Sequence[int] = BATCHES,
    threads: Sequence[int] = THREADS,
    repeats: int = REPEATS,
) -> dict[str, tuple[Latency, ...]]:
    """Time files side by side: every round calls each of them once, so that all see the same machine.

    Returns:
        By name the latencies by threads and batch: of as many calls as the file needs for so many images, which is
        more than one where it takes fewer at once; one call where it takes more.

    Raises:
        UserError: a file cannot be opened or run, or ``repeats`` is not positive.
    """
    if repeats < 1:
        raise UserError(f"expected at least 1 timed repeat, found {repeats}")
    found: dict[str, list[Latency]] = {name: [] for name in files}
    for count in threads:
        opened = {name: _Timed(path, count) for name, path in files.items()}
        for batch in batches:
            for name, latency in _rounds(opened, batch, repeats).items():
                found[name].append(latency)
    return {name: tuple(latencies) for name, latencies in found.items()}


def _rounds(opened: Mapping[str, _Timed], batch: int, repeats: int) -> dict[str, Latency]:
    calls = {name: one.calls(batch) for name, one in opened.items()}
    times: dict[str, list[float]] = {name: [] for name in opened}
    for number in range(-1, repeats):  # the round before the first warms up
        for name, one in opened.items():
            taken = one.run(*calls[name])
            if number >= 0:
                times[name].append(taken)
    return {
        name: Latency(batch, opened[name].threads, statistics.median(took), min(took), max(took), repeats)
        for name, took in times.items()
    }


def markdown(rows: Sequence[Row]) -> str:
    """Return the table; times are medians in milliseconds a call."""
    calls = sorted({(latency.threads, latency.batch) for row in rows for latency in row.latencies})
    far = next((row.far for row in rows if row.far is not None), None)
    heads = ["", "size", "accuracy", f"TAR at FAR {far:g}" if far else "TAR", "cosine (mean, worst)"]
    heads += [f"ms: {threads} thread{'s' * (threads > 1)}, batch {batch}" for threads, batch in calls]
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *(_line(row, calls) for row in rows)]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    refused = [f"\n{row.name} was refused by the gate and kept by force: {row.refused}." for row in rows if row.refused]
    return text + "\n" + "".join(refused)


def _line(row: Row, calls: Sequence[tuple[int, int]]) -> list[str]:
    times = {(latency.threads, latency.batch): f"{latency.milliseconds:.2f}" for latency in row.latencies}
    cosine = row.agreement and f"{row.agreement.cosine.mean_cosine:.6f}, {row.agreement.cosine.worst_cosine:.6f}"
    return [
        row.name + (" (refused)" if row.refused else ""),
        "-" if row.size is None else _size(row.size),
        _with_interval(row.accuracy, row.agreement and row.agreement.accuracy),
        _with_interval(row.tar, row.agreement and row.agreement.tar),
        cosine or "-",
        *(times.get(one, "-") for one in calls),
    ]


def _size(size: int) -> str:
    return f"{size / 1e6:.2f} MB" if size >= 100_000 else f"{size / 1e3:.1f} kB"


def _with_interval(value: float | None, change: Any) -> str:
    if value is None:
        return "-"
    if change is None:
        return f"{100 * value:.2f} %"
    ends = f"{100 * change.lower:+.2f} to {100 * change.upper:+.2f}"
    return f"{100 * value:.2f} % ({100 * change.difference:+.2f}, {ends})"
