"""GKD (Zhao, Zhu, Guo, Zhang, Lei; AAAI 2023, arXiv 2304.04462): distil the logits of the identities that matter.

For each sample the identities fall into a primary group, which the student finds likely, and the others. The student
learns how much the teacher gives to the group as a whole and how it shares that out within; what the teacher says of
the thousands of others is left out.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proxylesskd.errors import UserError
from proxylesskd.losses.engines.collective import sum_over_ranks, world_size
from proxylesskd.losses.margin import Margin
from proxylesskd.methods.logits import Heads, require_temperature
from proxylesskd.methods.method import Batch, Seen
from proxylesskd.methods.proxyless import Frozen


def primary_size(mass: Tensor, wanted: float, stride: int = 1) -> int:
    """Return the smallest K among 1, 1 + stride, … whose K likeliest identities hold the wanted mass, else all C.

    Args:
        mass: ``[C]``, the sum over a batch of the student's probabilities, without temperature.
        wanted: how much of it, the batch's size at most.
        stride: between the sizes that are tried.
    """
    held = mass.sort(descending=True).values.cumsum(0)[::stride]  # [k], by 1, 1 + stride, … identities
    short = int((held < wanted).sum())
    return min(short * stride + 1, len(mass)) if short < len(held) else len(mass)


def primary_group(student: Tensor, labels: Tensor, size: int) -> Tensor:
    """Return ``[B, K] int64``, the identities of each sample's K largest student logits, its own among them.

    Args:
        student: ``[B, C]`` logits.
        labels: ``[B] int64``.
        size: K, in [1, C].
    """
    ranked = student.detach().scatter(1, labels[:, None], torch.inf)
    return ranked.topk(size, dim=1, sorted=False).indices


def gkd_losses(
    student: Tensor, teacher: Tensor, group: Tensor, temperature: float = 4.0, *, secondary: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the divergences between the groups, within the primary and within the secondary one.

    Each is ``T²`` times the batch's mean of ``KL(teacher ‖ student)``; without others, first and last are 0.

    Args:
        student: ``[B, C]`` logits, floating point, margins and scale in them.
        teacher: ``[B, C]`` logits.
        group: ``[B, K] int64``, the distinct identities of the primary group.
        temperature: ``T`` > 0.
        secondary: compute the last one; else it is 0.
    """
    own, told = student / temperature, teacher / temperature
    square = temperature**2
    primary = square * _divergence(told.gather(1, group), own.gather(1, group))
    if group.shape[1] == student.shape[1]:
        return primary.new_zeros(()), primary, primary.new_zeros(())
    rest_own, rest_told = (logits.scatter(1, group, -torch.inf) for logits in (own, told))  # [B, C]
    binary = square * _divergence(_two(told, rest_told, group), _two(own, rest_own, group))
    return binary, primary, square * _divergence(rest_told, rest_own) if secondary else binary.new_zeros(())


def _two(logits: Tensor, rest: Tensor, group: Tensor) -> Tensor:
    """Return ``[B, 2]``, the logits of the two groups as wholes."""
    return torch.stack((logits.gather(1, group).logsumexp(dim=1), rest.logsumexp(dim=1)), dim=1)


def _divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """Return the mean ``KL(softmax(teacher) ‖ softmax(student))``; logits of -inf, in both, take no part."""
    told, guess = F.log_softmax(teacher, dim=1), F.log_softmax(student, dim=1)
    return (told.exp() * (told - guess).masked_fill(told == -torch.inf, 0.0)).sum(dim=1).mean()


class GKD(nn.Module):
    """The margin softmax of the student and, rising over the first part of the training, the grouped divergences.

    Both kinds of logits are ``s cos`` with the margin on the own identity. The teacher's go through the inherited
    rows, the student's through trained rows of its own or, by option, through the same ones.

    Args:
        classifier: the teacher's rows, ``[C, D]``.
        num_identities: C.
        dim: of the student's embedding.
        teacher_dim: of the teacher's, D.
        margin: on the cosine with the own row, of student and teacher; the paper's is CosFace 0.4.
        scale: ``s``.
        seed: of the own head's first values.
        group: K, the size of the primary group; 0 finds the smallest that holds the ``coverage``.
        coverage: share of the student's probability over the whole batch that the group holds, in (0, 1].
        stride: between the sizes that are tried.
        temperature: ``T``.
        binary: weight of the divergence between the groups.
        primary: of that within the primary group.
        secondary: of that within the other one.
        warmup: the divergences' weight rises from 0 to full over this fraction of the training, in [0, 1].
        head: ``"own"`` or ``"inherited"``.

    Raises:
        UserError: an option is out of range, dimensions differ, or the classifier is not whole.
    """

    needs: frozenset[str] = frozenset({"teacher_embeddings"})

    def __init__(
        self,
        *,
        classifier: Frozen,
        num_identities: int,
        dim: int,
        teacher_dim: int,
        margin: Margin,
        scale: float = 64.0,
        seed: int = 0,
        group: int = 0,
        coverage: float = 0.93,
        stride: int = 1,
        temperature: float = 4.0,
        binary: float = 1.0,
        primary: float = 8.0,
        secondary: float = 0.0,
        warmup: float = 0.5,
        head: str = "own",
    ) -> None:
        super().__init__()
        require_temperature(temperature, "gkd")
        _check(classifier.stored.shape[0], num_identities, group, stride)
        _check_shares(coverage, warmup, binary, primary, secondary)
        self.heads = Heads(
            classifier=classifier,
            dim=dim,
            teacher_dim=teacher_dim,
            scale=scale,
            head=head,
            margin=margin,
            seed=seed,
            what="gkd",
        )
        # A margin that follows the lengths of embeddings must not take the teacher's for the student's.
        self.margin, self.teacher_margin, self.scale = margin, copy.deepcopy(margin), scale
        self.group, self.coverage, self.stride, self.temperature = group, coverage, stride, temperature
        self.binary, self.primary, self.secondary, self.warmup = binary, primary, secondary, warmup

    def loss(self, seen: Seen, batch: Batch) -> dict[str, Tensor]:
        """Return the sum, its parts, the size of the primary group and the accuracy without margin.

        Raises:
            UserError: the margin bends hard negatives.
        """
        part = slice(batch.general)
        embeddings, labels = seen.general(batch)
        plain, told = (logits[part] for logits in self.heads(seen, batch))  # [B, C]
        student, penalty = self._margined(self.margin, plain, labels, embeddings.norm(dim=1))
        with torch.no_grad():
            teacher, _ = self._margined(self.teacher_margin, told, labels, torch.ones_like(told[:, 0]))
        size = self._size(student.detach())
        group = primary_group(student, labels, size)
        parts = gkd_losses(student, teacher, group, self.temperature, secondary=self.secondary > 0)
        weights = (self.binary, self.primary, self.secondary)
        distilled = torch.stack([weight * each for weight, each in zip(weights, parts, strict=True)]).sum()
        hard = F.cross_entropy(student, labels) + penalty
        return {
            "loss": hard + self._risen(batch.progress) * distilled,
            "hard": hard,
            "binary": parts[0],
            "primary": parts[1],
            "group": hard.new_tensor(float(size)),
            "accuracy": (plain.argmax(dim=1) == labels).float().mean(),
        }

    def _margined(self, margin: Margin, logits: Tensor, labels: Tensor, norms: Tensor) -> tuple[Tensor, Tensor | float]:
        """Return ``[B, C]`` logits with the margin on the own ones, and the margin's mean penalty."""
        margined = margin(logits.gather(1, labels[:, None])[:, 0] / self.scale, norms)
        if margined.bend is not None:
            raise UserError("expected a margin on the own identity alone for gkd, found curricularface; take cosface")
        target = (self.scale * margined.target).to(logits)
        penalty = 0.0 if margined.penalty is None else margined.penalty.mean()
        return logits.scatter(1, labels[:, None], target[:, None]), penalty

    def _size(self, student: Tensor) -> int:
        """Return K, which all processes share."""
        count = student.shape[1]
        if self.group > 0:
            return min(self.group, count)
        mass = sum_over_ranks(F.softmax(student, dim=1).sum(dim=0))  # [C]
        return primary_size(mass, self.coverage * len(student) * world_size(), self.stride)

    def _risen(self, progress: float) -> float:
        return 1.0 if self.warmup == 0 else min(1.0, progress / self.warmup)


def _check(rows: int, num_identities: int, group: int, stride: int) -> None:
    if rows != num_identities:
        raise UserError(
            f"expected all {num_identities} rows of the classifier for gkd, found {rows}; "
            "leave method.engine=sharded out"
        )
    if group < 0 or stride < 1:
        raise UserError(f"expected group >= 0 (0: adaptive) and stride >= 1 of gkd, found {group} and {stride}")


def _check_shares(coverage: float, warmup: float, *weights: float) -> None:
    if not (0.0 < coverage <= 1.0 and 0.0 <= warmup <= 1.0 and min(weights) >= 0.0):
        raise UserError(
            "expected coverage in (0, 1], warmup in [0, 1] and weights >= 0 of gkd, "
            f"found coverage={coverage}, warmup={warmup} and weights {weights}"
        )
