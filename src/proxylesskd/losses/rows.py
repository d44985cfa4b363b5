"""The rows of a frozen classifier as they are stored: float32, half precision, or bytes; in memory or mapped.

A pass over all rows takes them block by block and raises each block to the precision that it computes in, so that
a classifier larger than the memory can lie in a file. A sample's own row decides its gradient more than all others
together; it is therefore gathered as exactly as it is stored, see :func:`gather`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeGuard

import torch
from torch import Tensor

from proxylesskd.errors import UserError

_FINE = 254  # a residual lies within half a step: 127 of these on either side


@dataclass(frozen=True)
class CompactRows:
    """Rows as codes for the pass over all, and what rounding left, which is read for the few own rows alone.

    With both a row is exact to about 16 bits: of bytes, row ``i`` is ``(codes[i] + fine[i] / 254) * steps[i]``; of
    bfloat16, ``codes[i] + fine[i] * steps[i]``.

    Attributes:
        codes: ``[C, D] int8`` or ``bfloat16``.
        fine: ``[C, D] int8``, the residual.
        steps: ``[C] float32``: of bytes, the largest magnitude of each row / 127; of bfloat16, its largest residual /
            127.
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
        """``torch.int8`` or ``torch.bfloat16``."""
        return self.codes.dtype

    @property
    def requires_grad(self) -> bool:
        """False: these are never trained."""
        return False

    def __len__(self) -> int:
        return self.codes.shape[0]

    def __getitem__(self, where: slice) -> CompactRows:
        return CompactRows(self.codes[where], self.fine[where], self.steps[where])

    def to(self, device: torch.device | str) -> CompactRows:
        """Return the rows on another device."""
        return CompactRows(self.codes.to(device), self.fine.to(device), self.steps.to(device))

    def detach(self) -> CompactRows:
        """Return the rows: there is nothing to detach them from."""
        return self


Rows = Tensor | CompactRows


def in_bytes(rows: Rows) -> TypeGuard[CompactRows]:
    """Say whether the codes are bytes, which mean nothing without their steps."""
    return rows.dtype == torch.int8


def codes_of(rows: Rows) -> Tensor:
    """Return ``[C, D]``, what the pass over all reads, as it is stored."""
    return rows if isinstance(rows, Tensor) else rows.codes


def split(rows: Tensor) -> CompactRows:
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
    return CompactRows(codes, (left / steps[:, None]).round_().clamp_(-127, 127).to(torch.int8), steps)


def quantise(rows: Tensor) -> CompactRows:
    """Store rows in a byte and a residual: two bytes a number, of which a pass over all rows reads one.

    Args:
        rows: ``[C, D]`` floating point, finite.

    Raises:
        UserError: they are not ``[C, D]`` floating point.
    """
    rows = _checked(rows)
    steps = _steps(rows)
    exact = rows / steps[:, None]
    codes = exact.round().clamp_(-127, 127)
    fine = ((exact - codes) * _FINE).round_().clamp_(-127, 127)
    return CompactRows(codes.to(torch.int8), fine.to(torch.int8), steps)


def block(rows: Rows, start: int, stop: int, dtype: torch.dtype, out: Tensor | None = None) -> Tensor:
    """Return ``[c, D]`` rows ``start … stop - 1`` in ``dtype``: what the samples of other identities meet.

    Args:
        rows: ``[C, D]``.
        start: first row.
        stop: one past the last.
        dtype: float32 or float64.
        out: ``[>= c, D]`` of that dtype, where a converted block may be put; rows of that dtype are not copied.
    """
    part = codes_of(rows)[start:stop]
    part = part if part.dtype == dtype else _converted(part, dtype, out)
    return part.mul_(rows.steps[start:stop, None]) if in_bytes(rows) else part


def gather(rows: Rows, indices: Tensor | slice, dtype: torch.dtype) -> Tensor:
    """Return ``[n, D]`` rows ``indices`` in ``dtype``, as exactly as they are stored.

    Args:
        rows: ``[C, D]``.
        indices: ``[n] int64`` in [0, C), or a slice of them.
        dtype: float32 or float64.
    """
    codes = codes_of(rows)[indices].to(dtype)
    if isinstance(rows, Tensor):
        return codes
    fine, steps = rows.fine[indices].to(dtype), rows.steps[indices, None].to(dtype)
    return (codes + fine / _FINE) * steps if in_bytes(rows) else codes + fine * steps


def _checked(rows: Tensor) -> Tensor:
    if rows.ndim != 2 or not rows.is_floating_point():
        raise UserError(f"expected floating-point rows [C, D], found {tuple(rows.shape)} {rows.dtype}")
    return rows.detach().float()


def _steps(values: Tensor) -> Tensor:
    """Return ``[C]``, the step in which each row of ``[C, D]`` fits into -127 to 127."""
    return values.abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny) / 127


def _converted(part: Tensor, dtype: torch.dtype, out: Tensor | None) -> Tensor:
    return part.to(dtype) if out is None else out[: len(part)].copy_(part)
