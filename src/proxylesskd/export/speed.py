"""How fast an ONNX file runs here: measured, never estimated."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from proxylesskd.errors import UserError
from proxylesskd.export.contract import open_session


@dataclass(frozen=True)
class Latency:
    """The time of one call at one batch size.

    Attributes:
        batch: images per call.
        threads: threads that onnxruntime may use.
        milliseconds: median over the repeats of the time of one call.
        lowest: the fastest repeat, in milliseconds.
        highest: the slowest repeat, in milliseconds.
        repeats: number of timed calls, after one call to warm up.
    """

    batch: int
    threads: int
    milliseconds: float
    lowest: float
    highest: float
    repeats: int

    @property
    def images_per_second(self) -> float:
        """Images per second at the median."""
        return 1000 * self.batch / self.milliseconds

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, images per second included, for files."""
        return {**asdict(self), "images_per_second": self.images_per_second}


@dataclass(frozen=True)
class Speed:
    """Size and latency of one file on one machine.

    Attributes:
        size: length of the file in bytes.
        machine: processor and number of cores that were seen.
        latencies: one entry per batch size that the file accepts.
    """

    size: int
    machine: str
    latencies: tuple[Latency, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for files."""
        return {
            "bytes": self.size,
            "machine": self.machine,
            "latencies": [latency.to_dict() for latency in self.latencies],
        }


def measure_speed(path: Path, *, batches: Sequence[int] = (1, 32), threads: int = 1, repeats: int = 20) -> Speed:
    """Time an ONNX file with onnxruntime on the CPU.

    A batch size that the file's own input shape forbids is left out, as for teachers fixed to one image.

    Args:
        path: any ONNX file with one image input of float32; free dimensions other than the batch are refused.
        batches: images per call.
        threads: threads that onnxruntime may use.
        repeats: timed calls per batch size, at least 1.

    Raises:
        UserError: the file does not run, its input is no float32 image batch, or ``repeats`` is not positive.
    """
    if repeats < 1:
        raise UserError(f"expected at least 1 timed repeat, found {repeats}")
    session = open_session(path, threads=threads)
    shape = _input_shape(session, path)
    allowed = [batch for batch in batches if not isinstance(shape[0], int) or shape[0] == batch]
    latencies = tuple(_time(session, path, [batch, *shape[1:]], threads, repeats) for batch in allowed)
    return Speed(path.stat().st_size, machine_name(), latencies)


def _input_shape(session: Any, path: Path) -> list[Any]:
    first = session.get_inputs()[0]
    shape = list(first.shape)
    if first.type != "tensor(float)" or len(shape) != 4 or not all(isinstance(side, int) for side in shape[1:]):
        raise UserError(
            f"expected a float32 input [B, 3, S, S] in {path}, found {first.type} {shape}; give a face model"
        )
    return shape


def _time(session: Any, path: Path, shape: list[int], threads: int, repeats: int) -> Latency:
    image = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    feed = {session.get_inputs()[0].name: image}
    try:
        session.run(None, feed)
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        raise UserError(f"expected {path} to run on a batch of {shape[0]}, found: {str(error)[:200]}") from error
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        session.run(None, feed)
        times.append(1000 * (time.perf_counter() - start))
    return Latency(shape[0], threads, statistics.median(times), min(times), max(times), repeats)


def machine_name() -> str:
    """Return processor and number of cores, as far as the system tells."""
    return f"{_processor()}, {os.cpu_count()} cores, {platform.system()}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
