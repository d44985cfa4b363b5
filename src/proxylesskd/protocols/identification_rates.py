"""Rates of identification: CMC over mated searches, TPIR at the FPIR of searches without mate, and their curves.

Rates are those of ISO/IEC 19795-1 and of NIST's FRVT 1:N. FPIR(t) is the share of searches without mate whose highest
score is at least t. TPIR(t) = 1 - FNIR(1, t) is the share of mated searches whose mate stands at rank 1 and scores at
least t.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from proxylesskd.errors import UserError
from proxylesskd.evaluation.roc import Floats, impostors_allowed
from proxylesskd.protocols.identification import Ints, Ranked
from proxylesskd.protocols.outcome import Curve, Measure

RANKS = (1, 5, 10)
FPIRS = (1e-1, 1e-2)
POINTS = 400


def cmc(ranked: Ranked, ranks: Sequence[int] = RANKS) -> dict[str, Measure]:
    """Return the share of mated searches whose mate is among the first, by ``"rank-1"``, ``"rank-5"`` …; None without.

    Raises:
        UserError: a rank is below 1.
    """
    check_ranks(ranks)
    found = ranked.rank[ranked.mated]
    return {f"rank-{rank}": Measure(float((found <= rank).mean()) if len(found) else None) for rank in ranks}


def tpir_at_fpir(ranked: Ranked, fpirs: Sequence[float] = FPIRS) -> dict[str, Measure]:
    """Return the highest TPIR whose FPIR does not exceed each given one, by ``"tpir@fpir=0.01"`` ….

    The rate is attained, not interpolated. Its threshold is the lowest score that is then accepted, or just above the
    highest refused one where none is. Where fewer than one search without mate may be accepted, or there is no mated
    search, the value is None. ``allowed`` counts the searches that may be accepted.

    Raises:
        UserError: a rate is outside (0, 1].
    """
    check_fpirs(fpirs)
    hits, others = hit_scores(ranked), other_scores(ranked)
    return {f"tpir@fpir={fpir!r}": _at(float(fpir), hits, others, int(ranked.mated.sum())) for fpir in fpirs}


def hit_scores(ranked: Ranked) -> Floats:
    """Return, highest first, the scores of the mates at rank 1."""
    return -np.sort(-ranked.mate[ranked.rank == 1])


def other_scores(ranked: Ranked) -> Floats:
    """Return, highest first, the scores of the searches without mate."""
    return -np.sort(-ranked.best[~ranked.mated])


def _at(fpir: float, hits: Floats, others: Floats, mated: int) -> Measure:
    allowed = int(impostors_allowed(fpir, len(others))) if len(others) else 0
    if allowed < 1 or not mated:
        return Measure(None, allowed=allowed)
    refused = others[allowed] if allowed < len(others) else -np.inf
    accepted = int(np.searchsorted(-hits, -refused, side="left"))
    scores = np.concatenate([hits[:accepted], others[others > refused]])
    threshold = scores.min() if len(scores) else np.nextafter(refused, np.inf)
    return Measure(accepted / mated, threshold=float(threshold), allowed=allowed)


def cmc_curve(ranked: Ranked) -> Curve:
    """Return the hit rate at up to 400 ranks that are even on a logarithmic axis, from 1 to the last mate's or 10.

    Raises:
        UserError: there is no mated search.
    """
    found = np.sort(ranked.rank[ranked.mated])
    if not len(found):
        raise UserError("expected searches whose identity is in the gallery, found none; a CMC needs some")
    ranks = np.unique(np.geomspace(1, max(found[-1], 10), POINTS).round().astype(np.int64))
    return Curve("cmc", ranks.astype(np.float64), np.searchsorted(found, ranks, side="right") / len(found))


def det_curve(ranked: Ranked) -> Curve:
    """Return the lowest FNIR at up to 400 FPIRs that are even on a logarithmic axis, from one search to all.

    Raises:
        UserError: there is no mated search, or none without mate.
    """
    others, mated = other_scores(ranked), int(ranked.mated.sum())
    if not len(others) or not mated:
        kind = "without mate" if mated else "with mate"
        raise UserError(f"expected searches with and without mate, found none {kind}; a DET needs both")
    allowed = np.unique(np.geomspace(1, len(others), POINTS).round().astype(np.int64))
    refused = np.append(others, -np.inf)[allowed]
    accepted = _higher(hit_scores(ranked), refused)
    return Curve("det", _higher(others, refused) / len(others), 1 - accepted / mated)


def _higher(falling: Floats, limits: Floats) -> Ints:
    """Return how many of some falling scores are higher than each limit."""
    counts: Ints = np.searchsorted(-falling, -limits, side="left")
    return counts


def check_ranks(ranks: Sequence[int]) -> None:
    """Stop on ranks below 1."""
    if any(rank < 1 for rank in ranks):
        raise UserError(f"expected ranks from 1, found {min(ranks)}")


def check_fpirs(fpirs: Sequence[float]) -> None:
    """Stop on rates that are none."""
    wrong = [fpir for fpir in fpirs if not 0 < fpir <= 1]
    if wrong:
        raise UserError(f"expected false positive identification rates in (0, 1], found {wrong[0]:g}")
