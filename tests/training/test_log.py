"""The rows of the log, read back as JSON; TensorBoard's files, read back by TensorBoard."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from proxylesskd.errors import UserError
from proxylesskd.training.log import MetricsLog, read_metrics


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_are_json_lines_at_once(tmp_path: Path) -> None:
    path = tmp_path / "run" / "metrics.jsonl"
    with MetricsLog(path) as log:
        log.row(10, {"loss": 1.5, "parts": {"a": 0.25}})
        log.check(10, {"accuracy": 0.9})
        log.note(11, "größer als erwartet")
        assert _rows(path) == [
            {"step": 10, "loss": 1.5, "parts": {"a": 0.25}},
            {"step": 10, "check": {"accuracy": 0.9}},
            {"step": 11, "note": "größer als erwartet"},
        ]


def test_not_a_number_is_null(tmp_path: Path) -> None:
    with MetricsLog(tmp_path / "m.jsonl") as log:
        log.row(1, {"loss": float("nan"), "parts": {"a": float("inf"), "b": 2}})
    assert _rows(log.path) == [{"step": 1, "loss": None, "parts": {"a": None, "b": 2}}]


def test_rewind_drops_what_lies_beyond_and_what_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    with MetricsLog(path) as log:
        for step in (1, 2, 3):
            log.row(step, {"loss": 0.0})
            log.check(step, {"x": 1.0})
    with path.open("a") as file:
        file.write('{"step": 2, "lo')
    assert [row["step"] for row in read_metrics(path)] == [1, 1, 2, 2, 3, 3]
    with MetricsLog(path) as log:
        log.rewind(2)
        log.row(3, {"loss": 9.0})
    assert [(row["step"], row.get("loss")) for row in _rows(path)] == [
        (1, 0.0),
        (1, None),
        (2, 0.0),
        (2, None),
        (3, 9.0),
    ]


def test_rewind_to_the_start_empties(tmp_path: Path) -> None:
    with MetricsLog(tmp_path / "m.jsonl") as log:
        log.note(0, "old")
        log.rewind(0)
    assert log.path.read_text() == ""
    assert [p.name for p in tmp_path.iterdir()] == ["m.jsonl"]


def test_read_metrics_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found no file"):
        read_metrics(tmp_path / "m.jsonl")


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="could not write the metrics"):
        MetricsLog(tmp_path / "file" / "m.jsonl")


def _curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder)).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_gets_the_same_numbers(tmp_path: Path) -> None:
    with MetricsLog(tmp_path / "m.jsonl", tensorboard=tmp_path / "tb") as log:
        log.row(10, {"loss": 1.5, "parts": {"a": 0.25}, "nothing": None})
        log.check(20, {"tar": 0.75})
    assert _curves(tmp_path / "tb") == {
        "train/loss": [(10, 1.5)],
        "train/parts/a": [(10, 0.25)],
        "check/tar": [(20, 0.75)],
    }


def test_tensorboard_forgets_what_lies_beyond_too(tmp_path: Path) -> None:
    for values in ([1.0, 2.0, 3.0], [9.0]):
        with MetricsLog(tmp_path / "m.jsonl", tensorboard=tmp_path / "tb") as log:
            log.rewind(3 - len(values))
            for step, value in enumerate(values, start=4 - len(values)):
                log.row(step, {"loss": value})
    assert _curves(tmp_path / "tb") == {"train/loss": [(1, 1.0), (2, 2.0), (3, 9.0)]}


def test_tensorboard_missing_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match=r"pip install 'proxylesskd\[tensorboard\]'"):
        MetricsLog(tmp_path / "m.jsonl", tensorboard=tmp_path / "tb")
