from __future__ import annotations

import pytest

from proxylesskd.activity.cost import cost_of, energy_scores, multiply_adds
from proxylesskd.activity.echo import PatchEcho

SAMPLES, CHANNELS, CLASSES, BATCH = 496, 3, 8, 64

# arXiv 2505.22985, tables 1 to 3: (patch, cells) and what it calls FLOPS, of a batch of 64.
PUBLISHED = {
    (32, 1000): 92_446_720,
    (64, 1000): 341_549_056,
    (128, 1000): 1_161_797_632,
    (128, 4000): 1_164_869_632,
}
# All its models: FLOPS, memory in MB, file in MB, accuracy in % (table 5), and the ratio it gives for saving power.
MODELS = {
    "Mixer": (39_985_479_680, 4870, 12.7, 94.6),
    "DeepConvLSTM": (9_105_719_296, 725, 1.19, 90.6),
    "x0.5": (2_315_460_608, 532, 0.304, 87.4),
    "x0.25": (598_380_544, 550, 0.0817, 80.2),
    "p32": (92_446_720, 977, 4.21, 82.7),
    "p64": (341_549_056, 942, 4.37, 85.2),
    "p128": (1_161_797_632, 874, 4.78, 86.0),
    "p128 R4000": (1_164_869_632, 2030, 66.5, 87.0),
}


def echo(patch: int, cells: int, stride: int) -> PatchEcho:
    """One whose matrices are full but not drawn: an eigenvalue of 4,000 cells takes a minute."""
    net = PatchEcho(CHANNELS, CLASSES, patch=patch, stride=stride, size=cells, seed=None)
    net.reservoir.recurrent.fill_(1e-3)
    net.reservoir.arriving.fill_(1e-3)
    return net


@pytest.mark.parametrize(("patch", "cells"), PUBLISHED)
def test_published_numbers_leave_the_reservoir_out(patch: int, cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    net = echo(patch, cells, stride=1)
    monkeypatch.setattr(net.reservoir, "step", lambda state, _token: state)  # no time for its 10^10 multiplications
    assert BATCH * multiply_adds(net, CHANNELS, SAMPLES, recurrent=False) == PUBLISHED[patch, cells]
    tokens = SAMPLES - patch + 1
    whole = BATCH * multiply_adds(net, CHANNELS, SAMPLES)
    assert whole - PUBLISHED[patch, cells] == BATCH * (tokens + 2) * (cells**2 + cells * patch)


def test_only_entries_that_are_not_zero_count() -> None:
    net = PatchEcho(2, 3, patch=4, stride=2, size=50, density=0.1)
    held = sum(
        int(value != 0) for matrix in (net.reservoir.recurrent, net.reservoir.arriving) for value in matrix.ravel()
    )
    outside = 5 * 4 * 2 * 4 + 2 * 50 * 3  # five patches, two heads
    assert multiply_adds(net, 2, 12) == outside + 7 * held


def test_what_is_told_of_a_cost_is_consistent() -> None:
    net = PatchEcho(2, 3, patch=4, size=50)
    told = cost_of(net, 2, 12, 1234)
    assert told["file_bytes"] == 1234
    assert told["parameters"] - told["trained"] == 50 * 50 + 50 * 4 + 50
    assert told["peak_bytes"] > 4 * told["parameters"]
    assert told["multiply_adds"] > told["without_recurrence"]
    assert told["milliseconds"] > 0


def test_energy_scores_are_the_published_ones() -> None:
    costs = [{"multiply_adds": f, "peak_bytes": 1e6 * m, "file_bytes": 1e6 * d} for f, m, d, _ in MODELS.values()]
    for weights, published in (
        ((0.7, 0.2, 0.1), {"p32": 8.90, "x0.25": 3.67}),
        ((1 / 3, 1 / 3, 1 / 3), {"x0.25": 7.46, "p32": 3.79}),
    ):
        scores = dict(zip(MODELS, energy_scores(costs, weights), strict=True))
        for name, ratio in published.items():
            assert MODELS[name][3] / 100 / (scores[name] + 1e-6) == pytest.approx(ratio, abs=0.006)


def test_equal_costs_do_not_divide_by_zero() -> None:
    one = {"multiply_adds": 5.0, "peak_bytes": 5.0, "file_bytes": 5.0}
    assert energy_scores([one, one]) == [0.0, 0.0]
