"""Thresholds by rate, from contracts and evaluations, and the one below which a search names nobody."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from proxylesskd.errors import UserError
from proxylesskd.evaluation.calibration import Calibration
from proxylesskd.recognition.thresholds import (
    Scale,
    far_name,
    open_set_threshold,
    read_scales,
    scale_of,
    threshold_for,
)

SCALE = Scale({1e-1: 0.2, 1e-2: 0.3, 1e-3: 0.4, 1e-4: 0.5})


def test_a_rate_is_found_however_it_is_written() -> None:
    scale = scale_of({"1e-3": 0.4, "0.01": 0.3}, {"slope": 2, "intercept": -1})
    assert scale.at(0.001) == 0.4
    assert scale.at(1e-2) == 0.3
    assert scale.at(2e-3) is None
    assert scale.calibration == Calibration(2.0, -1.0)
    told = scale.to_dict()
    assert scale_of(told["thresholds"], told["calibration"]) == scale
    assert [far_name(far) for far in (0.1, 1e-3, 2.5e-4, 1.0)] == ["1e-1", "1e-3", "2.5e-4", "1e0"]


@pytest.mark.parametrize(
    ("rates", "curve"),
    [
        ({"2": 0.5}, None),
        ({"1e-3": float("nan")}, None),
        ({"often": 0.5}, None),
        ({}, {"slope": -1, "intercept": 0}),
        ({}, {"slope": float("inf"), "intercept": 0}),
    ],
)
def test_what_is_no_scale(rates: dict[str, float], curve: dict[str, float] | None) -> None:
    with pytest.raises(ValueError, match=r"expected|convert"):
        scale_of(rates, curve)


def test_missing_thresholds_say_what_to_give() -> None:
    assert threshold_for(SCALE, 1e-3, what="m") == 0.4
    with pytest.raises(UserError, match=r"FAR 1e-5, found thresholds for FAR 1e-1, 1e-2, 1e-3, 1e-4 alone"):
        threshold_for(SCALE, 1e-5, what="m")
    with pytest.raises(UserError, match=r"no thresholds; give --threshold, or --calibration"):
        threshold_for(Scale(), 1e-3, what="m")
    for far in (0.0, 1.5, float("nan")):
        with pytest.raises(UserError, match="in \\(0, 1\\]"):
            threshold_for(SCALE, far, what="m")


@pytest.mark.parametrize(
    ("photos", "fpir", "far", "reached"),
    [
        (1, 0.01, 1e-2, True),
        (10, 0.01, 1e-3, True),
        (11, 0.01, 1e-4, True),
        (100, 0.01, 1e-4, True),
        (101, 0.01, 1e-4, False),
        (1, 1.0, 1e-1, True),
    ],
)
def test_the_open_set_threshold_bounds_who_is_named(photos: int, fpir: float, far: float, reached: bool) -> None:
    found = open_set_threshold(SCALE, photos, fpir, what="m")
    assert (found.far, found.reached) == (far, reached)
    assert found.threshold == SCALE.at(far)
    assert found.strangers == pytest.approx(far * photos)


def test_the_bound_holds_for_strangers_that_are_drawn() -> None:
    random = np.random.default_rng(0)
    threshold = float(np.quantile(random.standard_normal(1_000_000), 1 - 1e-3))
    named = (random.standard_normal((20_000, 50)) >= threshold).any(axis=1).mean()
    bound = open_set_threshold(Scale({1e-3: threshold}), 50, 0.05, what="m")
    assert bound.reached
    assert bound.strangers is not None
    assert 0.8 * bound.strangers < named <= bound.strangers * 1.05


def test_open_set_refuses_what_it_cannot_use() -> None:
    with pytest.raises(UserError, match="share of strangers"):
        open_set_threshold(SCALE, 3, 0.0, what="m")
    with pytest.raises(UserError, match="no thresholds"):
        open_set_threshold(Scale(), 3, 0.01, what="m")


def evaluation(**changed: Any) -> dict[str, Any]:
    tar = [{"far": 1e-3, "threshold": 0.4}, {"far": 1e-6, "threshold": None}]
    return {"single": {"tar": tar, "calibration": {"slope": 5.0, "intercept": -2.0}}, "cross": {"tar": tar}, **changed}


def test_reads_an_evaluation_from_its_folder_or_file(tmp_path: Path) -> None:
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation()), encoding="utf-8")
    for path in (tmp_path, tmp_path / "evaluation.json"):
        found = read_scales(path)
        assert found == {
            "single": Scale({1e-3: 0.4}, Calibration(5.0, -2.0)),
            "cross": Scale({1e-3: 0.4}),  # as evaluations without a curve were written
        }


def test_refuses_what_no_evaluation_wrote(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="proxylesskd evaluate"):
        read_scales(tmp_path)
    for broken in ({"single": 5}, {"single": {"tar": [{}]}}, {"single": {"tar": [{"far": "x", "threshold": 1}]}}):
        (tmp_path / "evaluation.json").write_text(json.dumps(broken), encoding="utf-8")
        with pytest.raises(UserError, match="evaluate again"):
            read_scales(tmp_path)
