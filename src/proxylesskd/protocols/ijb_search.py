"""IJB's 1:N: every probe searched in each of the two galleries, and the mean over both.

The galleries hold disjoint subjects, one template each. A probe whose subject is in a gallery is a mated search there,
and a search without mate in the other one; so both are open-set identification, as IJB-C's paper has it (Maze et al.,
ICB 2018). The mean over both is the mean of two rates. (Public scripts also pool the hits of both, which weighs each
gallery by its mated probes, or search both as one gallery of twice the size, which is harder.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from proxylesskd.errors import UserError
from proxylesskd.evaluation.bootstrap import interval
from proxylesskd.evaluation.roc import Floats
from proxylesskd.protocols.identification import Ranked, identify
from proxylesskd.protocols.identification_bootstrap import rate_replicates
from proxylesskd.protocols.identification_rates import FPIRS, RANKS, cmc, cmc_curve, det_curve, tpir_at_fpir
from proxylesskd.protocols.ijb_meta import IjbSet, SubjectList
from proxylesskd.protocols.outcome import Curve, Measure


def search_galleries(
    gallery: Floats, probes: Floats, galleries: Mapping[str, SubjectList], searched: SubjectList
) -> dict[str, Ranked]:
    """Search all probes in each gallery.

    Args:
        gallery: ``[T, D]`` unit templates by the gallery's model.
        probes: ``[T, D]`` unit templates by the probe's model.
        galleries: by name.
        searched: the probes.
    """
    rows = probes[searched.templates].astype(np.float32)
    return {
        name: identify(rows, gallery[enrolled.templates].astype(np.float32), searched.subjects, enrolled.subjects)
        for name, enrolled in galleries.items()
    }


def search_measures(
    found: Mapping[str, Ranked],
    searched: SubjectList,
    *,
    ranks: Sequence[int] = RANKS,
    fpirs: Sequence[float] = FPIRS,
    replicates: int = 1000,
    seed: int = 0,
) -> dict[str, Measure]:
    """Return the mean rates by name, then those of each gallery, as ``G1/rank-1``.

    Args:
        found: the searches in each gallery.
        searched: the probes; their subjects are drawn by the bootstrap, the galleries stay.
        ranks: from 1.
        fpirs: false positive identification rates in (0, 1].
        replicates: of the bootstrap; 0 for no intervals.
        seed: of the draws, the same for both galleries.
    """
    single = {name: cmc(ranked, ranks) | tpir_at_fpir(ranked, fpirs) for name, ranked in found.items()}
    drawn = {
        name: rate_replicates(ranked, searched.subjects, ranks, fpirs, replicates, seed) if replicates else {}
        for name, ranked in found.items()
    }
    rates = list(next(iter(single.values())))
    mean = {
        rate: _mean([single[name][rate] for name in found], [drawn[name].get(rate) for name in found]) for rate in rates
    }
    each = {
        f"{name}/{rate}": _bounded(measure, drawn[name].get(rate))
        for name, measures in single.items()
        for rate, measure in measures.items()
    }
    return mean | each


def _mean(measures: Sequence[Measure], drawn: Sequence[Floats | None]) -> Measure:
    """Return the mean of a rate over the galleries, unsupported where one of them cannot support it."""
    allowed = [measure.allowed for measure in measures if measure.allowed is not None]
    fewest = min(allowed) if allowed else None
    values = [measure.value for measure in measures if measure.value is not None]
    if len(values) < len(measures):
        return Measure(None, allowed=fewest)
    known = [replicates for replicates in drawn if replicates is not None]
    return _bounded(Measure(float(np.mean(values)), allowed=fewest), np.mean(known, axis=0) if known else None)


def _bounded(measure: Measure, drawn: Floats | None) -> Measure:
    bounds = None if drawn is None or measure.value is None else interval(drawn)
    return measure if bounds is None else replace(measure, lower=bounds[0], upper=bounds[1])


def search_curves(found: Mapping[str, Ranked]) -> dict[str, Curve]:
    """Return the CMC and the DET of each gallery, where there are searches for them."""
    curves: dict[str, Curve] = {}
    for name, ranked in found.items():
        if ranked.mated.any():
            curves[f"CMC, {name}"] = cmc_curve(ranked)
            if not ranked.mated.all():
                curves[f"DET, {name}"] = det_curve(ranked)
    return curves


def search_counts(ijb: IjbSet) -> dict[str, int]:
    """Return what 1:N compares.

    Raises:
        UserError: the set has no lists of 1:N.
    """
    if ijb.probes is None:
        raise UserError("expected galleries and probes, found no lists of 1:N in the set")
    enrolled = {f"{name} templates": len(gallery.templates) for name, gallery in ijb.galleries.items()}
    mated = {f"{n} mated probes": int(np.isin(ijb.probes.subjects, g.subjects).sum()) for n, g in ijb.galleries.items()}
    return {"templates": len(ijb.ids), "images": len(ijb.names), "probes": len(ijb.probes.templates)} | enrolled | mated
