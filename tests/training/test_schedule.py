"""Learning rates, recomputed by torch's own schedulers and by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from proxylesskd.errors import UserError
from proxylesskd.training.schedule import SCHEDULES, learning_rate


def _torch_rates(make: Any, steps: int, peak: float) -> list[float]:
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    scheduler = make(optimiser)
    rates = []
    for _ in range(steps):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    return rates


def test_cosine_equals_torch() -> None:
    expected = _torch_rates(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 40, eta_min=0.01), 40, 0.3)
    rates = [learning_rate(k, kind="cosine", peak=0.3, steps=40, final=0.01) for k in range(40)]
    assert rates == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_poly_equals_torch(power: float) -> None:
    expected = _torch_rates(lambda o: torch.optim.lr_scheduler.PolynomialLR(o, 30, power=power), 30, 0.3)
    rates = [learning_rate(k, kind="poly", peak=0.3, steps=30, power=power) for k in range(30)]
    assert rates == pytest.approx(expected, rel=1e-9)


def test_multi_step_equals_torch() -> None:
    expected = _torch_rates(lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [5, 9], gamma=0.2), 12, 0.3)
    rates = [learning_rate(k, kind="multi-step", peak=0.3, steps=12, milestones=(5, 9), gamma=0.2) for k in range(12)]
    assert rates == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kind", SCHEDULES)
def test_warm_up_climbs_in_equal_steps_to_the_peak(kind: str) -> None:
    rates = [learning_rate(k, kind=kind, peak=0.8, steps=20, warmup=4, milestones=(19,)) for k in range(20)]
    assert rates[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert rates[4] == pytest.approx(0.8)
    assert max(rates) == pytest.approx(0.8)
    if kind != "constant":
        assert rates[-1] < 0.1


def test_cosine_after_warm_up_by_hand() -> None:
    # 12 of the 16 steps after the warm-up are done: (1 + cos(3π/4)) / 2 of the way is left
    rate = learning_rate(16, kind="cosine", peak=1.0, steps=20, warmup=4, final=0.5)
    assert rate == pytest.approx(0.5 + 0.5 * (1 - math.sqrt(0.5)) / 2)


@pytest.mark.parametrize(("kind", "last"), [("constant", 0.3), ("cosine", 0.02), ("poly", 0.02), ("multi-step", 0.03)])
def test_last_rate_holds_beyond_the_end(kind: str, last: float) -> None:
    for step in (10, 11, 1000):
        assert learning_rate(step, kind=kind, peak=0.3, steps=10, final=0.02, milestones=(5,)) == pytest.approx(last)


def test_warm_up_alone() -> None:
    assert learning_rate(9, kind="cosine", peak=0.3, steps=10, warmup=10) == pytest.approx(0.3)
    assert learning_rate(10, kind="cosine", peak=0.3, steps=10, warmup=10) == pytest.approx(0.3)


def test_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'cosine'"):
        learning_rate(0, kind="cosin", peak=0.1, steps=10)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"steps": 10, "warmup": 11}, {"steps": 10, "warmup": -1}])
def test_impossible_lengths_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UserError, match="warm-up between"):
        learning_rate(0, kind="constant", peak=0.1, **wrong)
