"""Ten-fold verification accuracy as LFW (Huang et al. 2007, view 2) and InsightFace define it.

The threshold of each fold is the one that is most accurate on the other folds. InsightFace looks for it among 400
squared distances from 0 to 4; here every distinct score is a candidate, so a few pairs near the threshold may be
decided otherwise: two of the 6,000 of LFW with the one model that was compared, 0.03 points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from proxylesskd.errors import UserError
from proxylesskd.evaluation.roc import Bools, Floats, check_scores, last_of_ties


@dataclass(frozen=True)
class FoldAccuracy:
    """Accuracy over folds.

    Attributes:
        mean: over the folds, in [0, 1].
        std: population standard deviation over the folds, as both conventions have it.
        threshold: mean of the folds' thresholds.
        correct: ``[P]`` whether each pair was decided rightly with its fold's threshold.
    """

    mean: float
    std: float
    threshold: float
    correct: Bools


def best_threshold(scores: Floats, same: Bools) -> float:
    """Return the threshold with the most right decisions: midway between two neighbouring scores.

    Of several equally good ones the highest is taken: just above all scores where accepting nobody is as good.
    """
    order = np.argsort(-scores, kind="stable")
    ends = last_of_ties(scores[order])
    right = np.cumsum(np.where(same[order], 1, -1))[ends]  # relative to accepting nobody
    values = scores[order][ends]
    best = int(np.argmax(right))
    if right[best] <= 0:
        return float(np.nextafter(values[0], np.inf))
    value, below = float(values[best]), float(values[min(best + 1, len(values) - 1)])
    middle = (value + below) / 2
    return middle if middle > below else value  # between two neighbouring floats there is no middle


def check_folds(fold: npt.NDArray[np.int64]) -> None:
    """Stop on pairs ``[P]`` that are all in one fold.

    Raises:
        UserError: fewer than two folds.
    """
    if (fold == fold[0]).all():
        raise UserError("expected at least two folds of pairs, found one; give a fold column or draw pairs anew")


def fold_accuracy(scores: Floats, same: Bools, fold: npt.NDArray[np.int64]) -> FoldAccuracy:
    """Return the accuracy over folds, each decided with the threshold of the others.

    Args:
        scores: ``[P]`` similarities.
        same: ``[P]`` whether a pair shows one identity.
        fold: ``[P]`` number of the fold.

    Raises:
        UserError: fewer than two folds, or see :func:`proxylesskd.evaluation.roc.check_scores`.
    """
    check_scores(scores, same)
    check_folds(fold)
    numbers = np.unique(fold)
    thresholds = [best_threshold(scores[fold != number], same[fold != number]) for number in numbers]
    correct = np.zeros(len(same), dtype=bool)
    for number, threshold in zip(numbers, thresholds, strict=True):
        mine = fold == number
        correct[mine] = (scores[mine] >= threshold) == same[mine]
    accuracies = [float(correct[fold == number].mean()) for number in numbers]
    return FoldAccuracy(float(np.mean(accuracies)), float(np.std(accuracies)), float(np.mean(thresholds)), correct)
