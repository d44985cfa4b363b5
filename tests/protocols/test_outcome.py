from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from proxylesskd.errors import UserError
from proxylesskd.protocols.outcome import Curve, Measure, Outcome, read_outcome, read_outcomes


def outcome(name: str = "IJB-C 1:1", value: float = 0.9) -> Outcome:
    measures = {"single": {"tar@far=0.001": Measure(value, 0.8, 0.95, 0.31, 12), "tar@far=1e-06": Measure(None)}}
    curve = Curve("roc", np.array([0.0, 0.1, 1.0]), np.array([0.2, 0.5, 1.0]))
    counts = {"templates": 5, "genuine": 3}
    return Outcome(name, "student", None, counts, measures, {"single": {"ROC": curve}}, {"unit": "identities"})


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    told = outcome()
    told.save(tmp_path / "x")
    back = read_outcome(tmp_path / "x")
    assert back.to_dict() == told.to_dict()
    assert np.array_equal(back.curves["single"]["ROC"].y, [0.2, 0.5, 1.0])
    assert back.measures["single"]["tar@far=0.001"].threshold == 0.31


def test_all_outcomes_of_a_run(tmp_path: Path) -> None:
    assert read_outcomes(tmp_path) == {}
    outcome("b").save(tmp_path / "protocols" / "b")
    outcome("a").save(tmp_path / "protocols" / "a")
    assert list(read_outcomes(tmp_path)) == ["a", "b"]


def test_what_is_no_number_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        outcome(value=float("nan")).save(tmp_path)


def test_without_a_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected outcome\.json"):
        read_outcome(tmp_path)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (["format"], 2),
        (["protocol"], 5),
        (["gallery"], ["x"]),
        (["counts"], [1]),
        (["counts", "templates"], "many"),
        (["measures"], []),
        (["measures", "single", "tar@far=0.001"], {"value": 1}),
        (["measures", "single", "tar@far=0.001", "value"], "0.9"),
        (["measures", "single", "tar@far=0.001", "value"], True),
        (["curves", "single", "ROC", "kind"], "pie"),
        (["curves", "single", "ROC", "x"], [1.0]),
        (["curves", "single", "ROC", "y"], [[1.0]]),
        (["bootstrap"], 7),
    ],
)
def test_other_forms_are_refused(tmp_path: Path, where: list[str], value: Any) -> None:
    told: Any = outcome().to_dict()
    inner = told
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    (tmp_path / "outcome.json").write_text(json.dumps(told))
    with pytest.raises(UserError, match=r"evaluate again"):
        read_outcome(tmp_path)
