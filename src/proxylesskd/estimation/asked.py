"""What is to be estimated, as plain values that go to a process of its own and come back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Asked:
    """The question to one probing process.

    Attributes:
        recipe: the recipe, nested plain values.
        classifier: file of the rows; empty where they do not exist yet.
        count: C.
        dim: D.
        store: how the rows are stored.
        share: images that this process takes of every batch of the real training.
        batch: images that it probes with, at most ``share``.
        world: processes of the real training.
        processes: that probe at the same time, at most as many as there are cores.
        device: ``"cpu"`` or ``"cuda"``.
        seconds: that one attempt may take; with a larger network it probes with fewer images.
    """

    recipe: dict[str, Any]
    classifier: str
    count: int
    dim: int
    store: str
    share: int
    batch: int
    world: int
    processes: int
    device: str
    seconds: float


@dataclass(frozen=True)
class Probed:
    """What one process found out.

    Attributes:
        smaller: 0, or how many images to probe with, since so many as asked for would take too long or too much
            memory; everything else is then 0.
        images: of the source.
        base: bytes of Python, PyTorch and this package's code.
        base_files: of them, pages of libraries, which all processes share.
        index: bytes of the source's index.
        rows_private: bytes of rows and names in this process's own memory.
        rows_mapped: bytes of rows and names that lie in the file's pages.
        trained: bytes of parameters, gradients and momentum.
        loaded: bytes of the images loaded ahead.
        rest: bytes of activations, scratch and the engine's buffers: what else the peak of a training consists of.
        gpu: bytes taken on the GPU at the peak, without the rows; 0 on a CPU.
        student_seconds: of one micro-batch without the pass over the rows.
        head_seconds: of the pass over all rows, read from memory.
        data_seconds: to load one batch with nothing else to do.
        disk_rate: bytes per second at which the classifier's file is read when memory does not hold it; 0 if unknown.
    """

    smaller: int = 0
    images: int = 0
    base: int = 0
    base_files: int = 0
    index: int = 0
    rows_private: int = 0
    rows_mapped: int = 0
    trained: int = 0
    loaded: int = 0
    rest: int = 0
    gpu: int = 0
    student_seconds: float = 0.0
    head_seconds: float = 0.0
    data_seconds: float = 0.0
    disk_rate: float = 0.0
