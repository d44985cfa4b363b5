"""Distillation by token (DeiT, Touvron et al., arXiv 2012.12877): one head hears the labels, one the teacher.

For a student that says logits, of two heads or one, where those of the catalogue say an embedding; the losses and
defaults are those of Kagiyama, Okita (arXiv 2505.22985).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proxylesskd.errors import UserError, nearest
from proxylesskd.methods.kd import kd_loss
from proxylesskd.methods.logits import cosine_logits, require_temperature
from proxylesskd.methods.method import Batch, Seen, needed
from proxylesskd.methods.proxyless import Frozen

KINDS = ("labels", "kl", "js")


def js_loss(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Return ``T² JS(softmax(z_t / T), softmax(z_s / T))``, the mean over the batch, each in [0, T² ln 2].

    Half the sum of the divergences of both from their mean, of one softmax each.

    Args:
        student: ``[B, C]`` logits, floating point.
        teacher: likewise.
        temperature: T > 0.
    """
    logs = [F.log_softmax(logits / temperature, dim=1) for logits in (student, teacher)]
    mean = torch.logsumexp(torch.stack(logs), dim=0) - torch.log(torch.tensor(2.0))  # [B, C]
    apart = sum((log.exp() * (log - mean)).sum(dim=1) for log in logs)
    return temperature**2 * 0.5 * torch.as_tensor(apart).mean()


class TokenDistillation(nn.Module):
    """``(1 - α) CE(class head, label) + α D(distillation head, teacher)``, equation 1 of arXiv 2505.22985.

    The student says ``[B, 2 C]``, the class head's logits and the distillation head's, or ``[B, C]`` where one head is
    both.

    Args:
        classes: C.
        kind: of D: ``"kl"``, ``"js"``, or ``"labels"``, the cross entropy again: the same student without a teacher.
        classifier: the teacher's, through which its embeddings become guesses; not needed for labels.
        scale: ``s`` of the teacher's logits.
        share: α in [0, 1].
        temperature: T of D.
        smoothing: of the labels, in [0, 1).

    Raises:
        UserError: a setting is out of range, or the teacher's classifier is missing.
    """

    needs: frozenset[str] = frozenset()

    def __init__(
        self,
        *,
        classes: int,
        kind: str = "kl",
        classifier: Frozen | None = None,
        scale: float = 64.0,
        share: float = 0.5,
        temperature: float = 1.0,
        smoothing: float = 0.1,
    ) -> None:
        super().__init__()
        if kind not in KINDS:
            raise UserError(
                f"expected {', '.join(KINDS)} on the distillation token, found '{kind}'{nearest(kind, KINDS)}"
            )
        if not (0 <= share <= 1 and 0 <= smoothing < 1):
            raise UserError(f"expected a share in [0, 1] and smoothing in [0, 1), found {share} and {smoothing}")
        if kind != "labels" and classifier is None:
            raise UserError(f"expected the teacher's classifier for {kind}, found none; give --teacher")
        require_temperature(temperature, kind)
        self.classes, self.kind, self.classifier, self.scale = classes, kind, classifier, scale
        self.share, self.temperature, self.smoothing = share, temperature, smoothing
        self.needs = frozenset() if kind == "labels" else frozenset({"teacher_embeddings"})

    def loss(self, seen: Seen, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted sum, its two parts, and the accuracy of the mean of both heads."""
        heads = torch.split(seen.embeddings, self.classes, dim=1)
        named, heard = heads[0], heads[-1]  # [B, C] each
        hard, soft = self._right(named, batch.labels), self._soft(heard, batch)
        right = ((named + heard).argmax(dim=1) == batch.labels).float().mean()
        return {"loss": (1 - self.share) * hard + self.share * soft, "hard": hard, "soft": soft, "accuracy": right}

    def _right(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, label_smoothing=self.smoothing)

    def _soft(self, heard: Tensor, batch: Batch) -> Tensor:
        if self.classifier is None or self.kind == "labels":
            return self._right(heard, batch.labels)
        embeddings = needed(batch.teacher_embeddings, "teacher_embeddings")
        taught = cosine_logits(embeddings, self.classifier.stored, self.scale)  # [B, C]
        return (kd_loss if self.kind == "kl" else js_loss)(heard, taught, self.temperature)
