from __future__ import annotations

import io

import pytest
from rich.console import Console

from proxylesskd.errors import UserError
from proxylesskd.protocols.outcome import Measure, Outcome
from proxylesskd.protocols.table import cell, outcome_table, outcomes_table, percent

MEASURES = {
    "rank-1": Measure(0.93127, 0.92011, 0.94199),
    "[tpir]": Measure(0.5, allowed=9),
    "tar@far=1e-06": Measure(None, allowed=0),
}


def outcome(model: str, modes: tuple[str, ...] = ("single",), count: int = 1200, replicates: int = 9) -> Outcome:
    drawn = {"unit": "identities", "replicates": replicates, "seed": 0}
    return Outcome("one protocol", model, "a-teacher", {"probes": count}, dict.fromkeys(modes, MEASURES), {}, drawn)


def shown(table: object) -> list[str]:
    console = Console(width=80, file=io.StringIO())
    console.print(table)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]


def test_one_outcome_in_both_modes() -> None:
    lines = shown(outcome_table(outcome("student", ("single", "cross"))))
    text = "\n".join(lines)
    assert "one protocol: 1,200 probes" in text
    assert [line.split() for line in lines if line.startswith("rank-1")] == [
        ["rank-1", *["93.13", "(92.01-94.20)"] * 2]
    ]
    assert any(line.split() == ["[tpir]", "~50.00", "~50.00"] for line in lines)
    assert any(line.split() == ["tar@far=1e-06", "-", "-"] for line in lines)
    assert "gallery a-teacher" in text
    assert "- the set is too small to tell" in " ".join(text.split())
    assert "bootstrap" in text


def test_few_stand_beside_each_other_and_many_below() -> None:
    beside = shown(outcomes_table({f"m{i}": outcome(f"m{i}") for i in range(3)}))
    assert any(line.split() == ["m0", "m1", "m2"] for line in beside)
    below = shown(
        outcomes_table({f"a-model-with-a-long-name-{i}": outcome("m", ("single", "cross")) for i in range(6)})
    )
    assert max(map(len, below)) <= 80
    assert sum("93.13" in line for line in below) == 12
    assert sum("rank-1" in line for line in below) == 1


def test_says_nothing_of_intervals_that_are_none() -> None:
    assert "bootstrap" not in "\n".join(shown(outcome_table(outcome("m", replicates=0))))


def test_small_numbers_keep_their_digits() -> None:
    assert [percent(value) for value in (0.0, 1.0, 0.12345, 0.0000123)] == ["0.00", "100.00", "12.35", "0.00123"]
    assert [cell(None), cell(Measure(0.25))] == ["-", "25.00"]


def test_refuses_to_mix_sets() -> None:
    with pytest.raises(UserError, match="found 'one protocol'"):
        outcomes_table({"a": outcome("a"), "b": outcome("b", count=3)})
    with pytest.raises(UserError, match="found none"):
        outcomes_table({})
