from __future__ import annotations

from itertools import combinations, permutations
from pathlib import Path

import numpy as np
import pytest

from proxylesskd.data.formats.folder import FolderSource
from proxylesskd.errors import UserError
from proxylesskd.evaluation.roc import equal_error_rate, roc_curve, tar_at_far
from proxylesskd.protocols.all_pairs import evaluate_all_pairs
from tests.protocols.people import Blind, Tinted, embeddings_of, name_of, products, write_csv, write_people


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_people(tmp_path_factory.mktemp("all"), 12, 3)


def test_every_pair_counts(folder: Path) -> None:
    outcome = evaluate_all_pairs(Blind(), f"folder:{folder}", gallery=Tinted(), fars=(0.1, 0.01, 1e-6), replicates=30)
    assert outcome.counts == {"images": 36, "identities": 12, "genuine pairs": 36, "impostor pairs": 594}
    names = [name_of(i, k) for i in range(12) for k in range(3)]
    probes, enrolled = embeddings_of(Blind(), folder, names), embeddings_of(Tinted(), folder, names)
    for mode, gallery, pairs in (
        ("single", probes, list(combinations(range(36), 2))),
        ("cross", enrolled, list(permutations(range(36), 2))),
    ):
        similar = products(gallery, probes)
        roc = roc_curve(np.array([similar[pair] for pair in pairs]), np.array([i // 3 == j // 3 for i, j in pairs]))
        measures = outcome.measures[mode]
        for far in (0.1, 0.01):
            found = measures[f"tar@far={far!r}"]
            assert (found.value, found.threshold) == pytest.approx(tar_at_far(roc, far), abs=1e-6)
            assert found.lower is not None
            assert found.lower <= found.value <= found.upper  # type: ignore[operator]
        assert measures["tar@far=1e-06"].value is None
        assert (measures["eer"].value, measures["eer"].threshold) == pytest.approx(equal_error_rate(roc), abs=1e-6)
        curves = outcome.curves[mode]
        assert curves["ROC"].x[-1] == curves["ROC"].y[-1] == 1
        assert np.allclose(1 - curves["DET"].y, curves["ROC"].y)
        assert curves["impostor scores"].y.sum() == pytest.approx(1)
        same = np.array([i // 3 == j // 3 for i, j in pairs])
        mean = np.mean([similar[pair] for pair, mine in zip(pairs, same, strict=True) if mine])
        assert (curves["genuine scores"].x * curves["genuine scores"].y).sum() == pytest.approx(mean, abs=1 / 64)


def test_a_list_a_source_and_its_uri_are_one_set(folder: Path, tmp_path: Path) -> None:
    listed = write_csv(
        tmp_path / "set.csv", "path,identity", [(name_of(i, k), f"p{i}") for k in range(3) for i in range(12)]
    )
    expected = evaluate_all_pairs(Blind(), str(folder), replicates=0)
    for where, root in ((listed, folder), (FolderSource(folder), None)):
        found = evaluate_all_pairs(Blind(), where, root=root, replicates=0)
        assert found.counts == expected.counts
        for name, measure in expected.measures["single"].items():
            assert found.measures["single"][name].value == pytest.approx(measure.value, abs=1e-9)
    assert found.protocol == "all pairs, faces"
    assert expected.drawn == {}


def test_refuses_rates_that_are_none(folder: Path) -> None:
    with pytest.raises(UserError, match="found 2"):
        evaluate_all_pairs(Blind(), str(folder), fars=(0.1, 2.0))


def test_refuses_an_image_that_would_find_itself(folder: Path, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "set.csv", "path,identity", [(name_of(0, 0), "a"), (name_of(0, 0), "a")])
    with pytest.raises(UserError, match=r"every image once, found 'id-000/0\.png' again"):
        evaluate_all_pairs(Blind(), path, root=folder)
