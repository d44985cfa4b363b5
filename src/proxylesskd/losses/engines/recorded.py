"""The Triton engine out of a CUDA graph: a pass is one launch, whatever the number of chunks.

A pass over a million rows is a hundred launches of some 10 µs of the CPU's time each. With up to a few hundred samples
that is more than the GPU's own work; recorded once and replayed, it is nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from proxylesskd.losses.engines.engine import Bend, Sums, frozen_lse
from proxylesskd.losses.engines.triton import Triton, sums
from proxylesskd.losses.rows import Rows, codes_of

_KEPT = 2  # recordings: of the ordinary batch, and of an epoch's last and smaller one


class Recorded:
    """An engine for training with Triton on one GPU; it keeps a pass's memory, up to 60 MB, for itself.

    The rows must not move to another address while it is in use, nor be changed by other than in-place operations.
    """

    def __init__(self) -> None:
        self._plain = Triton()
        self._recordings: dict[tuple[object, ...], _Recording] = {}

    def count(self, rows: Rows) -> int:
        """See :class:`proxylesskd.losses.engines.engine.Engine`."""
        return self._plain.count(rows)

    def own(self, rows: Rows, labels: Tensor, dtype: torch.dtype) -> Tensor:
        """See :class:`proxylesskd.losses.engines.engine.Engine`."""
        return self._plain.own(rows, labels, dtype)

    def negatives(
        self, unit: Tensor, rows: Rows, labels: Tensor, scale: float, bend: Bend | None = None
    ) -> tuple[Tensor, Tensor]:
        """See :class:`proxylesskd.losses.engines.engine.Engine`.

        Raises:
            UserError: as :meth:`proxylesskd.losses.engines.triton.Triton.negatives`.
        """
        found = self._recording(unit.detach(), rows, labels, scale, bend).replay(unit.detach(), labels, bend)
        return frozen_lse(found, unit, scale), found.best.clone()

    def mean_row(self, rows: Rows, dtype: torch.dtype) -> Tensor:
        """See :class:`proxylesskd.losses.engines.engine.Engine`."""
        return self._plain.mean_row(rows, dtype)

    def _recording(self, unit: Tensor, rows: Rows, labels: Tensor, scale: float, bend: Bend | None) -> _Recording:
        kept = codes_of(rows)
        key = (unit.shape, unit.dtype, unit.device, kept.data_ptr(), kept.shape, kept.dtype, scale, bend is None)
        if key not in self._recordings:
            recording = _Recording(unit, rows, labels, scale, bend)
            while len(self._recordings) >= _KEPT:
                del self._recordings[next(iter(self._recordings))]
            self._recordings[key] = recording
        return self._recordings[key]


class _Recording:
    """One pass over some rows for batches of one shape."""

    def __init__(self, unit: Tensor, rows: Rows, labels: Tensor, scale: float, bend: Bend | None) -> None:
        self.unit, self.labels = unit.clone(), labels.clone()
        self.bend = None if bend is None else Bend(bend.threshold.clone(), bend.t.clone())
        self.rows = rows  # kept, so that their address is not given to others
        self._compile(scale)
        self.graph = torch.cuda.CUDAGraph()
        # Threads that pin memory for the data loader, or watch over NCCL, may go on calling CUDA meanwhile.
        with torch.cuda.device(unit.device), torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            self.sums = sums(self.unit, rows, self.labels, scale, self.bend)

    def _compile(self, scale: float) -> None:
        """Run once outside of the graph, on a stream of its own as PyTorch asks for before a recording."""
        side = torch.cuda.Stream(self.unit.device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(self.unit.device))
        with torch.cuda.stream(side):
            sums(self.unit, self.rows, self.labels, scale, self.bend)
        torch.cuda.current_stream(self.unit.device).wait_stream(side)

    def replay(self, unit: Tensor, labels: Tensor, bend: Bend | None) -> Sums:
        """Return sums that the next replay will overwrite."""
        self.unit.copy_(unit)
        self.labels.copy_(labels)
        if self.bend is not None and bend is not None:
            self.bend.threshold.copy_(bend.threshold)
            self.bend.t.copy_(bend.t)
        self.graph.replay()
        return self.sums
