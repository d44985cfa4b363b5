"""The summary on made-up numbers, and the clock."""

from __future__ import annotations

import pytest
import torch
from goals import Goal, Shape, Table, cheaper, judge, summary
from interleave import Timing, interleave, ratio, timed
from memory_of import peak_of

CPU = torch.device("cpu")
SMALL, LARGE = Shape(10_000, 128), Shape(100_000, 128)


def _timing(*wall: float, cpu: float = 1.0) -> Timing:
    return Timing(dict(enumerate(wall)), dict.fromkeys(range(len(wall)), cpu))


def _tables() -> dict[Shape, Table]:
    small = Table({"ours": _timing(1, 1, 1), "plain": _timing(0.9, 0.9, 0.9), "sampled": _timing(0.5, 0.5, 0.5)})
    large = Table(
        {
            "ours": _timing(1.0, 2.0, 1.0, cpu=4.0),
            "plain": _timing(2.0, 4.0, 1.7, cpu=6.0),
            "floor": _timing(0.9, 1.9, 0.9),
            "slow floor": _timing(5.0, 5.0, 5.0),
            "sampled": _timing(1.1, 2.4, 1.3),
        },
        memory={"ours": 33.4},
    )
    return {SMALL: small, LARGE: large}


def test_ratios_are_taken_within_rounds() -> None:
    # Every round ran on another clock; the ratio is 2 in each of them.
    found = ratio(_timing(2, 20, 200), _timing(1, 10, 100))
    assert (found.value, found.low, found.high) == (2, 2, 2)
    missing = Timing({0: 3.0, 2: 5.0}, {0: 1.0, 2: 1.0})
    assert ratio(missing, _timing(1, 100, 1)).value == 4
    assert ratio(missing, _timing(1, 100, 1)).low == 3


def test_goals_are_met_or_missed_by_the_median() -> None:
    tables = _tables()
    assert judge(Goal("", "ours", 1.9, ("plain",)), tables[LARGE]) == ("2.00 [1.70, 2.00]x", "met")
    assert judge(Goal("", "ours", 2.1, ("plain",)), tables[LARGE])[1] == "**missed**"
    assert judge(Goal("", "ours", 1.6, ("plain",)), tables[LARGE], "cpu")[1] == "**missed**"
    floor = Goal("", "ours", 1.12, ("slow floor", "floor"), at_most=True)
    assert judge(floor, tables[LARGE]) == ("1.11 [1.05, 1.11]x", "met")
    assert judge(Goal("", "ours", 32), tables[LARGE]) == ("33 MB", "**missed**")


def test_what_was_not_measured_is_said() -> None:
    table = _tables()[SMALL]
    assert judge(Goal("", "ours", 2, ("unheard of",)), table) == ("-", "not measured")
    assert judge(Goal("", "triton", 2, ("plain",)), table) == ("-", "not measured")
    assert judge(Goal("", "ours", 32), table) == ("-", "not measured")


def test_a_goal_is_judged_where_it_holds() -> None:
    goals = [Goal("against plain", "ours", 0.95, ("plain",), where=lambda shape: shape.identities < 100_000)]
    _, _, *rows = summary(goals, _tables())
    assert rows == ["| against plain | C=10,000, B=128 | ≥ 0.95x | 0.90 [0.90, 0.90]x | **missed** |"]


def test_sampling_that_is_cheaper_is_said() -> None:
    lines = list(cheaper("ours", ["sampled", "unheard of"], _tables()))
    assert lines == [
        "- C=10,000, B=128: sampled takes 0.50 [0.50, 0.50] of the time of the exact head: cheaper.",
        "- C=100,000, B=128: sampled takes 1.20 [1.10, 1.30] of the time of the exact head: dearer.",
    ]


def test_every_variant_runs_in_every_round_unless_it_is_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr("interleave.timed", lambda run, _device: run() or ({"a": 0.1, "b": 9.0}[ran[-1]], 0.0))
    variants = {name: lambda name=name: lambda: ran.append(name) for name in "ab"}
    found = interleave(variants, rounds=12, seconds=20, device=CPU)
    assert (found["a"].rounds, found["b"].rounds) == (12, 3)
    assert (ran.count("a"), ran.count("b")) == (13, 4)  # one to warm up
    orders = {tuple(ran[start : start + 2]) for start in range(0, 8, 2)}
    assert orders == {("a", "b"), ("b", "a")}


def test_short_runs_are_repeated() -> None:
    calls: list[int] = []
    wall, _ = timed(lambda: calls.append(1), CPU, least=0.01)
    assert len(calls) == 100
    assert wall < 0.001


@pytest.mark.skipif(not torch.sys.platform.startswith("linux"), reason="/proc")
def test_the_peak_counts_what_was_freed_again() -> None:
    def run() -> None:
        torch.ones(8_000_000)  # 32 MB
        torch.ones(5_000_000)

    assert 30 < peak_of(run, CPU) < 45
