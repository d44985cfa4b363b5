from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from proxylesskd.data.pairs import read_pairs, write_bin
from proxylesskd.errors import UserError
from proxylesskd.evaluation.evaluation import evaluate
from proxylesskd.protocols.group_sets import read_groups
from proxylesskd.protocols.groups import evaluate_groups
from tests.protocols.people import Blind, Tinted, embeddings_of, name_of, write_csv, write_people

HEADER = "first,second,same,group,fold"
Row = tuple[str, str, int, str, int]


def rows(shared: bool = False) -> list[Row]:
    """All pairs within each of two groups of six people; with ``shared`` the groups have two people in common."""
    found = []
    for group, people in (("North", range(6)), ("South", range(4 if shared else 6, 12))):
        images = [(i, k) for i in people for k in range(3)]
        for number, (one, other) in enumerate(combinations(images, 2)):
            found.append((name_of(*one), name_of(*other), int(one[0] == other[0]), group, number % 3))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = write_people(tmp_path_factory.mktemp("groups"), 12, 3)
    write_csv(place / "set.csv", HEADER, rows())
    return place


def all_scores(folder: Path, listed: list[Row], gallery: Blind) -> dict[Row, float]:
    names = [name_of(i, k) for i in range(12) for k in range(3)]
    enrolled, probes = (dict(zip(names, embeddings_of(who, folder, names), strict=True)) for who in (gallery, Blind()))
    return {row: float(np.dot(enrolled[row[0]].astype(float), probes[row[1]].astype(float))) for row in listed}


def test_groups_are_evaluated_alone_and_with_one_threshold(folder: Path) -> None:
    found = evaluate_groups(
        Blind(), folder / "set.csv", gallery=Tinted(), fars=(0.1, 1e-3), common=0.05, replicates=40, seed=2
    )
    assert found.counts == {"pairs of North": 153, "pairs of South": 153}
    assert found.drawn == {"unit": "identities", "replicates": 40, "seed": 2}
    for mode, gallery in (("single", Blind()), ("cross", Tinted())):
        measures = found.measures[mode]
        scores = all_scores(folder, rows(), gallery)
        strangers = sorted((value for row, value in scores.items() if not row[2]), reverse=True)
        allowed = int(0.05 * len(strangers))
        threshold = measures["common threshold/far"].threshold
        assert threshold is not None
        assert measures["common threshold/far"].allowed == allowed
        assert strangers[allowed] < threshold <= strangers[allowed - 1]
        gap = []
        for group in ("North", "South"):
            mine = {row: value for row, value in scores.items() if row[3] == group}
            for rate, same in (("far", 0), ("tar", 1)):
                kind = [value >= threshold - 1e-9 for row, value in mine.items() if row[2] == same]
                measure = measures[f"{group}/{rate}@common-far=0.05"]
                assert measure.value == sum(kind) / len(kind)
                assert measure.lower is not None
                assert measure.lower <= measure.value <= measure.upper  # type: ignore[operator]
            gap.append(measures[f"{group}/far@common-far=0.05"].value)
            assert measures[f"{group}/tar@far=0.001"].value is None
        assert measures["gap/far@common-far=0.05"].value == max(gap) - min(gap)
        assert measures["std/far@common-far=0.05"].value == pytest.approx((max(gap) - min(gap)) / 2)
        assert measures["gap/tar@far=0.001"].value is None
        assert set(found.curves[mode]) == {"ROC North", "ROC South"}


def test_each_group_is_as_its_own_set(folder: Path, tmp_path: Path) -> None:
    found = evaluate_groups(Blind(), folder / "set.csv", fars=(0.1,), replicates=0).measures["single"]
    for group in ("North", "South"):
        path = write_csv(tmp_path / f"{group}.csv", HEADER, [row for row in rows() if row[3] == group])
        alone = evaluate(Blind(), read_pairs(path, folder), fars=(0.1,), replicates=0).single
        assert found[f"{group}/accuracy"].value == alone.accuracy.value
        assert found[f"{group}/tar@far=0.1"].value == alone.tar[0.1].value
        assert found[f"{group}/tar@far=0.1"].threshold == alone.tar[0.1].threshold
        assert found[f"{group}/accuracy"].lower is None


@pytest.mark.parametrize("shared", [False, True])
def test_the_gap_is_that_of_replicates_of_all_people(folder: Path, tmp_path: Path, shared: bool) -> None:
    """Draw all identities, weigh the pairs, take the gap, by loops."""
    path = write_csv(tmp_path / "set.csv", HEADER, rows(shared))
    measures = evaluate_groups(Blind(), path, root=folder, fars=(), common=0.05, replicates=30, seed=7).measures[
        "single"
    ]
    threshold = measures["common threshold/far"].threshold
    assert threshold is not None
    scores = all_scores(folder, rows(shared), Blind())
    random, gaps = np.random.default_rng(7), []
    for _ in range(30):
        weight = np.bincount(random.integers(12, size=12), minlength=12)
        rates = []
        for group in ("North", "South"):
            accepted = total = 0
            for row, value in scores.items():
                if row[3] == group and not row[2]:
                    times = int(weight[int(row[0][3:6])] * weight[int(row[1][3:6])])
                    total, accepted = total + times, accepted + times * (value >= threshold - 1e-9)
            rates.append(accepted / total if total else np.nan)
        gaps.append(abs(rates[0] - rates[1]))
    measure = measures["gap/far@common-far=0.05"]
    assert (measure.lower, measure.upper) == pytest.approx(tuple(np.nanpercentile(gaps, [2.5, 97.5])))


def test_bins_of_unknown_people(folder: Path, tmp_path: Path) -> None:
    bins = tmp_path / "RFW"
    bins.mkdir()
    for group in ("African", "Asian"):
        half = [row for row in rows() if row[3] == ("North" if group == "African" else "South")]
        write_bin(read_pairs(write_csv(tmp_path / "part.csv", HEADER, half), folder), bins / f"{group}.bin")
    found = evaluate_groups(Blind(), bins, gallery=Tinted(), replicates=10, common=0.05, name="me")
    listed = evaluate_groups(Blind(), folder / "set.csv", replicates=0, common=0.05).measures["single"]
    assert (found.protocol, found.model, found.gallery, found.drawn["unit"]) == ("groups, RFW", "me", "tinted", "pairs")
    for rate in ("far", "tar"):
        one, other = (
            m[f"{g}/{rate}@common-far=0.05"] for m, g in ((found.measures["single"], "African"), (listed, "North"))
        )
        assert one.value == pytest.approx(other.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ([row for row in rows() if row[3] == "North"], "at least two groups in .*, found North"),
        ([(*row[:3], "gap", row[4]) if row[3] == "North" else row for row in rows()], "found 'gap'"),
        ([(*row[:3], "a/b", row[4]) for row in rows()] + rows(), "found 'a/b'"),
    ],
)
def test_refuses_groups_that_cannot_be_told(folder: Path, tmp_path: Path, changed: list[Row], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_groups(write_csv(tmp_path / "set.csv", HEADER, changed), folder)


def test_refuses_what_cannot_be_evaluated(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found none"):
        read_groups(tmp_path)
    with pytest.raises(UserError, match="found 0"):
        evaluate_groups(Blind(), folder / "set.csv", common=0)
    genuine = [row for row in rows() if row[2] or row[3] == "North"]
    path = write_csv(tmp_path / "set.csv", HEADER, genuine)
    with pytest.raises(UserError, match=r"group 'South' of set: .*no impostor pair"):
        evaluate_groups(Blind(), path, root=folder)
