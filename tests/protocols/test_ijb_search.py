from __future__ import annotations

import numpy as np
import pytest
from sklearn.preprocessing import normalize

from proxylesskd.protocols.ijb_meta import SubjectList
from proxylesskd.protocols.ijb_search import search_curves, search_galleries, search_measures

RANDOM = np.random.default_rng(11)
SUBJECTS = 24
CENTRES = RANDOM.normal(size=(SUBJECTS, 8))
OF = np.concatenate([np.arange(SUBJECTS), RANDOM.integers(0, SUBJECTS, 150)])
TEMPLATES = normalize(CENTRES[OF] + 1.1 * RANDOM.normal(size=(len(OF), 8)))
OTHER = normalize(CENTRES[OF] + 1.1 * RANDOM.normal(size=(len(OF), 8)))
GALLERIES = {
    "G1": SubjectList(np.arange(0, 14), OF[0:14]),
    "G2": SubjectList(np.arange(14, SUBJECTS), OF[14:SUBJECTS]),
}
PROBES = SubjectList(np.arange(SUBJECTS, len(OF)), OF[SUBJECTS:])


def by_loops(gallery: np.ndarray, enrolled: SubjectList) -> tuple[list[int], list[tuple[float, bool]], list[float]]:
    """Ranks of mated probes, their (mate's score, first?), and the best scores of the others."""
    ranks, hits, others = [], [], []
    for template, subject in zip(PROBES.templates.tolist(), PROBES.subjects.tolist(), strict=True):
        scores = {
            int(s): float(np.float32(gallery[g]).astype(float) @ np.float32(TEMPLATES[template]).astype(float))
            for g, s in zip(enrolled.templates, enrolled.subjects, strict=True)
        }
        if subject not in scores:
            others.append(max(scores.values()))
            continue
        rank = 1 + sum(score >= scores[subject] for s, score in scores.items() if s != subject)
        ranks.append(rank)
        hits.append((scores[subject], rank == 1))
    return ranks, hits, others


@pytest.mark.parametrize("gallery", [TEMPLATES, OTHER], ids=["single", "cross"])
def test_rates_are_those_of_each_gallery_and_their_mean(gallery: np.ndarray) -> None:
    found = search_measures(search_galleries(gallery, TEMPLATES, GALLERIES, PROBES), PROBES, replicates=0)
    for rank in (1, 5, 10):
        each = [float(np.mean(np.array(by_loops(gallery, g)[0]) <= rank)) for g in GALLERIES.values()]
        assert [found[f"{name}/rank-{rank}"].value for name in GALLERIES] == each
        assert found[f"rank-{rank}"].value == pytest.approx(sum(each) / 2, abs=1e-15)
    for fpir in (0.1, 0.01):
        each = []
        for enrolled in GALLERIES.values():
            _, hits, others = by_loops(gallery, enrolled)
            limits = [t for t in [*others, *(h[0] for h in hits)] if np.mean([o >= t for o in others]) <= fpir]
            lowest = min(limits, default=2.0)
            each.append(None if int(fpir * len(others)) < 1 else np.mean([first and s >= lowest for s, first in hits]))
        values = [found[f"{name}/tpir@fpir={fpir}"].value for name in GALLERIES]
        assert values == pytest.approx(each) if None not in each else values == each
        mean = found[f"tpir@fpir={fpir}"]
        if None in each:
            assert mean.value is None
        else:
            assert mean.value == pytest.approx(sum(each) / 2)
        assert mean.allowed == min(int(fpir * len(by_loops(gallery, g)[2])) for g in GALLERIES.values())


def test_intervals_draw_the_probes_subjects_alike_in_both_galleries() -> None:
    found = search_galleries(TEMPLATES, TEMPLATES, GALLERIES, PROBES)
    measures = search_measures(found, PROBES, replicates=60, seed=4)
    random, means = np.random.default_rng(4), []
    names, unit = np.unique(PROBES.subjects, return_inverse=True)
    for _ in range(60):
        times = np.bincount(random.integers(len(names), size=len(names)), minlength=len(names))[unit]
        rates = [np.average(r.rank[r.mated] == 1, weights=times[r.mated]) for r in found.values()]
        means.append(np.mean(rates))
    low, high = np.percentile(means, [2.5, 97.5])
    assert (measures["rank-1"].lower, measures["rank-1"].upper) == pytest.approx((low, high))
    assert measures["G1/rank-1"].lower is not None


def test_curves_are_drawn_where_there_are_searches_for_them() -> None:
    found = search_galleries(TEMPLATES, TEMPLATES, GALLERIES, PROBES)
    assert set(search_curves(found)) == {"CMC, G1", "CMC, G2", "DET, G1", "DET, G2"}
    mine = np.flatnonzero(np.isin(PROBES.subjects, GALLERIES["G1"].subjects))
    mated = SubjectList(PROBES.templates[mine], PROBES.subjects[mine])
    assert set(search_curves(search_galleries(TEMPLATES, TEMPLATES, GALLERIES, mated))) == {"CMC, G1"}
