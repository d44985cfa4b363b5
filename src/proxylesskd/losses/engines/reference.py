"""The specification: all cosines at once, the gradient by autograd."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from proxylesskd.losses.engines.engine import Bend
from proxylesskd.losses.rows import Rows, block, gather


class Reference:
    """Plain PyTorch, in memory that grows with B·C; the only engine whose rows may be trained."""

    def count(self, rows: Rows) -> int:
        """See :class:`proxylesskd.losses.engines.engine.Engine`."""
        return rows.shape[0]

    def own(self, rows: Rows, labels: Tensor, dtype: torch.dtype) -> Tensor:
        """See :class:`proxylesskd.losses.engines.engine.Engine`."""
        return gather(rows, labels, dtype)

    def negatives(
        self, unit: Tensor, rows: Rows, labels: Tensor, scale: float, bend: Bend | None = None
    ) -> tuple[Tensor, Tensor]:
        """See :class:`proxylesskd.losses.engines.engine.Engine`."""
        cosine = unit @ block(rows, 0, rows.shape[0], unit.dtype).T  # [B, C] cosine
        best = cosine.detach().scatter(1, labels[:, None], -math.inf).amax(dim=1)
        logits = scale * (cosine if bend is None else bent(cosine, bend))
        return torch.logsumexp(logits.scatter(1, labels[:, None], -math.inf), dim=1), best

    def mean_row(self, rows: Rows, dtype: torch.dtype) -> Tensor:
        """See :class:`proxylesskd.losses.engines.engine.Engine`."""
        return block(rows, 0, rows.shape[0], dtype).mean(dim=0)


def bent(cosine: Tensor, bend: Bend) -> Tensor:
    """Return ``[B, C]`` cosines of which the hard ones, above ``bend.threshold``, are bent."""
    return torch.where(cosine > bend.threshold[:, None], cosine * (bend.t + cosine), cosine)
