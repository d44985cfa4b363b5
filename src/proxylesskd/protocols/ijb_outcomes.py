"""What IJB's 1:1 and 1:N say of templates, in both modes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from proxylesskd.errors import UserError
from proxylesskd.evaluation.bootstrap import interval
from proxylesskd.evaluation.evaluation import FARS
from proxylesskd.evaluation.roc import Floats
from proxylesskd.protocols.identification_rates import FPIRS, RANKS, check_fpirs, check_ranks
from proxylesskd.protocols.ijb_meta import IjbSet, Ints, TemplatePairs
from proxylesskd.protocols.ijb_search import search_counts, search_curves, search_galleries, search_measures
from proxylesskd.protocols.outcome import Curve, Measure, Outcome
from proxylesskd.protocols.score_sets import ScoreSets, verification_curves, verification_measures
from proxylesskd.protocols.template_bootstrap import bootstrap_verification, identities_of
from proxylesskd.protocols.templates import pair_scores


@dataclass(frozen=True)
class Asked:
    """What is to be measured.

    Attributes:
        fars: of 1:1.
        ranks: of 1:N.
        fpirs: of 1:N.
        replicates: of the bootstrap over identities, 0 for no intervals.
        seed: of its draws.
    """

    fars: Sequence[float] = FARS
    ranks: Sequence[int] = RANKS
    fpirs: Sequence[float] = FPIRS
    replicates: int = 1000
    seed: int = 0

    def check(self) -> None:
        """Stop before an hour of embedding on what could not be measured after it.

        Raises:
            UserError: a rate, a rank or the number of replicates is out of range.
        """
        check_ranks(self.ranks)
        check_fpirs(self.fpirs)
        wrong = [far for far in self.fars if not 0 < far <= 1]
        if wrong or self.replicates < 0:
            found = f"{wrong[0]:g}" if wrong else f"{self.replicates} replicates"
            raise UserError(f"expected false accept rates in (0, 1] and 0 or more bootstrap replicates, found {found}")

    @property
    def drawn(self) -> dict[str, object]:
        """What an outcome says of its intervals."""
        told = {"unit": "identities", "replicates": self.replicates, "seed": self.seed}
        return told if self.replicates else {}


@dataclass(frozen=True)
class Modes:
    """The templates ``[T, D] float64`` of the probe's model, and who enrolled by mode: ``single``, ``cross``."""

    probes: Floats
    enrolled: Mapping[str, Floats]


def compare(ijb: IjbSet, pairs: TemplatePairs, modes: Modes, asked: Asked) -> Outcome:
    """Return what 1:1 says, without the name of a model."""
    measures: dict[str, Mapping[str, Measure]] = {}
    curves: dict[str, Mapping[str, Curve]] = {}
    for mode, enrolled in modes.enrolled.items():
        scores = pair_scores(enrolled, modes.probes, pairs.first, pairs.second)
        sets = ScoreSets.of(scores, pairs.same)
        found = verification_measures(sets, asked.fars)
        drawn = _drawn(ijb, pairs, scores, found, asked)
        measures[mode] = {n: _bounded(measure, drawn.get(n)) for n, measure in found.items()}
        curves[mode] = verification_curves(sets)
    genuine = int(pairs.same.sum())
    counts = {"templates": len(ijb.ids), "images": len(ijb.names), "genuine": genuine, "impostor": len(pairs) - genuine}
    return Outcome(f"{ijb.name} 1:1", "", None, counts, measures, curves, asked.drawn)


def _drawn(
    ijb: IjbSet, pairs: TemplatePairs, scores: Floats, found: Mapping[str, Measure], asked: Asked
) -> dict[str, Floats]:
    if not asked.replicates:
        return {}
    fars = [far for far in asked.fars if found[f"tar@far={float(far)!r}"].value is not None]
    identities = identities_of(pairs, subjects_of(ijb), len(ijb.ids))
    return bootstrap_verification(scores, pairs, identities, fars, replicates=asked.replicates, seed=asked.seed)


def _bounded(measure: Measure, drawn: Floats | None) -> Measure:
    bounds = None if drawn is None else interval(drawn)
    return measure if bounds is None else replace(measure, lower=bounds[0], upper=bounds[1])


def subjects_of(ijb: IjbSet) -> Ints | None:
    """Return ``[T]`` who each template shows by the lists of 1:N, -1 where they do not tell; None without lists."""
    if ijb.probes is None:
        return None
    subjects = np.full(len(ijb.ids), -1, dtype=np.int64)
    for listed in (ijb.probes, *ijb.galleries.values()):
        subjects[listed.templates] = listed.subjects
    return subjects


def search(ijb: IjbSet, modes: Modes, asked: Asked) -> Outcome:
    """Return what 1:N says, without the name of a model.

    Raises:
        UserError: the set has no lists of 1:N.
    """
    counts = search_counts(ijb)
    assert ijb.probes is not None
    measures: dict[str, Mapping[str, Measure]] = {}
    curves: dict[str, Mapping[str, Curve]] = {}
    for mode, enrolled in modes.enrolled.items():
        found = search_galleries(enrolled, modes.probes, ijb.galleries, ijb.probes)
        measures[mode] = search_measures(
            found, ijb.probes, ranks=asked.ranks, fpirs=asked.fpirs, replicates=asked.replicates, seed=asked.seed
        )
        curves[mode] = search_curves(found)
    drawn = asked.drawn | ({"unit": "probe identities"} if asked.replicates else {})
    return Outcome(f"{ijb.name} 1:N", "", None, counts, measures, curves, drawn)
