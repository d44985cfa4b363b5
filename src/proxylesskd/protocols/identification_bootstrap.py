"""Bootstrap intervals of identification rates over the identities of the probes.

A replicate draws identities with replacement; a search counts as often as its probe's identity was drawn. The gallery
stays as it is, so an interval says how much the choice of the people searched for matters, not that of the enrolled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from proxylesskd.evaluation.bootstrap import interval
from proxylesskd.evaluation.roc import Floats, impostors_allowed
from proxylesskd.protocols.identification import Ints, Ranked
from proxylesskd.protocols.identification_rates import FPIRS, RANKS, cmc, tpir_at_fpir
from proxylesskd.protocols.outcome import Measure

BLOCK = 1 << 18  # weights held at a time


def rates(
    ranked: Ranked,
    probe_ids: Ints,
    *,
    ranks: Sequence[int] = RANKS,
    fpirs: Sequence[float] = FPIRS,
    replicates: int = 1000,
    seed: int = 0,
) -> dict[str, Measure]:
    """Return hit rates and TPIR at FPIR by name, with intervals.

    Args:
        ranked: the searches of P probes.
        probe_ids: ``[P]`` identities, which are drawn.
        ranks: from 1.
        fpirs: in (0, 1].
        replicates: 0 for no intervals.
        seed: of the draws.

    Raises:
        UserError: a rank or a rate is out of range.
    """
    found = cmc(ranked, ranks) | tpir_at_fpir(ranked, fpirs)
    if replicates == 0:
        return found
    drawn = rate_replicates(ranked, probe_ids, ranks, fpirs, replicates, seed)
    bounds = {name: interval(values) for name, values in drawn.items() if found[name].value is not None}
    return {name: replace(m, lower=b[0], upper=b[1]) if (b := bounds.get(name)) else m for name, m in found.items()}


def rate_replicates(
    ranked: Ranked, probe_ids: Ints, ranks: Sequence[int], fpirs: Sequence[float], replicates: int, seed: int
) -> dict[str, Floats]:
    """Return ``[replicates]`` values of every rate; the draws depend on ``probe_ids`` and ``seed`` alone."""
    order = _Order.of(ranked)
    parts: dict[str, list[Floats]] = {}
    for weights in _draw(probe_ids, replicates, seed):
        mated = weights[:, order.mated]
        with np.errstate(invalid="ignore"):  # a replicate without mated searches is not a number
            for rank in ranks:
                hit = ranked.rank[order.mated] <= rank
                parts.setdefault(f"rank-{rank}", []).append(mated @ hit / mated.sum(axis=1))
            for fpir in fpirs:
                values = order.accepted(weights, fpir) / mated.sum(axis=1)
                parts.setdefault(f"tpir@fpir={fpir!r}", []).append(values)
    return {name: np.concatenate(values) for name, values in parts.items()}


def _draw(probe_ids: Ints, replicates: int, seed: int) -> Iterator[Floats]:
    """Yield ``[R, P]`` how often each search counts, in blocks."""
    random = np.random.default_rng(seed)
    unit = np.unique(probe_ids, return_inverse=True)[1]
    count, block = int(unit.max()) + 1, max(1, BLOCK // len(unit))
    for start in range(0, replicates, block):
        rows = range(min(block, replicates - start))
        drawn = [np.bincount(random.integers(count, size=count), minlength=count)[unit] for _ in rows]
        yield np.array(drawn, dtype=np.float64)


@dataclass(frozen=True)
class _Order:
    """The searches, highest score first.

    Attributes:
        mated: ``[M]`` mated searches.
        hits: ``[H]`` those whose mate is at rank 1.
        others: ``[O]`` searches without mate.
        higher: ``[O + 1]`` hits that score higher than each of these, at last all of them.
    """

    mated: Ints
    hits: Ints
    others: Ints
    higher: Ints

    @classmethod
    def of(cls, ranked: Ranked) -> _Order:
        hits, others = np.flatnonzero(ranked.rank == 1), np.flatnonzero(~ranked.mated)
        hits = hits[np.argsort(-ranked.mate[hits], kind="stable")]
        others = others[np.argsort(-ranked.best[others], kind="stable")]
        higher = np.searchsorted(-ranked.mate[hits], -ranked.best[others], side="left")
        return cls(np.flatnonzero(ranked.mated), hits, others, np.append(higher, len(hits)))

    def accepted(self, weights: Floats, fpir: float) -> Floats:
        """Return ``[R]`` how much the accepted hits weigh when searches without mate are accepted up to a FPIR."""
        others, hits = _sums(weights[:, self.others]), _sums(weights[:, self.hits])
        allowed = impostors_allowed(fpir, others[:, -1])
        refused = [np.searchsorted(row, limit, side="right") - 1 for row, limit in zip(others, allowed, strict=True)]
        found: Floats = hits[np.arange(len(hits)), self.higher[refused]]
        return np.where(others[:, -1] > 0, found, np.nan)


def _sums(weights: Floats) -> Floats:
    return np.pad(np.cumsum(weights, axis=1), ((0, 0), (1, 0)))
