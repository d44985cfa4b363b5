from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from proxylesskd.errors import UserError
from proxylesskd.evaluation.by_person import Score, difference
from proxylesskd.report.classifiers import compare_runs
from proxylesskd.report.confusion import confusion_chart

COST = {"multiply_adds": 5e5, "trained": 9000, "peak_bytes": 2e6, "file_bytes": 7e5, "milliseconds": 0.5}


def run(folder: Path, right: dict[str, tuple[int, int]], log: bool = True) -> Path:
    """Write a run of two classes with a confusion that fits."""
    folder.mkdir(parents=True)
    hits, asked = (sum(one[k] for one in right.values()) for k in (0, 1))
    told = {"people": right, "confusion": [[hits, asked - hits], [0, 0]], "classes": ["sit", "<walk>"], "cost": COST}
    (folder / "evaluation.json").write_text(json.dumps(told))
    if log:
        rows = [{"step": step, "loss": 1 / step, "accuracy": 0.5} for step in (1, 2, 3)]
        (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def test_the_page_tells_accuracy_difference_cost_and_confusion(tmp_path: Path) -> None:
    alone = run(tmp_path / "alone", {"1": (6, 10), "2": (5, 10)})
    taught = run(tmp_path / "taught", {"1": (9, 10), "2": (8, 10)}, log=False)
    page = compare_runs(tmp_path / "page", {"alone": alone, "taught <b>": taught}).read_text()
    assert "55.00 %" in page
    assert "85.00 %" in page
    one, other = (Score(np.zeros((2, 2), int), {1: a, 2: b}, {1: 10, 2: 10}) for a, b in ((9, 8), (6, 5)))
    apart = difference([one], [other])
    assert f"{100 * apart.value:+.2f}" in page
    assert f"{100 * apart.lower:+.2f} to {100 * apart.upper:+.2f}" in page
    assert page.count('aria-label="') >= 3
    assert "Cost against accuracy" in page
    assert "Training curves" in page
    assert "<walk>" not in page
    assert "<b>" not in page.replace("<b>8", "").replace("<b>5", "")
    assert not re.search(r'(src|href)="(http|//)', page)


def test_runs_on_other_people_have_no_difference(tmp_path: Path) -> None:
    runs = {"a": run(tmp_path / "a", {"1": (5, 10)}), "b": run(tmp_path / "b", {"2": (5, 10)})}
    assert "+0.00" not in compare_runs(tmp_path / "page", runs).read_text()


def test_what_was_not_evaluated_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="evaluate it first"):
        compare_runs(tmp_path, {"empty": tmp_path / "empty"})
    with pytest.raises(UserError, match="at least one run"):
        compare_runs(tmp_path, {})


def test_a_confusion_matrix_shows_every_count_by_its_share_of_the_row() -> None:
    svg = ElementTree.fromstring(confusion_chart([[3, 1], [0, 0]], ["a & b", "c"], title="x"))
    boxes = [one for one in svg.iter() if one.tag.endswith("rect")]
    assert [float(one.attrib["fill-opacity"]) for one in boxes] == pytest.approx([0.715, 0.265, 0.04, 0.04])
    titles = [one.text for one in svg.iter() if one.tag.endswith("title")]
    assert titles == ["a & b called a & b: 3", "a & b called c: 1", "c called a & b: 0", "c called c: 0"]
    assert [one.text for one in svg.iter() if one.tag.endswith("text")].count("a & b") == 2
