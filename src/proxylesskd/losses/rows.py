"""The rows of a frozen classifier as they are stored: float32, half precision, or bytes; in memory or mapped.

A pass over all rows takes them block by block and raises each block to the precision that it computes in, so that
a classifier larger than the memory can lie in a file. A sample's own row decides its gradient more than all others
together; it is therefore gathered as exactly as it is stored, see :func:`gather`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from proxylesskd.errors import UserError

_FINE = 254  # a residual lies within half a step: 127 of these on either side


@dataclass(frozen=True)
class Int8Rows:
    """Rows in one byte a number for the pass over all, and a second byte that is read for the few own rows alone.

    Row ``i`` is ``codes[i] * scales[i]``; with the residual, ``(codes[i] + fine[i] / 254) * scales[i]``, which is
    exact to about 16 bits.

    Attributes:
        codes: ``[C, D] int8``.
        scales: ``[C] float32``, the largest magnitude of each row / 127.
        fine: ``[C, D] int8``, what rounding to ``codes`` left, in 254ths of a step.
    """

    codes: Tensor
    scales: Tensor
    fine: Tensor

    @property
    def shape(self) -> torch.Size:
        """``[C, D]``."""
        return self.codes.shape

    @property
    def device(self) -> torch.device:
        """Where the rows lie."""
        return self.codes.device

    @property
    def dtype(self) -> torch.dtype:
        """``torch.int8``."""
        return self.codes.dtype

    @property
    def requires_grad(self) -> bool:
        """False: bytes are never trained."""
        return False

    def __len__(self) -> int:
        return self.codes.shape[0]

    def to(self, device: torch.device | str) -> Int8Rows:
        """Return the rows on another device."""
        return Int8Rows(self.codes.to(device), self.scales.to(device), self.fine.to(device))

    def detach(self) -> Int8Rows:
        """Return the rows: there is nothing to detach them from."""
        return self


@dataclass(frozen=True)
class Bfloat16Rows:
    """Rows in bfloat16 for the pass over all, and what rounding left, read for the few own rows alone.

    Row ``i`` is ``codes[i]``; with the residual, ``codes[i] + fine[i] * steps[i]``, which is exact to about 16 bits.

    Attributes:
        codes: ``[C, D] bfloat16``.
        fine: ``[C, D] int8``, the residual in steps.
        steps: ``[C] float32``, the largest residual of each row / 127.
    """

    codes: Tensor
    fine: Tensor
    steps: Tensor

    @property
    def shape(self) -> torch.Size:
        """``[C, D]``."""
        return self.codes.shape

    @property
    def device(self) -> torch.device:
        """Where the rows lie."""
        return self.codes.device

    @property
    def dtype(self) -> torch.dtype:
        """``torch.bfloat16``."""
        return self.codes.dtype

    @property
    def requires_grad(self) -> bool:
        """False: these are never trained."""
        return False

    def __len__(self) -> int:
        return self.codes.shape[0]

    def to(self, device: torch.device | str) -> Bfloat16Rows:
        """Return the rows on another device."""
        return Bfloat16Rows(self.codes.to(device), self.fine.to(device), self.steps.to(device))

    def detach(self) -> Bfloat16Rows:
        """Return the rows: there is nothing to detach them from."""
        return self


Rows = Tensor | Int8Rows | Bfloat16Rows


def split(rows: Tensor) -> Bfloat16Rows:
    """Store rows in bfloat16 and a residual: three bytes a number, of which a pass over all rows reads two.

    Args:
        rows: ``[C, D]`` floating point, finite.

    Raises:
        UserError: they are not ``[C, D]`` floating point.
    """
    rows = _checked(rows)
    codes = rows.to(torch.bfloat16)
    left = rows - codes.float()
    steps = _steps(left)
    return Bfloat16Rows(codes, (left / steps[:, None]).round_().clamp_(-127, 127).to(torch.int8), steps)


def quantise(rows: Tensor) -> Int8Rows:
    """Store rows in a byte and a residual: two bytes a number, of which a pass over all rows reads one.

    Args:
        rows: ``[C, D]`` floating point, finite.

    Raises:
        UserError: they are not ``[C, D]`` floating point.
    """
    rows = _checked(rows)
    scales = _steps(rows)
    steps = rows / scales[:, None]
    codes = steps.round().clamp_(-127, 127)
    fine = ((steps - codes) * _FINE).round_().clamp_(-127, 127)
    return Int8Rows(codes.to(torch.int8), scales, fine.to(torch.int8))


def block(rows: Rows, start: int, stop: int, dtype: torch.dtype, out: Tensor | None = None) -> Tensor:
    """Return ``[c, D]`` rows ``start … stop - 1`` in ``dtype``: what the samples of other identities meet.

    Args:
        rows: ``[C, D]``.
        start: first row.
        stop: one past the last.
        dtype: float32 or float64.
        out: ``[>= c, D]`` of that dtype, where a converted block may be put; rows of that dtype are not copied.
    """
    if isinstance(rows, Int8Rows):
        part = _converted(rows.codes[start:stop], dtype, out)
        return part.mul_(rows.scales[start:stop, None])
    part = rows.codes[start:stop] if isinstance(rows, Bfloat16Rows) else rows[start:stop]
    return part if part.dtype == dtype else _converted(part, dtype, out)


def part(rows: Rows, start: int, stop: int) -> Rows:
    """Return rows ``start … stop - 1`` as they are stored, without a copy."""
    here = slice(start, stop)
    if isinstance(rows, Int8Rows):
        return Int8Rows(rows.codes[here], rows.scales[here], rows.fine[here])
    if isinstance(rows, Bfloat16Rows):
        return Bfloat16Rows(rows.codes[here], rows.fine[here], rows.steps[here])
    return rows[here]


def gather(rows: Rows, indices: Tensor | slice, dtype: torch.dtype) -> Tensor:
    """Return ``[n, D]`` rows ``indices`` in ``dtype``, as exactly as they are stored.

    Args:
        rows: ``[C, D]``.
        indices: ``[n] int64`` in [0, C), or a slice of them.
        dtype: float32 or float64.
    """
    if isinstance(rows, Int8Rows):
        steps = rows.codes[indices].to(dtype) + rows.fine[indices].to(dtype) / _FINE
        return steps * rows.scales[indices, None].to(dtype)
    if isinstance(rows, Bfloat16Rows):
        return rows.codes[indices].to(dtype) + rows.fine[indices].to(dtype) * rows.steps[indices, None].to(dtype)
    return rows[indices].to(dtype)


def _checked(rows: Tensor) -> Tensor:
    if rows.ndim != 2 or not rows.is_floating_point():
        raise UserError(f"expected floating-point rows [C, D], found {tuple(rows.shape)} {rows.dtype}")
    return rows.detach().float()


def _steps(values: Tensor) -> Tensor:
    """Return ``[C]``, the step in which each row of ``[C, D]`` fits into -127 to 127."""
    return values.abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny) / 127


def _converted(part: Tensor, dtype: torch.dtype, out: Tensor | None) -> Tensor:
    return part.to(dtype) if out is None else out[: len(part)].copy_(part)
