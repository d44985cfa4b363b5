from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from proxylesskd.data.pairs import Pairs
from proxylesskd.errors import UserError
from proxylesskd.evaluation.evaluation import Evaluation, measure
from proxylesskd.export.measured import read_evaluation


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Evaluation, Path]:
    """What an evaluation really writes, so that the two ends of the file cannot drift apart."""
    count = 400
    random = np.random.default_rng(0)
    same = np.arange(count) % 2 == 0
    ones = np.arange(count)
    pairs = Pairs("set", np.zeros((0, 3, 1, 1), np.uint8), ones, ones, same, ones % 10, None, [])
    single, cross = (measure(random.normal(0.5 * same, 0.2), pairs, replicates=n, seed=1) for n in (20, 0))
    resampling = {"unit": "pairs", "replicates": 20, "seed": 1}
    result = Evaluation("student", "set", single, cross, "teacher", resampling)
    folder = tmp_path_factory.mktemp("evaluation")
    (folder / "evaluation.json").write_text(json.dumps(result.to_dict()))
    return result, folder / "evaluation.json"


def test_an_evaluation_comes_back(saved: tuple[Evaluation, Path]) -> None:
    result, path = saved
    found = read_evaluation(path)
    assert found is not None
    assert (found.pairs, found.counts, found.gallery) == ("set", (200, 200), "teacher")
    assert found.resampling == "20 bootstrap replicates over pairs"
    single = found.modes["single"]
    assert single.accuracy.value == result.single.accuracy.value
    assert single.accuracy.interval == (result.single.accuracy.lower, result.single.accuracy.upper)
    assert single.eer.value == result.single.eer
    assert found.modes["cross"].auc.interval is None
    assert [rate.far for rate in single.rates] == [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6]
    for rate in single.rates:
        expected = result.single.tar[rate.far]
        assert rate.threshold == expected.threshold
        assert (rate.tar is None) == (expected.tar is None) == (200 * rate.far < 1)
        assert rate.few == (200 * rate.far < 10)
    assert sum(single.histogram[1]) == sum(single.histogram[2]) == 200
    assert list(single.roc[0]) == sorted(single.roc[0])


def test_no_file_is_no_evaluation(tmp_path: Path) -> None:
    assert read_evaluation(tmp_path / "evaluation.json") is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda told: told.pop("pairs"),
        lambda told: told.pop("bootstrap"),
        lambda told: told["single"].pop("roc"),
        lambda told: told["single"]["roc"]["far"].pop(),
        lambda told: told["single"]["histogram"]["edges"].pop(),
        lambda told: told["single"]["accuracy"].update(value=float("nan")),
        lambda told: told["single"]["accuracy"].update(value=True),
        lambda told: told["cross"]["auc"].update(value="0.9"),
        lambda told: told["cross"]["tar"][0].update(far=None),
        lambda told: told.update(single=[1]),
        lambda told: told.update(pairs="lfw"),
    ],
)
def test_a_damaged_file_is_named(
    saved: tuple[Evaluation, Path], tmp_path: Path, damage: Callable[[dict[str, Any]], Any]
) -> None:
    told = json.loads(saved[1].read_text())
    damage(told)
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps(told))
    with pytest.raises(UserError, match=r"what an evaluation writes in .*evaluation\.json, found"):
        read_evaluation(path)
