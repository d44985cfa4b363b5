from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

from proxylesskd.report.curves import Line, curves, notes, read_rows, title_of


def _log(folder: Path, rows: list[dict[str, object]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


ROWS: list[dict[str, object]] = [
    {
        "step": 10,
        "loss": 9.0,
        "accuracy": 0.1,
        "parts": {"margin": 3.0},
        "lr": 0.1,
        "epoch": 0.5,
        "skipped": 0,
        "seconds": 4.0,
    },
    {"step": 10, "check": {"accuracy": 0.5}},
    {
        "step": 20,
        "loss": 7.0,
        "accuracy": 0.2,
        "parts": {"margin": 2.0},
        "lr": 0.05,
        "epoch": 1.0,
        "skipped": 0,
        "seconds": 8.0,
    },
    {"step": 20, "check": {"accuracy": 0.6}},
    {"step": 21, "note": "a warning"},
    {"step": 30, "loss": None, "once": 3.0},
]


def test_every_logged_quantity_becomes_a_chart(tmp_path: Path) -> None:
    _log(tmp_path, ROWS)
    figures = curves([Line("mine", 2, read_rows(tmp_path))])
    titles = [figure.title for figure in figures]
    assert titles == ["Loss", "Check: accuracy", "Training accuracy", "Learning rate", "Margin"]
    loss = ET.fromstring(figures[0].svg)
    (line,) = loss.iter("polyline")
    assert line.attrib["class"] == "line s2"
    assert len(line.attrib["points"].split()) == 2
    assert figures[0].legend[0].name == "mine"


def test_runs_share_a_chart(tmp_path: Path) -> None:
    _log(tmp_path / "a", ROWS)
    _log(tmp_path / "b", [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 2.0}])
    figures = curves([Line(name, i, read_rows(tmp_path / name)) for i, name in enumerate("ab")])
    assert [entry.name for entry in figures[0].legend] == ["a", "b"]
    assert [entry.name for entry in figures[1].legend] == ["a"]
    assert figures[0].svg.count("<polyline") == 2


def test_shares_are_percentages_and_losses_are_not(tmp_path: Path) -> None:
    _log(tmp_path, [{"step": s, "loss": 0.5 * s, "accuracy": 0.4 * s, "lr": 0.1 * s} for s in (1, 2)])
    loss, accuracy, rate = curves([Line("a", 0, read_rows(tmp_path))])
    assert "%" not in loss.svg
    assert "%" not in rate.svg
    assert "%" in accuracy.svg


def test_no_file_and_single_rows_give_no_chart(tmp_path: Path) -> None:
    assert read_rows(tmp_path) == []
    _log(tmp_path, [{"step": 1, "loss": 1.0}])
    assert curves([Line("a", 0, read_rows(tmp_path))]) == []


def test_titles() -> None:
    assert title_of("check tar@far=1e-2") == "Check: tar@far=1e-2"
    assert title_of("gradient_norm") == "Gradient norm"


def test_skipped_steps_and_warnings_are_shown_when_there_are_any(tmp_path: Path) -> None:
    _log(tmp_path, [{"step": s, "skipped": s - 1} for s in (1, 2)] + [{"step": 2, "note": "not finite"}])
    lines = [Line("a", 0, read_rows(tmp_path))]
    assert [figure.title for figure in curves(lines)] == ["Skipped"]
    assert notes(lines) == ["a, step 2: not finite"]
