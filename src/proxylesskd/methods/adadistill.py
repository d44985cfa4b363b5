"""AdaDistill (Boutros, Štruc, Damer; ECCV 2024, arXiv 2407.01332): class centres that follow the teacher.

The centres start as noise and take in the teacher's embeddings, the more of them the less the student resembles the
teacher yet. So early in the training a sample meets its own teacher embedding, later the centre of its class.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proxylesskd.losses.engines.collective import from_all_ranks
from proxylesskd.losses.frozen_softmax import margin_softmax
from proxylesskd.losses.margin import Margin
from proxylesskd.methods.l2 import require_same_dim
from proxylesskd.methods.method import Batch, Seen, needed

_LEAST = 1e-6  # of the factors of the weighted alpha


def momenta(agreement: Tensor, centres: Tensor, teacher: Tensor, *, weighted: bool = True) -> Tensor:
    """Return ``[B]``, the share ``α`` of itself that each sample leaves to its centre.

    With ``a = cos(f_s, f_t)`` the plain one is ``α = clip(a, 0, 1)``. The weighted one also asks how typical of its
    class the teacher finds the sample: ``α' = clip(a · clip(cos(w_y, f_t), 1e-6, 1), 1e-6, 1)``.

    Args:
        agreement: ``[B]``, ``a``.
        centres: ``[B, D]``, the samples' own centres before the update, of any length.
        teacher: ``[B, D]``, unit embeddings of the teacher.
        weighted: which of the two.
    """
    if not weighted:
        return agreement.clamp(0.0, 1.0)
    typical = F.cosine_similarity(centres, teacher, dim=1).clamp(_LEAST, 1.0)
    return (agreement.clamp(-1.0, 1.0) * typical).clamp(_LEAST, 1.0)


def moved_centres(centres: Tensor, teacher: Tensor, labels: Tensor, momentum: Tensor) -> Tensor:
    """Return ``[B, D]``, the samples' own centres after the update ``w_y <- α w_y + (1 - α) f_t``.

    Where an identity stands several times in the batch, each of its samples moves the centre as it was, and the new
    centre is the mean of the results. A mean knows no order; and it is what an update whose last writer wins, as the
    released code's, comes to on average over which one that is.

    Args:
        centres: ``[B, D]``, the samples' own centres, equal where the labels are.
        teacher: ``[B, D]``, unit embeddings of the teacher.
        labels: ``[B] int64``.
        momentum: ``[B]``, ``α``. Where it is not finite the sample moves nothing.

    Returns:
        ``[B, D]``, equal to the last bit where the labels are equal.
    """
    sane = momentum.isfinite()
    alpha = momentum.where(sane, 1.0)[:, None]
    alone = alpha * centres + (1 - alpha) * teacher.where(sane[:, None], 0.0)  # [B, D] each sample by itself
    same = labels[:, None] == labels  # [B, B]
    shares = same.to(alone.dtype)
    means = (shares / shares.sum(dim=1, keepdim=True)) @ alone
    # Rows of one product may differ in their last bit: all samples of an identity take the row of its first one.
    first: Tensor = same.to(torch.uint8).argmax(dim=1)
    return means[first]


class AdaDistill(nn.Module):
    """A margin softmax through centres that move with the teacher; its gradient goes to the student alone.

    Every process keeps the same centres: they move by the whole batch, the parts of all ranks. A step touches the
    centres of the batch only.

    Args:
        num_identities: C.
        dim: of the student's embedding.
        teacher_dim: D of the teacher's, and so of the centres; the same.
        margin: on the cosine with the own centre; the paper's best are ArcFace 0.45 and CosFace 0.35.
        scale: ``s`` of the softmax.
        seed: of the centres' first values, N(0, 0.01²): the first update is nearly the teacher's embedding.
        engine: of the softmax by name, see :func:`proxylesskd.losses.frozen_softmax.margin_softmax`.
        weighted: take ``α'``, the paper's final method, rather than ``α``; see :func:`momenta`.

    Attributes:
        rows: ``[C, D] float32``, the centres at unit length: what the softmax goes through.
        lengths: ``[C] float32``, of the centres themselves.

    Raises:
        UserError: student and teacher differ in dimension.
    """

    needs: frozenset[str] = frozenset({"teacher_embeddings"})
    rows: Tensor
    lengths: Tensor

    def __init__(
        self,
        *,
        num_identities: int,
        dim: int,
        teacher_dim: int,
        margin: Margin,
        scale: float = 64.0,
        seed: int = 0,
        engine: str = "auto",
        weighted: bool = True,
    ) -> None:
        super().__init__()
        require_same_dim(dim, teacher_dim, "adadistill")
        self.margin, self.scale, self.engine, self.weighted = margin, scale, engine, weighted
        first = 0.01 * torch.randn(num_identities, teacher_dim, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("rows", F.normalize(first, dim=1))
        self.register_buffer("lengths", first.norm(dim=1))

    @property
    def centres(self) -> Tensor:
        """``[C, D]``, the centres, of any length; computed anew."""
        return self.rows * self.lengths[:, None]

    def loss(self, seen: Seen, batch: Batch) -> dict[str, Tensor]:
        """Move the centres, then return the mean margin softmax through them, the accuracy and the mean ``α``."""
        embeddings, labels = seen.general(batch)
        teacher = needed(batch.teacher_embeddings, "teacher_embeddings")[: batch.general]
        momentum = self._follow(embeddings.detach(), teacher, labels)
        losses, correct = margin_softmax(
            embeddings, self.rows, labels, margin=self.margin, scale=self.scale, engine=self.engine
        )
        return {"loss": losses.mean(), "accuracy": correct.float().mean(), "momentum": momentum}

    @torch.no_grad()
    def _follow(self, embeddings: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Move the centres of the identities in all ranks' batches; return the mean ``α``."""
        agreement = from_all_ranks(F.cosine_similarity(embeddings, teacher.to(embeddings), dim=1)).to(self.rows)
        teacher, labels = from_all_ranks(teacher).to(self.rows), from_all_ranks(labels)
        old = self.rows[labels] * self.lengths[labels, None]  # [N B, D]
        momentum = momenta(agreement, old, teacher, weighted=self.weighted)
        new = moved_centres(old, teacher, labels, momentum)
        self.rows[labels] = F.normalize(new, dim=1)
        self.lengths[labels] = new.norm(dim=1)
        return momentum.mean()
