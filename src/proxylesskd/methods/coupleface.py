"""CoupleFace (Liu et al.; ECCV 2022, arXiv 2204.05502), after its abstract: features, and relations to prototypes.

The abstract names the parts: feature consistency, mutual relations of which the informative ones are mined, and a loss
that is aware of what a relation means. How each is made is this package's own choice and said below.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proxylesskd.errors import UserError
from proxylesskd.losses.rows import Rows, block, gather
from proxylesskd.methods.l2 import l2_loss, require_same_dim
from proxylesskd.methods.method import Batch, Seen, needed
from proxylesskd.methods.proxyless import Frozen

# In a sum with the classification loss: VarGFaceNet's (arXiv 1910.04985) of the same feature term; the paper's is
# not known here.
WEIGHT = 7.0
_ROWS = 16384  # at a time: [128, 16384] float32 cosines are 8 MiB


@torch.no_grad()
def nearest_prototypes(teacher: Tensor, rows: Rows, labels: Tensor, count: int) -> Tensor:
    """Return ``[B, k] int64``, the rows of other identities to which the teacher finds each image most similar.

    Args:
        teacher: ``[B, D]`` unit embeddings.
        rows: ``[C, D]`` unit rows, looked at block by block.
        labels: ``[B] int64``, the own rows.
        count: k, or C - 1 where that is fewer.
    """
    total = rows.shape[0]
    count = min(count, total - 1)
    best = teacher.new_empty(len(teacher), 0)
    found = labels.new_empty(len(teacher), 0)
    for start in range(0, total, _ROWS):
        stop = min(start + _ROWS, total)
        cosine = teacher @ block(rows, start, stop, teacher.dtype).T  # [B, c]
        numbers = torch.arange(start, stop, device=labels.device)
        cosine.masked_fill_(numbers == labels[:, None], -math.inf)
        values, column = cosine.topk(min(count, stop - start), dim=1)
        best, kept = torch.cat([best, values], dim=1).topk(min(count, best.shape[1] + values.shape[1]), dim=1)
        found = torch.cat([found, column + start], dim=1).gather(1, kept)
    return found


def relations(embeddings: Tensor, prototypes: Tensor) -> Tensor:
    """Return ``[B, k]``, the cosines of ``[B, D]`` embeddings with the ``[B, k, D]`` unit prototypes of each."""
    return torch.bmm(prototypes, F.normalize(embeddings, dim=1)[:, :, None]).squeeze(2)


def relation_loss(student: Tensor, teacher: Tensor, one_sided: bool = True) -> Tensor:
    """Return ``1/B Σ_i Σ_j (r_s - r_t)²`` over each image's prototypes.

    Args:
        student: ``[B, k]`` cosines with prototypes of other identities.
        teacher: ``[B, k]``, likewise.
        one_sided: count only where the student finds another identity more similar than the teacher does: to find it
            less similar is no error.
    """
    excess = student - teacher
    return (excess.clamp_min(0.0) if one_sided else excess).square().sum(dim=1).mean()


class CoupleFace(nn.Module):
    """``‖f̂ - t̂‖² + w Σ_j max(0, f̂·W_j - t̂·W_j)²``, the mean over images; W_j are the inherited rows.

    The sum is over the ``prototypes`` rows of other identities that are most similar to the teacher's embedding of the
    image; relations to the rest say little and are many.

    Args:
        classifier: the teacher's rows, ``[C, D]``: an identity's prototype.
        dim: of the student's embedding.
        teacher_dim: of the teacher's; both are D.
        prototypes: how many an image is compared with, at least 1; all others where there are fewer.
        relation: ``w``, weight of the relations beside the features.
        one_sided: see :func:`relation_loss`.

    Raises:
        UserError: student, teacher and rows differ in dimension, or an option is out of range.
    """

    needs: frozenset[str] = frozenset({"teacher_embeddings"})

    def __init__(
        self,
        *,
        classifier: Frozen,
        dim: int,
        teacher_dim: int,
        prototypes: int = 100,
        relation: float = 1.0,
        one_sided: bool = True,
    ) -> None:
        super().__init__()
        for given in (dim, teacher_dim):
            require_same_dim(given, classifier.stored.shape[1], "coupleface through its classifier")
        if not (prototypes >= 1 and 0 <= relation < math.inf):
            raise UserError(
                f"expected prototypes >= 1 and relation >= 0 of coupleface, found {prototypes} and {relation}"
            )
        self.classifier = classifier
        self.prototypes, self.relation, self.one_sided = prototypes, relation, one_sided

    def loss(self, seen: Seen, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted sum of both terms, and the terms."""
        student = seen.embeddings
        teacher = needed(batch.teacher_embeddings, "teacher_embeddings").to(student)
        feature = l2_loss(student, teacher)
        chosen = self._prototypes(teacher, batch.labels)  # [B, k, D]
        relation = relation_loss(relations(student, chosen), relations(teacher, chosen), self.one_sided)
        return {"loss": feature + self.relation * relation, "feature": feature, "relation": relation}

    def _prototypes(self, teacher: Tensor, labels: Tensor) -> Tensor:
        rows = self.classifier.stored
        nearest = nearest_prototypes(teacher, rows, labels, self.prototypes)
        return gather(rows, nearest.flatten(), teacher.dtype).view(*nearest.shape, teacher.shape[1])
