"""Ties and the smallest sets have one answer, the same for every way a rate is computed and every protocol."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from proxylesskd.errors import UserError
from proxylesskd.evaluation import roc
from proxylesskd.evaluation.exact_quantiles import SortedScores
from proxylesskd.evaluation.exact_roc import exact_eer, exact_rates
from proxylesskd.protocols.ijb import evaluate_ijb
from proxylesskd.protocols.outcome import Outcome
from proxylesskd.protocols.own import evaluate_own
from proxylesskd.protocols.score_sets import ScoreSets, area_under, equal_error_rate, tar_at_far
from tests.protocols.ijb_files import write_set
from tests.protocols.people import Blind, name_of, write_csv, write_people

Row = tuple[object, ...]

# genuine scores, impostor scores -> area, equal error rate, TAR where half of the impostors may be accepted, and all
TINY = {
    "one of each, apart": ([0.5], [0.25], 1.0, 0.0, None, 1.0),
    "one of each, the wrong way round": ([0.25], [0.5], 0.0, 1.0, None, 1.0),
    "one of each, equal": ([0.5], [0.5], 0.5, 0.5, None, 1.0),
    "two of each, equal": ([0.5, 0.5], [0.5, 0.5], 0.5, 0.5, 0.0, 1.0),
    "a genuine one equal to the better impostor": ([0.5, 0.75], [0.5, 0.25], 0.875, 0.25, 1.0, 1.0),
    "a genuine one equal to both impostors": ([0.5, 0.75], [0.5, 0.5], 0.75, 1 / 3, 0.5, 1.0),
}


@pytest.mark.parametrize("case", TINY)
def test_three_ways_agree_on_the_smallest_sets(case: str) -> None:
    genuine, impostor, area, eer, half, whole = TINY[case]
    scores, same = np.array([*genuine, *impostor]), np.arange(len(genuine) + len(impostor)) < len(genuine)
    sets, curve = ScoreSets.of(scores, same), roc.roc_curve(scores, same)
    counted = SortedScores(lambda: iter([np.array(impostor, dtype=np.float32)]))
    assert area_under(sets) == roc.area_under(curve) == area
    rates = [equal_error_rate(sets).value, roc.equal_error_rate(curve)[0]]
    rates.append(exact_eer(np.array(genuine, np.float32), counted)[0])
    assert rates == pytest.approx([eer] * 3, abs=1e-12)
    exact = exact_rates(np.array(genuine, np.float32), counted, (0.5, 1.0))
    for far, tar in ((0.5, half), (1.0, whole)):
        estimate = exact[far].tar
        assert tar_at_far(sets, far).value == tar == (estimate and estimate.value)
        assert tar is None or roc.tar_at_far(curve, far)[0] == tar


class Collapsed(Blind):
    """Says the same of every face, in numbers that sums and roots keep exactly."""

    name = "collapsed"
    fingerprint = "collapsed-1"

    def embed(self, images: Tensor) -> Tensor:
        return torch.eye(12)[:1].repeat(len(images), 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_people(tmp_path_factory.mktemp("tiny"), 4, 2)


def own(folder: Path, tmp_path: Path, header: str, rows: list[Row]) -> Outcome:
    return evaluate_own(Collapsed(), write_csv(tmp_path / "own.csv", header, rows), root=folder, replicates=20)


def pair(first: tuple[int, int], second: tuple[int, int]) -> tuple[str, str, int]:
    return name_of(*first), name_of(*second), int(first[0] == second[0])


PAIRS: list[Row] = [*(pair((i, 0), (i, 1)) for i in range(3)), *(pair((i, 0), (i + 1, 1)) for i in range(2))]


def test_who_takes_all_for_one_is_a_coin(folder: Path, tmp_path: Path) -> None:
    found = own(folder, tmp_path, "first,second,same", PAIRS).measures["single"]
    assert {name: found[name].value for name in ("auc", "eer", "tar@far=0.1")} == {
        "auc": 0.5,
        "eer": 0.5,
        "tar@far=0.1": None,
    }
    groups: list[Row] = [(*row, group) for row in PAIRS * 2 for group in ("a", "b")]
    found = own(folder, tmp_path, "first,second,same,group", groups).measures["single"]
    assert found["a/accuracy"].value == found["b/accuracy"].value
    assert (found["gap/accuracy"].value, found["gap/accuracy"].upper) == (0, 0)
    every: list[Row] = [(name_of(i, k), f"p{i}") for i in range(4) for k in range(2)]
    found = own(folder, tmp_path, "path,identity", every).measures["single"]
    assert (found["eer"].value, found["tar@far=0.1"].value, found["tar@far=0.1"].allowed) == (0.5, 0.0, 2)


def test_who_takes_all_for_one_finds_nobody(folder: Path, tmp_path: Path) -> None:
    """Every mate ties with a stranger, and every threshold that keeps a stranger out keeps the mates out too."""
    listed: list[Row] = [(name_of(i, 0), f"p{i}", "gallery") for i in range(2)]
    listed += [(name_of(i, 1), f"p{i}", "probe") for i in range(4)]
    found = own(folder, tmp_path, "path,identity,role", listed)
    assert (found.counts["mated probes"], found.counts["probes without mate"]) == (2, 2)
    assert found.measures["single"]["rank-1"].value == 0
    assert found.measures["single"]["rank-5"].value == 1  # both who are enrolled
    assert found.measures["single"]["tpir@fpir=0.1"].value is None  # a tenth of two strangers is nobody
    trials: list[Row] = [(trial, *row) for trial in "12" for row in listed]
    found = own(folder, tmp_path, "trial,path,identity,role", trials)
    assert found.measures["single"]["tar@far=0.001"].value is None
    outcomes = evaluate_ijb(Collapsed(), write_set(tmp_path / "ijb"), fars=(0.5,), fpirs=(0.5,), replicates=0)
    single = outcomes["1:1"].measures["single"]
    assert [single[name].value for name in ("auc", "eer", "tar@far=0.5")] == [0.5, 0.5, 0.0]
    assert outcomes["1:N"].measures["single"]["rank-1"].value == 0
    assert outcomes["1:N"].measures["single"]["tpir@fpir=0.5"].value == 0


ONE, OTHER = pair((0, 0), (0, 1)), pair((0, 0), (1, 1))


@pytest.mark.parametrize(
    ("header", "rows", "found"),
    [
        ("first,second,same", [], "expected pairs .* found none"),
        ("first,second,same", [ONE], "found no impostor pair"),
        ("first,second,same", [OTHER], "found no genuine pair"),
        ("first,second,same,group", [], "found none"),
        ("first,second,same,group", [(*ONE, "a"), (*OTHER, "a")], "at least two groups .* found a"),
        ("first,second,same,group", [(*ONE, "a"), (*ONE, "b")], "group 'a' .* found no impostor pair"),
        ("path,identity", [], "found none"),
        ("path,identity", [(name_of(0, 0), "a")], "expected .* found"),
        ("path,identity", [(name_of(0, 0), "a"), (name_of(1, 0), "b")], "expected .* found"),
        ("path,identity", [(name_of(0, 0), "a"), (name_of(0, 1), "a")], "expected .* found"),
        ("path,identity,role", [], "found none"),
        ("path,identity,role", [(name_of(0, 0), "a", "gallery")], "in the role probe .* found none"),
        ("path,identity,role", [(name_of(0, 0), "a", "probe")], "in the role gallery .* found none"),
        ("trial,path,identity,role", [], "found none"),
        ("trial,path,identity,role", [(1, name_of(0, 0), "a", "probe")], "expected gallery and probe .* found none"),
    ],
)
def test_sets_that_ask_for_nothing_are_refused(
    folder: Path, tmp_path: Path, header: str, rows: list[Row], found: str
) -> None:
    with pytest.raises(UserError, match=found):
        own(folder, tmp_path, header, rows)


def test_two_pairs_are_enough(folder: Path, tmp_path: Path) -> None:
    """One of each kind, each decided by the other's threshold: rightly where the genuine one scores higher."""
    outcome = evaluate_own(Blind(), write_csv(tmp_path / "own.csv", "first,second,same", [ONE, OTHER]), root=folder)
    found = outcome.measures["single"]
    assert [found[name].value for name in ("accuracy", "auc", "eer", "tar@far=0.1")] == [1.0, 1.0, 0.0, None]
    found = own(folder, tmp_path, "first,second,same", [ONE, OTHER]).measures["single"]
    assert [found[name].value for name in ("accuracy", "auc", "eer", "tar@far=0.1")] == [0.0, 0.5, 0.5, None]


def test_one_kind_of_search_leaves_the_other_open(folder: Path, tmp_path: Path) -> None:
    mated: list[Row] = [(name_of(0, 0), "a", "gallery"), (name_of(0, 1), "a", "probe")]
    strange: list[Row] = [(name_of(0, 0), "a", "gallery"), (name_of(1, 1), "b", "probe")]
    found = own(folder, tmp_path, "path,identity,role", mated).measures["single"]
    assert (found["rank-1"].value, found["tpir@fpir=0.1"].value) == (1.0, None)
    found = own(folder, tmp_path, "path,identity,role", strange).measures["single"]
    assert (found["rank-1"].value, found["tpir@fpir=0.1"].value) == (None, None)
