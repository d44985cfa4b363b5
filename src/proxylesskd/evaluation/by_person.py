"""How often a classifier of samples from people is right: people differ, so intervals are over them, not samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from proxylesskd.errors import UserError
from proxylesskd.evaluation.bootstrap import Difference, interval
from proxylesskd.evaluation.result import Estimate
from proxylesskd.models.modes import evaluating

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Score:
    """What a classifier said of some samples.

    Attributes:
        confusion: ``[C, C]`` samples of each class (row) that were called each (column).
        right: right answers by person.
        asked: samples by person.
    """

    confusion: Ints
    right: Mapping[int, int]
    asked: Mapping[int, int]

    @property
    def accuracy(self) -> float:
        """Share of right answers, in [0, 1]."""
        return float(np.trace(self.confusion) / self.confusion.sum())

    @property
    def macro_f1(self) -> float:
        """Mean over classes of F1, 0 for one that is neither met nor named."""
        met, named = self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        return float(np.mean(2 * np.diag(self.confusion) / np.maximum(met + named, 1)))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        people = {str(one): [self.right[one], self.asked[one]] for one in self.asked}
        told = {"accuracy": self.accuracy, "macro_f1": self.macro_f1, "people": people}
        return told | {"confusion": self.confusion.tolist()}


def logits_of(model: nn.Module, values: Tensor, batch: int = 512) -> Tensor:
    """Return ``[N, …]``, what a model says of ``[N, …]`` samples, in evaluation mode and without gradients."""
    with evaluating(model):
        return torch.cat([model(part) for part in torch.split(values, batch)])


def score(logits: Tensor, labels: Tensor, people: Tensor) -> Score:
    """Score ``[N, C]`` logits of samples with ``[N] int64`` labels, of ``[N] int64`` people."""
    classes, said = logits.shape[1], logits.argmax(dim=1)
    confusion = torch.bincount(labels * classes + said, minlength=classes**2).view(classes, classes).numpy()
    own = {int(one): people == one for one in torch.unique(people)}
    right = {one: int((said == labels)[mine].sum()) for one, mine in own.items()}
    return Score(confusion, right, {one: int(mine.sum()) for one, mine in own.items()})


def read_score(told: Mapping[str, Any]) -> Score:
    """Return what :meth:`Score.to_dict` told.

    Raises:
        UserError: it is not that.
    """
    try:
        people = {int(one): (int(right), int(asked)) for one, (right, asked) in told["people"].items()}
        confusion = np.array(told["confusion"], dtype=np.int64)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"expected a score with people and confusion, found: {error!r}; evaluate again") from error
    return Score(
        confusion, {k: right for k, (right, _) in people.items()}, {k: asked for k, (_, asked) in people.items()}
    )


def estimate(scores: Sequence[Score], replicates: int = 2000, seed: int = 0) -> Estimate:
    """Return the mean accuracy over trainings, each with a seed, and its 95 % interval over people and trainings."""
    value, drawn = _resampled(scores, replicates, seed)
    return Estimate(value, *(interval(drawn) or (None, None)))


def difference(ours: Sequence[Score], theirs: Sequence[Score], replicates: int = 2000, seed: int = 0) -> Difference:
    """Return by how much ``ours`` are more accurate, paired: both see the same draws of people and of trainings."""
    (value, drawn), (other, also) = (_resampled(scores, replicates, seed) for scores in (ours, theirs))
    lower, upper = interval(drawn - also) or (float("nan"), float("nan"))
    return Difference(value - other, lower, upper, "people and trainings")


def _resampled(scores: Sequence[Score], replicates: int, seed: int) -> tuple[float, npt.NDArray[np.float64]]:
    """Return the accuracy and its bootstrap replicates ``[R]``: people and trainings are drawn with repetition."""
    people = list(scores[0].asked)
    right = np.array([[one.right[who] for who in people] for one in scores])  # [S, P]
    asked = np.array([scores[0].asked[who] for who in people])  # [P]
    random = np.random.default_rng(seed)
    drawn = random.multinomial(len(people), np.full(len(people), 1 / len(people)), replicates)  # [R, P]
    runs = random.multinomial(len(scores), np.full(len(scores), 1 / len(scores)), replicates)  # [R, S]
    by_run = drawn @ right.T / (drawn @ asked)[:, None]  # [R, S]
    return float(right.sum() / asked.sum() / len(scores)), (by_run * runs).sum(axis=1) / len(scores)
