"""How a pass over the rows is cut for a GPU: sizes of tiles, of chunks, and how often a sum is split.

A small table instead of a search at start: the shapes are few, and a pass that times its own kernels could not be
recorded in a CUDA graph.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxylesskd.errors import UserError

# A chunk's exponentials and its rows, in bytes: together within the 50 MB of L2 of a Hopper GPU, so that the second
# kernel finds there what the first wrote and read; and within 64 MB with the partial sums on every GPU.
_BUDGET = 42 << 20
_PARTS = 16 << 20  # partial sums, in bytes; more than one part is there only to occupy the machine
_RESIDENT = 2  # programs of the kernel of exponentials that share a multiprocessor


@dataclass(frozen=True)
class Tile:
    """What one program of a kernel makes, and how.

    Attributes:
        samples: of the batch.
        columns: rows of the classifier for the exponentials, dimensions of the embedding for the weighted rows.
        depth: how many numbers of the summed dimension are loaded at a time.
        warps: of 32 threads.
        stages: loads under way at once.
    """

    samples: int
    columns: int
    depth: int
    warps: int
    stages: int


@dataclass(frozen=True)
class Plan:
    """How a pass is cut.

    Attributes:
        cosines: tile of the kernel of exponentials.
        weights: tile of the kernel of weighted rows.
        chunk: rows at a time, a multiple of ``cosines.columns``.
        splits: into how many parts the sum over a chunk's rows is split.
    """

    cosines: Tile
    weights: Tile
    chunk: int
    splits: int


def plan_for(batch: int, count: int, dim: int, capability: tuple[int, int] | None, processors: int) -> Plan:
    """Cut a pass.

    Args:
        batch: B.
        count: C.
        dim: D.
        capability: of the GPU, such as (9, 0); None for Triton's interpreter.
        processors: multiprocessors of the GPU.

    Raises:
        UserError: the GPU has no bfloat16 tensor cores.
    """
    cosines, weights = _tiles(batch, dim, capability)
    most = _whole_waves(
        max(_BUDGET // (2 * (batch + dim)) // cosines.columns, 1),
        _RESIDENT * processors // _cdiv(batch, cosines.samples),
    )
    # Equal chunks, of whole tiles: every launch is then the same, and the last is not mostly empty.
    chunk = _up(_cdiv(count, _cdiv(count, most * cosines.columns)), cosines.columns)
    tiles = _cdiv(batch, weights.samples) * _cdiv(dim, weights.columns)
    splits = min(processors // tiles, _PARTS // (4 * batch * dim), chunk // weights.depth)
    return Plan(cosines, weights, chunk, max(splits, 1))


def _tiles(batch: int, dim: int, capability: tuple[int, int] | None) -> tuple[Tile, Tile]:
    if capability is None:
        return Tile(32, 64, 64, warps=1, stages=1), Tile(32, 128, 64, warps=1, stages=1)
    if capability < (8, 0):
        raise UserError(
            f"expected a GPU of compute capability 8.0 or above for engine='triton', found {capability[0]}."
            f"{capability[1]}, which has no bfloat16 tensor cores; use engine='chunked'"
        )
    samples = 128 if batch > 64 else max(16, 1 << (batch - 1).bit_length())
    dims = 64 if dim <= 64 else 128
    if not (9, 0) <= capability < (12, 0):
        # 99 KB of shared memory on the smallest of these (8.6, 8.9, 12.0): 3 stages of (128 + 128) x 32 take 48 KB.
        return Tile(samples, 128, 32, warps=8, stages=3), Tile(samples, dims, 32, warps=8, stages=3)
    # Exponentials: 4 warps and 96 KB, so that two programs share a multiprocessor and one multiplies while the other
    # takes exponentials. Weighted rows: nothing to overlap, so the largest tile that 8 warps hold in registers, which
    # reads the exponentials half as often.
    wide = 256 if dim > 128 and samples == 128 else dims
    return Tile(samples, 128, 64, warps=4, stages=3), Tile(samples, wide, 64, warps=8, stages=3)


def _whole_waves(tiles: int, wave: int) -> int:
    """Round tiles of rows down to as many as occupy the machine a whole number of times, if they do so once."""
    return tiles - tiles % wave if 0 < wave < tiles else tiles


def _cdiv(total: int, size: int) -> int:
    return -(-total // size)


def _up(value: int, step: int) -> int:
    return _cdiv(value, step) * step
