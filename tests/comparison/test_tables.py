import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from proxylesskd.comparison.result import Comparison, Missing, Number, Row
from proxylesskd.comparison.tables import (
    difference_text,
    metric_title,
    race,
    to_csv,
    to_markdown,
    value_text,
)
from proxylesskd.evaluation.bootstrap import Difference
from proxylesskd.evaluation.result import Estimate


def number(value: float, minus: tuple[float, float, float] | None = None, other: str | None = None) -> Number:
    gap = None if minus is None else Difference(*minus, "identities")
    return Number(Estimate(value, value - 0.02, value + 0.01), 0.004, gap, other, gap)


RACE = (("a", 0.5, "b"), ("b", 0.9, "c"), ("c", 0.8, "b"))


def test_texts() -> None:
    assert value_text(None) == "-"
    assert value_text(number(0.712)) == "71.2 ± 0.4 [69.2, 72.2]"
    assert value_text(Number(Estimate(0.5)), few=True) == "~50.0"
    assert difference_text(None) == "-"
    assert difference_text(Difference(0.021, 0.004, 0.039, "pairs")) == "+2.1 [+0.4, +3.9] *"
    assert difference_text(Difference(-0.021, -0.04, 0.001, "pairs")) == "-2.1 [-4.0, +0.1]"
    assert difference_text(Difference(-0.021, -0.04, -0.001, "pairs")).endswith("*")
    assert [metric_title(m) for m in ("accuracy", "tar@far=0.0001", "tar@far=0.05")] == [
        "accuracy",
        "TAR@FAR=1e-4",
        "TAR@FAR=5e-2",
    ]


def test_csv_holds_every_number(found: Comparison) -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(found))))
    assert len(rows) == 2 * 2 * 2 + 2  # methods x modes x metrics, and the teacher in one mode
    for row in found.rows:
        for mode, numbers in row.numbers.items():
            for metric, one in numbers.items():
                key = (row.student, row.method, mode, metric)
                (line,) = [r for r in rows if (r["student"], r["method"], r["mode"], r["metric"]) == key]
                assert float(line["value"]) == one.estimate.value
                assert float(line["lower"]) == one.estimate.lower
                assert float(line["seed_deviation"]) == one.spread
                assert line["best_other"] == one.best_other
                assert one.minus_best is not None
                assert float(line["minus_best_upper"]) == one.minus_best.upper
                assert line["minus_baseline"] == ("" if one.minus_baseline is None else str(one.minus_baseline.value))
                assert float(line["images_per_second"]) == row.images_per_second
    assert {line["method"] for line in rows[-2:]} == {"teacher"}


def test_markdown_has_a_line_for_every_method_and_mode(found: Comparison) -> None:
    text = to_markdown(found)
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    heads = [line for line in lines if line.startswith("| method")]
    assert len(heads) == 2
    assert [line.split(" | ")[0][2:] for line in lines if line not in heads] == [
        "alone",
        "proxyless",
        "teacher",
        "alone",
        "proxyless",
    ]
    assert {line.count(" | ") for line in lines} == {heads[0].count(" | ")}
    assert "Without numbers" not in text


def test_the_terminal_shows_all_within_a_logs_width(found: Comparison) -> None:
    console = Console(width=130, record=True, file=io.StringIO())
    console.print(found.table())
    text = console.export_text()
    assert text.count("best by TAR@FAR=1e-2: ") == 0  # the pairs are too few for it
    assert text.count("best by accuracy: ") == 2
    for words in ("alone", "proxyless", "teacher", "single-model", "cross-model", "TAR", "images/s", "± 0."):
        assert words in text


@pytest.mark.parametrize("formula", ["alone + 2*rkd", "a|b"])
def test_formulas_do_not_break_the_markdown(formula: str) -> None:
    row = Row("s", formula, (0,), {"single": {"accuracy": number(0.5)}})
    missing = (Missing("s", formula, 1, "diverged"), Missing("s", formula, 2))
    made = Comparison(
        folder=Path("x"),
        baseline=formula,
        metrics=("accuracy",),
        headline="accuracy",
        few=frozenset(),
        rows=(row,),
        teacher=None,
        missing=missing,
        equal={},
        recipe={},
        pairs=("p", 1, 1),
        resampling={"unit": "pairs", "replicates": 1, "seed": 0},
    )
    line = next(line for line in to_markdown(made).splitlines() if line.startswith("| ") and "50.0" in line)
    assert line.replace("\\|", "").count("|") == 8
    assert line.replace("\\*", "").count("*") == 0
    assert made.failed == missing[:1]
    assert "diverged" in to_markdown(made)


def test_the_two_in_front_are_named(found: Comparison) -> None:
    rows = tuple(Row("s", name, (0,), {"single": {"accuracy": number(v, None, o)}}) for name, v, o in RACE)
    made = replace(found, rows=rows, headline="accuracy")
    assert race(made, "s", "single") == "best by accuracy: b; next: c"
    assert race(replace(made, rows=rows[:1]), "s", "single") == "best by accuracy: a; next: b"
    assert race(made, "s", "cross") == ""
    alone = (Row("s", "a", (0,), {"single": {"accuracy": number(0.5)}}),)
    assert race(replace(made, rows=alone), "s", "single") == "best by accuracy: a"
