"""Knowledge distillation (Hinton, Vinyals, Dean; arXiv 1503.02531): the teacher's softened guesses as targets."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from proxylesskd.errors import UserError
from proxylesskd.losses.margin import Margin
from proxylesskd.methods.logits import Heads, require_temperature
from proxylesskd.methods.method import Batch, Seen
from proxylesskd.methods.proxyless import Frozen


def kd_loss(student: Tensor, teacher: Tensor, temperature: float = 4.0) -> Tensor:
    """Return ``T² KL(softmax(z_t / T) ‖ softmax(z_s / T))``, the mean over the batch.

    Args:
        student: ``[B, C]`` logits ``z_s``, floating point.
        teacher: ``[B, C]`` logits ``z_t``.
        temperature: ``T`` > 0; ``T²`` keeps the gradient's size (section 2.1 of the paper).

    Returns:
        A scalar >= 0 up to rounding.
    """
    told, guess = F.log_softmax(teacher / temperature, dim=1), F.log_softmax(student / temperature, dim=1)
    return temperature**2 * (told.exp() * (told - guess)).sum(dim=1).mean()


class KD(nn.Module):
    """Guesses over all identities, the teacher's through the inherited classifier.

    Args:
        classifier: the teacher's rows, ``[C, D]``.
        dim: of the student's embedding.
        teacher_dim: of the teacher's, D.
        margin: of the own head's classification loss; unused with the inherited one.
        scale: ``s``: logits are ``s cos``, without margin.
        seed: of the own head's first values.
        temperature: ``T``.
        head: ``"inherited"``: the student guesses through the teacher's rows, and nothing else is learnt here;
            ``"own"``: through trained rows, and their margin softmax is a part of this loss.
        soft: weight of the guesses, beside the margin softmax of an own head.
    """

    needs: frozenset[str] = frozenset({"teacher_embeddings"})

    def __init__(
        self,
        *,
        classifier: Frozen,
        dim: int,
        teacher_dim: int,
        margin: Margin | None = None,
        scale: float = 64.0,
        seed: int = 0,
        temperature: float = 4.0,
        head: str = "inherited",
        soft: float = 1.0,
    ) -> None:
        super().__init__()
        require_temperature(temperature, "kd")
        if not soft >= 0:
            raise UserError(f"expected soft >= 0 of kd, found {soft}")
        self.heads = Heads(
            classifier=classifier,
            dim=dim,
            teacher_dim=teacher_dim,
            scale=scale,
            head=head,
            margin=margin,
            seed=seed,
            what="kd",
        )
        self.temperature, self.soft = temperature, soft

    def loss(self, seen: Seen, batch: Batch) -> dict[str, Tensor]:
        """Return the divergence of the guesses, ``soft``, and with an own head its margin softmax, ``hard``."""
        student, teacher = self.heads(seen, batch)  # [B, C]
        soft = self.soft * kd_loss(student, teacher, self.temperature)
        return self.heads.classified({"loss": soft, "soft": soft}, seen, batch)
