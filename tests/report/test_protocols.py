from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from proxylesskd.protocols.outcome import Curve, Measure, Outcome
from proxylesskd.report.page import write_report
from proxylesskd.report.protocols import protocols
from proxylesskd.report.run import read_run


def took(folder: Path, name: str, value: float, *, cross: bool = False) -> None:
    roc = Curve("roc", np.array([0.0, 1e-3, 1.0]), np.array([0.1, 0.5, 1.0]))
    measures = {"tar@far=0.001": Measure(value, value - 0.01, value + 0.01, 0.3, 5), "rank-1": Measure(None)}
    modes = ("single", "cross") if cross else ("single",)
    outcome = Outcome(
        name,
        "the model",
        "the-teacher" if cross else None,
        {"templates": 23124, "impostor pairs": 1234567},
        dict.fromkeys(modes, measures),
        {mode: {"ROC of <b>": roc} for mode in modes},
    )
    outcome.save(folder / "protocols" / re.sub(r"\W", "-", name))


def test_one_table_a_protocol_with_every_model_that_took_it(run_folder: Path) -> None:
    took(run_folder, "IJB-C 1:1", 0.9123, cross=True)
    took(run_folder / "baselines" / "teacher", "IJB-C 1:1", 0.9876)
    took(run_folder, "BLUFR", 0.5)
    blufr, ijb = protocols(read_run(run_folder))
    assert (blufr.title, ijb.title) == ("BLUFR", "IJB-C 1:1")
    single, cross = ijb.table.groups
    cells = {row.name: [(cell.value, cell.detail) for cell in row.cells] for row in single.rows}
    assert cells["teacher"] == [("~ 98.76 %", "97.76 to 99.76"), ("—", "")]
    assert len(single.rows) == 2
    assert [len(row.cells) for row in cross.rows] == [2]
    assert ijb.table.caption == "23,124 templates, 1,234,567 impostor pairs"
    assert "fewer than" in ijb.table.remarks[0]
    assert [len(figure.legend) for figure in ijb.figures] == [3]


def test_the_page_shows_them_escaped(run_folder: Path) -> None:
    took(run_folder, "own <script>", 0.8)
    text = write_report(run_folder).read_text()
    assert "own &lt;script&gt;" in text
    assert "<script>" not in text
    assert "80.00 %" in text
    assert "ROC of &lt;b&gt;" in text


def test_without_any_the_page_does_not_speak_of_them(run_folder: Path) -> None:
    assert "Protocols" not in write_report(run_folder).read_text()
    assert protocols(read_run(run_folder)) == []
