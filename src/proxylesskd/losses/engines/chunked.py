"""One pass over the rows in chunks: loss and gradient in memory that does not grow with C, on any device."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from proxylesskd.losses.engines.engine import Bend, Sums, frozen_lse, may_overflow, require_frozen
from proxylesskd.losses.engines.products import Products
from proxylesskd.losses.rows import Rows, block, gather

CHUNK = 2048  # rows at a time: a [2048, 128] float32 block of cosines is 1 MB and stays in the cache
LARGE = 256  # a larger batch takes half as many, for its memory

Masked = tuple[Tensor, Tensor]


class Chunked:
    """The engine for CPUs, and for any device without a faster one."""

    def count(self, rows: Rows) -> int:
        """See :class:`proxylesskd.losses.engines.engine.Engine`."""
        return rows.shape[0]

    def own(self, rows: Rows, labels: Tensor, dtype: torch.dtype) -> Tensor:
        """See :class:`proxylesskd.losses.engines.engine.Engine`."""
        return gather(rows, labels, dtype)

    def negatives(
        self, unit: Tensor, rows: Rows, labels: Tensor, scale: float, bend: Bend | None = None
    ) -> tuple[Tensor, Tensor]:
        """See :class:`proxylesskd.losses.engines.engine.Engine`.

        Raises:
            UserError: the rows require a gradient; this engine exists because they do not.
        """
        require_frozen(rows)
        found = sums(unit.detach(), rows, (torch.arange(len(labels), device=labels.device), labels), scale, bend)
        return frozen_lse(found, unit, scale), found.best

    def mean_row(self, rows: Rows, dtype: torch.dtype) -> Tensor:
        """See :class:`proxylesskd.losses.engines.engine.Engine`."""
        return total_row(rows, dtype) / rows.shape[0]


@torch.no_grad()
def sums(
    unit: Tensor, rows: Rows, masked: Masked, scale: float, bend: Bend | None = None, *, count: int | None = None
) -> Sums:
    """Sum over the rows that are not masked, chunk by chunk.

    Args:
        unit: ``[B, D]`` float32 or float64 embeddings of unit length.
        rows: ``[C, D]``, of which a chunk is converted when it is used.
        masked: samples ``[P] int64`` and rows ``[P] int64`` that do not meet: at least every sample and its own row.
            Masking happens inside the pass: taking a dominant target out of a finished sum would lose the negatives to
            rounding. Rows outside [0, C) are passed over.
        scale: ``s``.
        bend: what happens to hard negatives, if anything.
        count: how many rows there are in all, where these are a part of them.
    """
    size = CHUNK if len(unit) <= LARGE else CHUNK // 2
    samples, cuts, places = _by_chunk(masked, rows.shape[0], size)
    pass_ = _Pass.begin(unit, rows, size, scale, bend, online=may_overflow(scale, count or rows.shape[0], bend))
    for number, start in enumerate(range(0, rows.shape[0], size)):
        inside = slice(cuts[number], cuts[number + 1])
        pass_.add(start, samples[inside], places[inside])
    return pass_.sums()


def _by_chunk(masked: Masked, count: int, size: int) -> tuple[Tensor, list[int], Tensor]:
    """Sort masked pairs by row; return samples, where each chunk's pairs begin, and the place of the row in its chunk.

    Once per pass, so that a chunk takes its pairs by a slice instead of looking through all of them.
    """
    samples, masked_rows = masked
    edges = torch.arange(0, count + size, size, device=masked_rows.device).clamp_(max=count)
    ordered, order = torch.sort(masked_rows)
    cuts: list[int] = torch.searchsorted(ordered, edges).tolist()
    return samples[order], cuts, ordered % size


@dataclass
class _Pass:
    """The running sums of one pass, class-major: ``[c, D] x [D, B]`` is the faster product on CPUs."""

    count: int
    size: int  # of a chunk
    products: Products  # of the rows with scale * unit
    scale: float
    bend: Bend | None
    online: bool
    total: Tensor  # [B]
    weighted: Tensor  # [D, B]
    best: Tensor  # [B] largest scaled cosine
    top: Tensor  # [B] largest logit so far where the sums are relative to it, else 0
    logits: Tensor  # [c, B] reused by every chunk

    @classmethod
    def begin(cls, unit: Tensor, rows: Rows, size: int, scale: float, bend: Bend | None, *, online: bool) -> _Pass:
        (count, dim), batch = rows.shape, unit.shape[0]
        return cls(
            count=count,
            size=size,
            products=Products(rows, (scale * unit).T.contiguous(), size),
            scale=scale,
            bend=bend,
            online=online,
            total=unit.new_zeros(batch),
            weighted=unit.new_zeros(dim, batch),
            best=unit.new_full((batch,), -math.inf),
            top=unit.new_full((batch,), -math.inf) if online else unit.new_zeros(batch),
            logits=unit.new_empty(min(size, count), batch),
        )

    def add(self, start: int, samples: Tensor, places: Tensor) -> None:
        """Add one chunk of rows, without the masked pairs."""
        stop = min(start + self.size, self.count)
        logits = self.products.logits(start, stop, self.logits[: stop - start])  # [c, B]
        logits[places, samples] = -math.inf
        torch.maximum(self.best, logits.amax(dim=0), out=self.best)
        slope = None if self.bend is None else self._bend(logits, self.bend)
        if self.online:
            self._rescale(logits.amax(dim=0))
            logits.sub_(self.top)
        logits.exp_()
        self.total += logits.sum(dim=0)
        self.products.add(start, stop, logits if slope is None else logits.mul_(slope), self.weighted)

    def _bend(self, logits: Tensor, bend: Bend) -> Tensor:
        """Bend hard negatives in place; return ``[c, B]`` slopes of the logits against the cosines, over the scale."""
        hard = logits > self.scale * bend.threshold
        cosine = logits / self.scale
        logits.mul_(torch.where(hard, bend.t + cosine, 1.0))
        return torch.where(hard, bend.t + 2 * cosine, 1.0)

    def _rescale(self, highest: Tensor) -> None:
        """Refer the sums so far to a higher top where this chunk ``[B]`` has one."""
        top = torch.maximum(self.top, highest)
        # Before the first unmasked row the top is -inf and the sums are 0: there is nothing to refer.
        factor = torch.where(self.top == -math.inf, 0.0, torch.exp(self.top - top))
        self.total *= factor
        self.weighted *= factor
        self.top = torch.where(top == -math.inf, torch.finfo(top.dtype).min, top)

    def sums(self) -> Sums:
        return Sums(self.total, self.weighted.T, self.best / self.scale, self.top)


def total_row(rows: Rows, dtype: torch.dtype) -> Tensor:
    """Return ``[D]``, the sum of all rows, chunk by chunk."""
    total = torch.zeros(rows.shape[1], dtype=torch.float64, device=rows.device)
    for start in range(0, rows.shape[0], CHUNK):
        total += block(rows, start, min(start + CHUNK, rows.shape[0]), dtype).sum(dim=0)
    return total.to(dtype)
