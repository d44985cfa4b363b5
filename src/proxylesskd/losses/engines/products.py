"""The two products of a chunk of rows, in the numbers that the processor multiplies fastest.

Compact rows are raised to float32 where it has nothing better. CPUs with VNNI multiply bytes in hardware, those with
AVX512_BF16 bfloat16, each several times faster than float32; what that costs in precision is a fraction of what
storing the rows in so few bits did:

- logits of rows in bytes: the embeddings become two bytes a number, and both products are sums of whole numbers,
  which are exact. Rows in bfloat16 get no such product, because PyTorch would round its result to bfloat16.
- gradients of rows in bytes or bfloat16: the weights are rounded to bfloat16, and so is the sum of each chunk; the
  rows' codes are bfloat16 already, or whole numbers that it holds.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from proxylesskd.losses.rows import CompactRows, Rows, block, codes_of, in_bytes

_FINE = 254  # the second byte lies within half a step of the first: 127 of these on either side


@dataclass(frozen=True)
class Hardware:
    """What a processor multiplies in hardware.

    Attributes:
        bytes: products of int8.
        halves: products of bfloat16.
    """

    bytes: bool = False
    halves: bool = False


def hardware_of(device: torch.device) -> Hardware:
    """Look what a device can do; none of it where that is not a CPU."""
    if device.type != "cpu":
        return Hardware()
    can = (getattr(torch.cpu, name, bool)() for name in ("_is_vnni_supported", "_is_avx512_bf16_supported"))
    return Hardware(*can)


class Products:
    """The embeddings of a batch, to be multiplied with chunk after chunk of the rows, class-major.

    Args:
        rows: ``[C, D]``.
        scaled: ``[D, B]`` float32 or float64 embeddings.
        chunk: how many rows a chunk has at most.
    """

    def __init__(self, rows: Rows, scaled: Tensor, chunk: int) -> None:
        compact = isinstance(rows, CompactRows) and scaled.dtype == torch.float32
        hardware = hardware_of(scaled.device) if compact else Hardware()
        self._rows, self._scaled = rows, scaled
        self._bytes = _Bytes.of(scaled, chunk) if hardware.bytes and in_bytes(rows) else None
        self._halves = hardware.halves
        size = min(chunk, rows.shape[0])
        raised = rows.dtype != scaled.dtype and not (self._bytes is not None and self._halves)
        self._buffer = scaled.new_empty(size, scaled.shape[0]) if raised else None  # [c, D]
        self._part: Tensor | None = None  # the chunk whose logits were asked for last, if it was raised

    def logits(self, start: int, stop: int, out: Tensor) -> Tensor:
        """Write ``[c, B]``, rows ``start … stop - 1`` times the embeddings."""
        if self._bytes is not None and in_bytes(self._rows):
            return self._bytes.times(self._rows[start:stop], out)
        self._part = self._raised(start, stop)
        return torch.mm(self._part, self._scaled, out=out)

    def add(self, start: int, stop: int, weights: Tensor, total: Tensor) -> None:
        """Add to ``[D, B]`` the rows of the last logits, transposed, times ``[c, B]`` weights, which may change."""
        if not self._halves:
            part = self._raised(start, stop) if self._part is None else self._part
            total.addmm_(part.T, weights)
            return
        if in_bytes(self._rows):
            weights.mul_(self._rows.steps[start:stop, None])
        codes = codes_of(self._rows)[start:stop].to(torch.bfloat16)
        total.add_(torch.mm(codes.T, weights.to(torch.bfloat16)))

    def _raised(self, start: int, stop: int) -> Tensor:
        return block(self._rows, start, stop, self._scaled.dtype, self._buffer)


@dataclass(frozen=True)
class _Bytes:
    """Embeddings ``(coarse + fine / 254) * steps``, and room for a product."""

    coarse: Tensor  # [D, B] int8
    fine: Tensor  # [D, B] int8
    steps: Tensor  # [B]
    room: Tensor  # [c, B] int32

    @classmethod
    def of(cls, scaled: Tensor, chunk: int) -> _Bytes:
        steps = scaled.abs().amax(dim=0).clamp_min(torch.finfo(scaled.dtype).tiny) / 127
        exact = scaled / steps
        coarse = exact.round().clamp_(-127, 127)
        fine = ((exact - coarse) * _FINE).round_().clamp_(-127, 127)
        room = torch.empty(chunk, scaled.shape[1], dtype=torch.int32)
        return cls(coarse.to(torch.int8), fine.to(torch.int8), steps, room)

    def times(self, rows: CompactRows, out: Tensor) -> Tensor:
        """Write ``[c, B]``, rows in bytes times the embeddings."""
        room = self.room[: len(rows)]
        out.copy_(torch._int_mm(rows.codes, self.fine, out=room)).div_(_FINE)
        out.add_(torch._int_mm(rows.codes, self.coarse, out=room))
        return out.mul_(rows.steps[:, None]).mul_(self.steps)
