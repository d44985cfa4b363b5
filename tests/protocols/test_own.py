from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from proxylesskd.data.pairs import read_pairs
from proxylesskd.errors import UserError
from proxylesskd.evaluation.evaluation import evaluate
from proxylesskd.protocols.outcome import read_outcome
from proxylesskd.protocols.own import evaluate_own, kind_of
from tests.protocols import test_blufr, test_groups, test_open_set
from tests.protocols.people import Blind, Tinted, name_of, write_csv, write_people

LISTS = {
    "open set": (test_open_set.HEADER, test_open_set.rows()),
    "blufr": (test_blufr.HEADER, test_blufr.rows()),
    "groups": (test_groups.HEADER, test_groups.rows()),
    "pairs": ("first,second,same,fold", [(*row[:3], row[4]) for row in test_groups.rows()]),
    "all pairs": ("path,identity", [(name_of(i, k), f"p{i}") for i in range(6) for k in range(3)]),
}
FIRST = {
    "open set": "open-set identification, own",
    "blufr": "BLUFR, own",
    "groups": "groups, own",
    "pairs": "pairs, own",
    "all pairs": "all pairs, own",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_people(tmp_path_factory.mktemp("own"), 21, 4)


@pytest.mark.parametrize("kind", LISTS)
def test_the_header_chooses_the_protocol(kind: str, folder: Path, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "own.csv", *LISTS[kind])
    assert kind_of(path) == kind
    outcome = evaluate_own(
        Blind(),
        path,
        root=folder,
        gallery=Tinted(),
        flip=True,
        replicates=5,
        seed=3,
        cache=tmp_path / "kept",
        name="me",
    )
    assert (outcome.protocol, outcome.model, outcome.gallery) == (FIRST[kind], "me", "tinted")
    assert set(outcome.measures) == {"single", "cross"}
    assert outcome.drawn.get("seed", 3) == 3 or kind == "blufr"
    outcome.save(tmp_path / "out")
    assert read_outcome(tmp_path / "out").to_dict() == outcome.to_dict()


def test_pairs_keep_what_their_evaluation_found(folder: Path, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "own.csv", *LISTS["pairs"])
    told = evaluate(Blind(), read_pairs(path, folder), replicates=5)
    outcome = evaluate_own(Blind(), path, root=folder, replicates=5)
    measures = outcome.measures["single"]
    assert (measures["accuracy"].value, measures["accuracy"].lower) == (
        told.single.accuracy.value,
        told.single.accuracy.lower,
    )
    assert (measures["eer"].value, measures["auc"].value) == (told.single.eer, told.single.auc.value)
    for far, rate in told.single.tar.items():
        found = measures[f"tar@far={far!r}"]
        assert found.value == (None if rate.tar is None else rate.tar.value)
        assert (found.threshold, found.allowed) == (rate.threshold, rate.allowed)
    curve = outcome.curves["single"]["genuine scores"]
    assert curve.y.sum() == pytest.approx(1)
    assert (curve.x * curve.y).sum() == pytest.approx(told.single.scores[told.single.same].mean(), abs=0.02)
    assert outcome.counts == {"genuine pairs": 36, "impostor pairs": 270}
    assert np.isfinite(outcome.curves["single"]["DET"].y).all()


def test_refuses_headers_of_no_protocol(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected a header .*path,identity,role.* found image,label"):
        kind_of(write_csv(tmp_path / "own.csv", "image,label", []))
