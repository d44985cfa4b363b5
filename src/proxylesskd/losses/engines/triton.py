"""Two Triton kernels a chunk of rows: the exact loss and gradient on a GPU, in memory that does not grow with C.

Rows are bfloat16 on the tensor cores (int8 rows are raised to it as they are loaded, others chunk by chunk); so are
the embeddings, rounded before the scale is applied, and the exponentials in the gradient. Sums are float32, what the
embeddings lost is put back to first order, and the samples' own rows are as exact as stored: of 512 numbers, with
target cosines up to 0.9, loss and gradient are within 0.6 % of float64, and within 1 % up to 0.6 for int8 rows.

A pass is fixed by shapes alone: no value is read back, nothing depends on timing, and the same input gives the same
bits. It can therefore be recorded in a CUDA graph, after one call outside of it has compiled the kernels;
:class:`proxylesskd.losses.engines.recorded.Recorded` does so.

Beyond the rows a pass over chunks of ``c`` rows takes ``2 B c`` bytes of exponentials, ``4 splits B D`` of partial
sums, and ``2 c D`` where rows are converted: under 62 MB, whatever C is, while ``B D`` is 4 million or less. To these
come a few ``[B, D]``.
"""

from __future__ import annotations

import math
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from proxylesskd.errors import UserError
from proxylesskd.losses.engines.chunked import total_row
from proxylesskd.losses.engines.engine import Bend, Sums, frozen_lse, may_overflow, require_frozen
from proxylesskd.losses.engines.triton_plan import Plan, Tile, plan_for
from proxylesskd.losses.rows import Rows, codes_of, gather, in_bytes

# Logits lie in [-s, s]. With a shift of s + ln C - 80 the largest possible sum is e^80; the smallest possible largest
# term, e^(80 - 2s - ln C), must not fall below e^-80.
_WINDOW = 160.0


class Triton:
    """The engine for GPUs of compute capability 8.0 and above."""

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
            UserError: the rows require a gradient or lie on another device than the embeddings, the device is no
                recent GPU, or Triton is not installed.
        """
        found = sums(unit.detach(), rows, labels, scale, bend)
        return frozen_lse(found, unit, scale), found.best

    def mean_row(self, rows: Rows, dtype: torch.dtype) -> Tensor:
        """See :class:`proxylesskd.losses.engines.engine.Engine`."""
        return total_row(rows, dtype) / rows.shape[0]


@torch.no_grad()
def sums(
    unit: Tensor, rows: Rows, labels: Tensor, scale: float, bend: Bend | None = None, *, count: int | None = None
) -> Sums:
    """Sum over all rows but each sample's own.

    Args:
        unit: ``[B, D]`` floating point embeddings of unit length.
        rows: ``[C, D]``.
        labels: ``[B] int64``; one outside [0, C) masks nothing, as for a part of the rows.
        scale: ``s``.
        bend: what happens to hard negatives, if anything.
        count: how many rows there are in all, where these are a part of them.

    Raises:
        UserError: as :meth:`Triton.negatives`.
    """
    _check(unit, rows)
    pass_ = _Pass.begin(unit, rows, labels, scale, bend)
    with _on(unit.device):
        pass_.refer(count or rows.shape[0])
        pass_.add()
    found = Sums(
        total=pass_.totals.sum(dim=0),
        weighted=pass_.parts.sum(dim=0),
        best=pass_.bests.amax(dim=0).to(unit.dtype),
        shift=pass_.shift.to(unit.dtype),
    )
    return _unrounded(found, unit - pass_.rounded, scale)


def _unrounded(found: Sums, left: Tensor, scale: float) -> Sums:
    """Correct sums for what rounding the embeddings left, ``[B, D]``, to first order.

    The gradient says how a sum moves with its embedding, so this costs O(B·D) and takes the error of the loss from
    some 1e-3 to 1e-5. Gradients are relative to the sum, and follow it.
    """
    relative = scale * (found.weighted * left).sum(dim=1) / found.total.clamp_min(torch.finfo(torch.float32).tiny)
    moved = relative.exp().to(left.dtype)
    return Sums(found.total * moved, found.weighted * moved[:, None], found.best, found.shift)


@dataclass
class _Pass:
    """What the launches of one pass share."""

    kernels: ModuleType
    plan: Plan
    rows: Rows
    rounded: Tensor  # [B, D] bfloat16 embeddings
    labels: Tensor  # [B] int64
    scale: float
    bend: Bend | None  # float32
    shift: Tensor  # [B]
    exps: Tensor  # [B, chunk] bfloat16, of the chunk at hand
    totals: Tensor  # [tiles, B] sums so far, by the place of a tile in its chunk
    bests: Tensor  # [tiles, B] likewise
    parts: Tensor  # [splits, B, D] weighted rows so far
    converted: Tensor | None  # [chunk, D] bfloat16, reused where rows are converted

    @classmethod
    def begin(cls, unit: Tensor, rows: Rows, labels: Tensor, scale: float, bend: Bend | None) -> _Pass:
        (batch, dim), device = unit.shape, unit.device
        plan = plan_for(batch, rows.shape[0], dim, *_machine(device))
        new = torch.empty(0, device=device)  # float32
        tiles = plan.chunk // plan.cosines.columns
        convert = not _usable(codes_of(rows))
        return cls(
            kernels=_kernels(),
            plan=plan,
            rows=rows,
            rounded=unit.to(torch.bfloat16).contiguous(),
            labels=labels.contiguous(),
            scale=float(scale),
            bend=None if bend is None else Bend(bend.threshold.float().contiguous(), bend.t.float()),
            shift=new.new_zeros(batch),
            exps=new.new_empty(batch, plan.chunk, dtype=torch.bfloat16),
            totals=new.new_zeros(tiles, batch),
            bests=new.new_full((tiles, batch), -math.inf),
            parts=new.new_zeros(plan.splits, batch, dim),
            converted=new.new_empty(plan.chunk, dim, dtype=torch.bfloat16) if convert else None,
        )

    def refer(self, count: int) -> None:
        """Choose what logits are relative to, so that neither the largest nor the largest that matters is lost."""
        if not may_overflow(self.scale, count, self.bend):
            return
        bound = self.scale + math.log(count)
        if self.bend is None and self.scale + bound <= _WINDOW:
            self.shift.fill_(bound - 80.0)
            return
        self.totals.fill_(-math.inf)
        for start in range(0, self.rows.shape[0], self.plan.chunk):
            self._exponentials(start, self._chunk(start), peaks=True)
        peak = self.totals.amax(dim=0)
        self.shift.copy_(torch.where(peak == -math.inf, 0.0, peak))  # a classifier of one row has no negatives
        self.totals.zero_()

    def add(self) -> None:
        """Sum over all rows, two launches a chunk."""
        for start in range(0, self.rows.shape[0], self.plan.chunk):
            part = self._chunk(start)
            self._exponentials(start, part, peaks=False)
            self._weigh(part)

    def _chunk(self, start: int) -> Tensor:
        """Return ``[c, D]`` rows as the kernels load them."""
        part = codes_of(self.rows)[start : start + self.plan.chunk]
        return part if self.converted is None else self.converted[: len(part)].copy_(part)

    def _exponentials(self, start: int, part: Tensor, *, peaks: bool) -> None:
        tile, (batch, dim), unused = self.plan.cosines, self.rounded.shape, self.shift
        scales = self.rows.steps[start:] if in_bytes(self.rows) else unused
        bend = self.bend or Bend(unused, unused)
        programs = _cdiv(batch, tile.samples) * len(self.totals)
        self.kernels.exponentials[(programs,)](
            self.rounded, part, scales, self.labels, bend.threshold, bend.t, self.shift,
            self.exps, self.totals, self.bests, batch, len(part), start, self.scale,
            dim=dim, width=self.plan.chunk,
            block_samples=tile.samples, block_rows=tile.columns, block_depth=tile.depth,
            operand=self._operand(), scaled=in_bytes(self.rows), bent=self.bend is not None, peaks=peaks,
            **_launch(tile),
        )  # fmt: skip

    def _weigh(self, part: Tensor) -> None:
        tile, (splits, batch, dim) = self.plan.weights, self.parts.shape
        programs = splits * _cdiv(batch, tile.samples) * _cdiv(dim, tile.columns)
        self.kernels.weigh_rows[(programs,)](
            self.exps, part, self.parts, batch, len(part),
            dim=dim, width=self.plan.chunk, splits=splits,
            block_samples=tile.samples, block_dims=tile.columns, block_depth=tile.depth, operand=self._operand(),
            **_launch(tile),
        )  # fmt: skip

    def _operand(self) -> Any:
        language = self.kernels.tl
        return language.float32 if self.kernels.INTERPRETED.value else language.bfloat16


def _launch(tile: Tile) -> dict[str, int]:
    return {"num_warps": tile.warps, "num_stages": tile.stages}


def _cdiv(total: int, size: int) -> int:
    return -(-total // size)


def _usable(kept: Tensor) -> bool:
    """Say whether the kernels load these rows themselves."""
    return kept.dtype in (torch.bfloat16, torch.int8) and kept.is_contiguous()


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


def _machine(device: torch.device) -> tuple[tuple[int, int] | None, int]:
    """Return the compute capability, None under the interpreter, and how many multiprocessors there are."""
    if device.type == "cpu":
        return None, 4
    return torch.cuda.get_device_capability(device), torch.cuda.get_device_properties(device).multi_processor_count


def _on(device: torch.device) -> AbstractContextManager[Any]:
    """Make the device of the tensors the one that Triton launches on."""
    return nullcontext() if device.type == "cpu" else torch.cuda.device(device)


def _check(unit: Tensor, rows: Rows) -> None:
    require_frozen(rows)
    if unit.device != rows.device:
        raise UserError(
            f"expected embeddings and rows on one device, found {unit.device} and {rows.device}; move the rows there "
            "with rows.to(device)"
        )
    if unit.device.type != "cuda" and not (unit.device.type == "cpu" and _interpreted()):
        raise UserError(
            f"expected tensors on a CUDA device for engine='triton', found them on {unit.device}; use engine='chunked'"
        )


def _kernels() -> ModuleType:
    try:
        return import_module("proxylesskd.losses.engines.triton_kernels")
    except ImportError as error:
        raise UserError(
            f"engine='triton' needs the package 'triton', found {error}: pip install triton (it comes with PyTorch for "
            "CUDA on Linux), or use engine='chunked'"
        ) from error
