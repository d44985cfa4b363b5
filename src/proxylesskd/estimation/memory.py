"""The memory of one training process, by part."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

from proxylesskd.classifier.stored_rows import size_of
from proxylesskd.estimation.asked import Asked, Probed
from proxylesskd.machine import GIB, available_memory

Kind = Literal["private", "mapped", "gpu"]


@dataclass(frozen=True)
class Part:
    """One part of a process's memory.

    Attributes:
        name: what it is.
        bytes: how much.
        kind: ``"private"``, which must be free; ``"mapped"``, pages of files that the system may drop and read again;
            ``"gpu"``.
    """

    name: str
    bytes: int
    kind: Kind


def memory_parts(found: Probed, rows_on_gpu: int) -> list[Part]:
    """Return the parts of one process.

    Args:
        found: by the probe.
        rows_on_gpu: bytes of the rows that move to the GPU; 0 on a CPU.
    """
    parts = [
        Part("Python, PyTorch and this package", found.base, "private"),
        Part("rows and names in memory", found.rows_private, "private"),
        Part("index of the images", found.index, "private"),
        Part("parameters, gradients, momentum", found.trained, "private"),
        Part("images loaded ahead", found.loaded, "private"),
        Part("activations, scratch, the engine's buffers", found.rest, "private"),
        Part("libraries", found.base_files, "mapped"),
        Part("rows and names in their file", found.rows_mapped, "mapped"),
        Part("rows on the GPU", rows_on_gpu, "gpu"),
        Part("student, activations, the engine's buffers on the GPU", found.gpu, "gpu"),
    ]
    return [part for part in parts if part.bytes > 0]


def total(parts: list[Part], kind: Kind) -> int:
    """Return the bytes of all parts of a kind."""
    return sum(part.bytes for part in parts if part.kind == kind)


@dataclass(frozen=True)
class Room:
    """What this machine has.

    Attributes:
        memory: bytes that are free.
        gpu: bytes of a GPU's memory; 0 where none is used.
    """

    memory: int
    gpu: int

    @classmethod
    def here(cls, device: str) -> Room:
        """Return what there is now."""
        return cls(available_memory(), torch.cuda.get_device_properties(0).total_memory if device == "cuda" else 0)


def pass_bytes(store: str, count: int, dim: int) -> int:
    """Return the bytes that a pass over all rows reads; the residuals of compact rows stay aside."""
    return size_of(store, count, dim) - (0 if store == "float32" else count * dim)


def warnings_of(parts: list[Part], asked: Asked, room: Room, *, from_disk: int) -> list[str]:
    """Return a line for everything that does not fit, with what to do about it.

    Args:
        parts: of one process's memory.
        asked: what they are the answer to.
        room: what there is.
        from_disk: bytes of rows that every step would read from the disk, or 0.
    """
    needed, gpu = asked.world * total(parts, "private"), total(parts, "gpu")
    found = []
    if needed > room.memory:
        found.append(
            f"needs {needed / GIB:.1f} GiB, this machine has {room.memory / GIB:.1f} GiB free: {_mend(parts, asked)}"
        )
    if room.gpu and gpu > room.gpu:
        found.append(f"needs {gpu / GIB:.1f} GiB on each GPU, it has {room.gpu / GIB:.1f} GiB: {_mend(parts, asked)}")
    if from_disk and needed <= room.memory:
        left = (room.memory - needed) / GIB
        found.append(
            f"every step reads {from_disk / GIB:.1f} GiB of rows, and {left:.1f} GiB are left to hold them: they come "
            f"from the disk each time; {_smaller_rows(asked, from_disk, room.memory - needed)}"
        )
    return found


def _mend(parts: list[Part], asked: Asked) -> str:
    """Say what would help most: smaller rows where they are the most of it, else fewer images at a time."""
    rows = sum(part.bytes for part in parts if part.name.startswith("rows") and part.kind != "mapped")
    needed = max(total(parts, "private"), total(parts, "gpu"))
    if 2 * rows > needed:
        return _smaller_rows(asked, rows, needed - rows)
    return "give a smaller train.batch, and train.accumulate for as large a step, or a smaller model.width"


def _smaller_rows(asked: Asked, rows: int, room: int) -> str:
    shards = max(2, math.ceil(rows / max(room, rows / 8)))
    shard = f"shard them over {shards} machines or GPUs (method.engine=sharded)"
    return shard if asked.store == "int8" else f"store rows as int8 (proxylesskd compact --store int8), or {shard}"
