"""TAR at FAR, equal error rate and ROC from impostor scores that are counted instead of held.

Ties and rounding are those of :mod:`proxylesskd.evaluation.roc`: sorting all scores gives the same numbers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from proxylesskd.evaluation.exact_quantiles import Ints, Scores, SortedScores, bins_of, edges
from proxylesskd.evaluation.result import Estimate, Rate
from proxylesskd.evaluation.roc import Floats, Roc, equal_error_rate, impostors_allowed


def exact_rates(genuine: Scores, impostors: SortedScores, fars: Sequence[float]) -> dict[float, Rate]:
    """Return TAR at each FAR.

    Args:
        genuine: ``[G] float32`` in any order.
        impostors: their scores.
        fars: in (0, 1]; one that allows fewer than one impostor pair is reported as unsupported.
    """
    rising = np.sort(genuine).astype(np.float64)
    allowed = {far: int(impostors_allowed(far, len(impostors))) for far in fars}
    impostors.prepare({most for most in allowed.values() if 0 < most < len(impostors)})
    refused = {far: refused_at(impostors, most) for far, most in allowed.items() if most}
    impostors.prepare({higher - 1 for _, higher in refused.values() if higher})
    rates = {far: Rate(far, None, None, most) for far, most in allowed.items()}
    for far, (score, higher) in refused.items():
        accepted = rising[np.searchsorted(rising, score, side="right") :]
        lowest = [*accepted[:1], *([impostors.at(higher - 1).score] if higher else [])]
        threshold = min(lowest) if lowest else np.nextafter(score, np.inf)
        rates[far] = Rate(far, Estimate(len(accepted) / len(rising)), float(threshold), allowed[far])
    return rates


def refused_at(impostors: SortedScores, allowed: int) -> tuple[float, int]:
    """Return the highest score that must not be accepted, -inf where all may be, and how many scores are higher."""
    return impostors.at(allowed)[:2] if allowed < len(impostors) else (-np.inf, len(impostors))


def exact_eer(genuine: Scores, impostors: SortedScores) -> tuple[float, float]:
    """Return the equal error rate and its threshold, see :func:`proxylesskd.evaluation.roc.equal_error_rate`."""
    rising = np.sort(genuine).astype(np.float64)
    first, last = _where_rates_cross(genuine, impostors)

    def crossed(rank: int) -> bool:
        place = impostors.at(rank)
        return bool(place.reaching / len(impostors) >= np.searchsorted(rising, place.score) / len(rising))

    place = impostors.at(bisect_left(range(first, last), True, key=crossed) + first)
    before = impostors.at(place.higher - 1).score if place.higher else np.inf
    between = rising[np.searchsorted(rising, place.score, side="right") : np.searchsorted(rising, before, side="left")]
    thresholds = np.concatenate([[before], np.unique(between)[::-1], [place.score]])
    accepted = np.full(len(thresholds), place.higher)
    accepted[-1] = place.reaching
    hits = len(rising) - np.searchsorted(rising, thresholds, side="left")
    return equal_error_rate(Roc(accepted / len(impostors), hits / len(rising), thresholds))


def _where_rates_cross(genuine: Scores, impostors: SortedScores) -> tuple[int, int]:
    """Return the first and the last rank that the first impostor with FAR >= FRR can have."""
    reached = _fallen(impostors.grid)
    tar = _fallen(np.bincount(bins_of(genuine), minlength=len(reached))) / len(genuine)
    place = int(np.argmax(reached / reached[-1] >= 1 - tar))
    first = int(reached[place - 1]) if place else 0
    return min(first, len(impostors) - 1), min(int(reached[place]), len(impostors) - 1)


def _fallen(grid: Ints) -> Ints:
    """Return ``[BINS]`` how many scores lie in the highest 1, 2, … bins."""
    return np.cumsum(grid[::-1])


def grid_roc(genuine: Scores, impostors: SortedScores) -> Roc:
    """Return the ROC at the edges of the grid, where it is exact: a point for every bin that holds scores."""
    mine = np.bincount(bins_of(genuine), minlength=len(impostors.grid))
    held = np.flatnonzero((mine + impostors.grid)[::-1])
    far, tar = _fallen(impostors.grid)[held], _fallen(mine)[held]
    lower: Floats = edges()[:-1][::-1][held]
    return Roc(far=np.append(0.0, far / far[-1]), tar=np.append(0.0, tar / tar[-1]), threshold=np.append(np.inf, lower))
