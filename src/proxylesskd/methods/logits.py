"""Logits for the methods that distil them: the teacher's through its classifier, the student's through that or its own.

These methods compare two distributions over all identities, so ``[B, C]`` logits of both are formed plainly: at most
7 (KD, TH-KD) to 10 (DKD) tensors of 4 B C bytes at a time, 0.4 to 0.5 GB at 128 images and 100,000 identities. Above
some 100,000 identities use a method that needs no logits.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proxylesskd.errors import UserError, nearest
from proxylesskd.losses.margin import Margin
from proxylesskd.losses.rows import Rows, block
from proxylesskd.methods.alone import Alone
from proxylesskd.methods.l2 import require_same_dim
from proxylesskd.methods.method import Batch, Seen, needed
from proxylesskd.methods.proxyless import Frozen

HEADS = ("inherited", "own")


def cosine_logits(embeddings: Tensor, rows: Rows, scale: float) -> Tensor:
    """Return ``[B, C]``, ``s cos(x_i, W_j)``, without a margin.

    Args:
        embeddings: ``[B, D]`` floating point, any length.
        rows: ``[C, D]``, unit rows.
        scale: ``s``.
    """
    compute = torch.promote_types(embeddings.dtype, torch.float32)
    unit = F.normalize(embeddings.to(compute), dim=1)
    return scale * (unit @ block(rows, 0, rows.shape[0], compute).T)


class Heads(nn.Module):
    """Where logits come from.

    Args:
        classifier: the inherited rows, ``[C, D]``, all of them.
        dim: of the student's embedding.
        teacher_dim: of the teacher's, D.
        scale: ``s`` of all logits.
        head: of the student: ``"inherited"``, the same frozen rows, or ``"own"``, trained rows.
        margin: of the own head's classification loss.
        seed: of the own head's first values.
        what: the method, for messages.

    Attributes:
        own: the student's own head, which is that of ``alone``; None where it shares the teacher's.
    """

    def __init__(
        self,
        *,
        classifier: Frozen,
        dim: int,
        teacher_dim: int,
        scale: float,
        head: str,
        margin: Margin | None,
        seed: int,
        what: str,
    ) -> None:
        super().__init__()
        if head not in HEADS:
            raise UserError(f"expected head inherited or own of {what}, found '{head}'{nearest(head, HEADS)}")
        count, width = classifier.stored.shape
        if teacher_dim != width:
            raise UserError(
                f"expected a classifier of the teacher's dimension {teacher_dim} for {what}, found rows of {width}; "
                "give the one that was inherited from this teacher"
            )
        if head == "inherited":
            require_same_dim(dim, width, f"{what} through the inherited classifier")
        self.classifier, self.scale = classifier, scale
        self.own: Alone | None = None
        if head == "own":
            if margin is None:
                raise UserError(
                    f"expected a margin for {what} with an own head, found none; give one such as ArcFace()"
                )
            self.own = Alone(num_identities=count, dim=dim, margin=margin, scale=scale, seed=seed)

    def forward(self, seen: Seen, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the student's and the teacher's ``[B, C]`` logits, the latter without gradient."""
        stored = self.classifier.stored
        with torch.no_grad():
            teacher = cosine_logits(needed(batch.teacher_embeddings, "teacher_embeddings"), stored, self.scale)
        rows = stored if self.own is None else F.normalize(self.own.rows, dim=1)
        return cosine_logits(seen.embeddings, rows, self.scale), teacher

    def classified(self, told: dict[str, Tensor], seen: Seen, batch: Batch) -> dict[str, Tensor]:
        """Add what trains the own head, its margin softmax; with the inherited head there is nothing to add."""
        if self.own is None:
            return told
        hard = self.own.loss(seen, batch)
        return told | {"loss": told["loss"] + hard["loss"], "hard": hard["loss"], "accuracy": hard["accuracy"]}


def require_temperature(temperature: float, what: str) -> None:
    """Stop where the temperature of a softmax is not positive."""
    if not temperature > 0:
        raise UserError(f"expected a positive temperature of {what}, found {temperature}")
