from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

from proxylesskd.errors import UserError
from proxylesskd.evaluation import Evaluation, comparison_table
from proxylesskd.evaluation.evaluation import measure
from proxylesskd.evaluation.result import Estimate, ModeResult
from proxylesskd.evaluation.tables import percent
from tests.evaluation.samples import people, scores_of


def mode(seed: int, **kwargs: Any) -> ModeResult:
    pairs = people(20, 4, 400)
    return measure(scores_of(pairs, seed=seed), pairs, **{"replicates": 30, **kwargs})


def evaluation(name: str, single: ModeResult, cross: ModeResult | None = None, replicates: int = 30) -> Evaluation:
    drawn = {"unit": "identities", "replicates": replicates, "seed": 0}
    return Evaluation(name, "made", single, cross, None if cross is None else "teacher", drawn)


def shown(table: Table, width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(table)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(len(line) for line in text.splitlines()) <= width
    return str(text)


def numbers(estimate: Estimate | None) -> list[str]:
    assert estimate is not None
    assert estimate.lower is not None
    assert estimate.upper is not None
    interval = f"{100 * estimate.lower:.1f}-{100 * estimate.upper:.1f}"
    return [f"{100 * estimate.value:.1f}", interval]


def test_every_number_survives_80_columns() -> None:
    fars = (0.1, 0.05, 0.01)
    teacher, alone, ours, across = (mode(seed, fars=fars) for seed in range(4))
    results = {
        "teacher": evaluation("teacher", teacher),
        "student alone": evaluation("alone", alone),
        "ProxylessKD": evaluation("student", ours, across),
    }
    text = shown(comparison_table(results, fars))
    for result in (teacher, alone, ours, across):
        for estimate in (result.accuracy, result.auc, *(result.tar[far].tar for far in fars)):
            assert all(number in text for number in numbers(estimate))
    assert text.count("ProxylessKD") == 3  # in one piece, twice as probe and once as gallery
    assert "…" not in text
    genuine = int(teacher.same.sum())
    assert f"made: {genuine} genuine and 400 impostor pairs" in text
    assert "95 % bootstrap intervals over identities" in " ".join(text.split())


def test_rows_say_who_made_gallery_and_probe() -> None:
    table = comparison_table(
        {"T": evaluation("t", mode(0)), "S": evaluation("s", mode(1), mode(2)), "A": evaluation("a", mode(3), mode(4))}
    )
    gallery, probe = (list(column.cells) for column in table.columns[:2])
    assert list(zip(gallery, probe, strict=True)) == [
        ("T", "T"),
        ("S", "S"),
        ("A", "A"),
        ("teacher", "S"),
        ("teacher", "A"),
    ]
    assert list(table.columns[2].cells)[3] == percent(mode(2).accuracy)


def test_few_impostors_are_marked_and_unsupported_rates_are_dashes() -> None:
    result = mode(0)  # of 400 impostor pairs
    table = comparison_table({"a": evaluation("a", result)}, fars=(0.1, 1e-2, 1e-3, 0.5))
    cells = [next(iter(column.cells)) for column in table.columns]
    assert not str(cells[3]).startswith("~")
    assert str(cells[4]).startswith("~" + numbers(result.tar[1e-2].tar)[0])
    assert cells[5:7] == ["-", "-"]  # too few pairs; not asked for
    assert [str(column.header) for column in table.columns[3:7]] == [
        "TAR@FAR\n0.1",
        "TAR@FAR\n0.01",
        "TAR@FAR\n0.001",
        "TAR@FAR\n0.5",
    ]


def test_without_replicates_no_interval_is_promised() -> None:
    table = comparison_table({"a": evaluation("a", mode(0, replicates=0), replicates=0)})
    assert "interval" not in str(table.caption)
    assert percent(mode(0, replicates=0).auc) in shown(table)


def test_names_are_no_markup() -> None:
    hostile = "[red]x[/nothing]"
    result = replace(evaluation(hostile, mode(0), mode(1)), pairs="[bold]p", gallery="[/]")
    text = shown(comparison_table({hostile: result}), width=140)
    for name in (hostile, "[bold]p", "[/]"):
        assert name in text


def test_other_verification_sets_are_not_set_side_by_side() -> None:
    one = evaluation("a", mode(0))
    shorter = replace(one.single, same=one.single.same[:-1])
    for other in (replace(one, pairs="lfw"), replace(one, single=shorter)):
        with pytest.raises(UserError, match=r"on one verification set, found 'made'|'lfw' and 'made'"):
            comparison_table({"a": one, "b": other})
    with pytest.raises(UserError, match="found none"):
        comparison_table({})


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(0.93125, 0.92, 0.9416), "93.1\n92.0-94.2"),
        (Estimate(1.0, 1.0, 1.0), "100.0\n100.0-100.0"),
        (Estimate(0.5), "50.0"),
        (Estimate(float(np.float64(0.07))), "7.0"),
    ],
)
def test_percent(estimate: Estimate, text: str) -> None:
    assert percent(estimate) == text
