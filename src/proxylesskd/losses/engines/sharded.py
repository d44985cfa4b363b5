"""Rows split over the ranks of a process group: what crosses the network is O(B·D), whatever C is.

Every rank holds a block of consecutive rows. It gathers the embeddings and labels of all ranks, sums over its own
block by another engine, and adds up with the others: ``B`` sums by an all-reduce, the gradient by one
reduce-scatter. Where the rows fit on every rank, whole rows on each cost no communication at all and are faster.
"""

from __future__ import annotations

import torch
from torch import Tensor

from proxylesskd.errors import UserError
from proxylesskd.losses.engines.automatic import automatic
from proxylesskd.losses.engines.chunked import sums as chunked_sums
from proxylesskd.losses.engines.chunked import total_row
from proxylesskd.losses.engines.collective import (
    Group,
    from_all_ranks,
    largest_over_ranks,
    own_share_of_sum,
    rank_in,
    sum_over_ranks,
    world_size,
)
from proxylesskd.losses.engines.engine import Bend, Sums, frozen_lse, may_overflow
from proxylesskd.losses.rows import Rows, gather


def shard(count: int, rank: int, world: int) -> tuple[int, int]:
    """Return the first row of rank ``rank`` and one past its last, of ``count`` rows on ``world`` ranks.

    The first ``count mod world`` ranks hold one row more than the others.
    """
    least, more = divmod(count, world)
    start = rank * least + min(rank, more)
    return start, start + least + (rank < more)


class Sharded:
    """The engine of a classifier that fits on no single device.

    Args:
        total: C, the rows of all ranks together; this rank's are those of :func:`shard`.
        group: of processes, all of them unless given. Every rank brings a batch of the same size.
    """

    def __init__(self, total: int, group: Group = None) -> None:
        self.total, self.group = total, group

    def count(self, _rows: Rows) -> int:
        """See :class:`proxylesskd.losses.engines.engine.Engine`."""
        return self.total

    def own(self, rows: Rows, labels: Tensor, dtype: torch.dtype) -> Tensor:
        """See :class:`proxylesskd.losses.engines.engine.Engine`."""
        start = self._start(rows)
        places = from_all_ranks(labels, self.group) - start  # [N B]
        here = (places >= 0) & (places < rows.shape[0])
        found = gather(rows, places.clamp(0, rows.shape[0] - 1), dtype) * here[:, None]
        return own_share_of_sum(found, self.group)

    def negatives(
        self, unit: Tensor, rows: Rows, labels: Tensor, scale: float, bend: Bend | None = None
    ) -> tuple[Tensor, Tensor]:
        """See :class:`proxylesskd.losses.engines.engine.Engine`."""
        start = self._start(rows)
        everybody = from_all_ranks(unit, self.group)  # [N B, D]
        places = from_all_ranks(labels, self.group) - start
        every_bend = None if bend is None else Bend(from_all_ranks(bend.threshold, self.group), bend.t)
        found = _sums(everybody, rows, places, scale, every_bend, self.total)
        if may_overflow(scale, self.total, bend):
            found = _referred(found, largest_over_ranks(found.shift, self.group))
        part = slice(rank_in(self.group) * len(unit), (rank_in(self.group) + 1) * len(unit))
        mine = Sums(
            total=sum_over_ranks(found.total, self.group)[part],
            weighted=own_share_of_sum(found.weighted, self.group),
            best=largest_over_ranks(found.best, self.group)[part],
            shift=found.shift[part],
        )
        return frozen_lse(mine, unit, scale), mine.best

    def mean_row(self, rows: Rows, dtype: torch.dtype) -> Tensor:
        """See :class:`proxylesskd.losses.engines.engine.Engine`."""
        return sum_over_ranks(total_row(rows, dtype), self.group) / self.total

    def _start(self, rows: Rows) -> int:
        start, stop = shard(self.total, rank_in(self.group), world_size(self.group))
        if rows.shape[0] != stop - start:
            raise UserError(
                f"expected rows {start} to {stop - 1} of {self.total} on rank {rank_in(self.group)} of "
                f"{world_size(self.group)}, found {rows.shape[0]}; take those of shard(total, rank, world)"
            )
        return start


def _sums(unit: Tensor, rows: Rows, places: Tensor, scale: float, bend: Bend | None, total: int) -> Sums:
    """Sum over this rank's rows by the engine that ``auto`` takes where there are many."""
    if automatic(len(unit), total, unit.device) == "triton":
        from proxylesskd.losses.engines.triton import sums

        return sums(unit, rows, places, scale, bend, count=total)
    masked = (torch.arange(len(places), device=places.device), places)
    return chunked_sums(unit, rows, masked, scale, bend, count=total)


def _referred(found: Sums, shift: Tensor) -> Sums:
    """Refer sums to a higher shift."""
    factor = torch.exp(found.shift - shift)
    return Sums(found.total * factor, found.weighted * factor[:, None], found.best, shift)
