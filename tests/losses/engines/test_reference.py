"""The specification itself, against sums over one negative at a time in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from proxylesskd.losses.engines.engine import Bend
from proxylesskd.losses.engines.reference import Reference, bent
from proxylesskd.losses.rows import Rows, quantise, split
from tests.losses.engines.plain_sums import plain_sums

B, C, D, SCALE = 4, 11, 6, 8.0
LABELS = torch.tensor([3, 0, 10, 3])


def drawn(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, D, generator=generator, dtype=torch.float64), dim=1)


@pytest.mark.parametrize("bend", [None, Bend(torch.tensor([-0.2, 0.1, 0.9, 0.0]).double(), torch.tensor(0.3).double())])
@pytest.mark.parametrize("store", ["int8", "bfloat16"])
def test_sums_are_those_of_the_negatives(bend: Bend | None, store: str) -> None:
    unit, rows = drawn(B, 0), (quantise if store == "int8" else split)(drawn(C, 1))
    asked = unit.clone().requires_grad_()
    lse, best = Reference().negatives(asked, rows, LABELS, SCALE, bend)
    lse.sum().backward()  # type: ignore[no-untyped-call]
    assert asked.grad is not None
    for found, expected in zip(
        (lse.detach(), asked.grad, best), plain_sums(unit, rows, LABELS, SCALE, bend), strict=True
    ):
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6, atol=1e-7)  # the steps of bytes are float32


def test_a_hard_negative_is_bent_and_an_easy_one_is_not() -> None:
    cosine, threshold = torch.tensor([[0.5, 0.1, 0.2], [-0.4, 0.3, -0.5]]), torch.tensor([0.2, -0.45])
    found = bent(cosine, Bend(threshold, torch.tensor(2.0)))
    expected = [[0.5 * 2.5, 0.1, 0.2], [-0.4 * 1.6, 0.3 * 2.3, -0.5]]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("store", [lambda rows: rows, quantise, split])
def test_counts_own_and_mean_rows(store: object) -> None:
    kept: Rows = store(drawn(C, 1))  # type: ignore[operator]
    engine, exact = Reference(), drawn(C, 1).numpy()
    assert engine.count(kept) == C
    np.testing.assert_allclose(engine.own(kept, LABELS, torch.float64).numpy(), exact[LABELS.numpy()], atol=3e-5)
    mean = [math.fsum(exact[:, d]) / C for d in range(D)]
    np.testing.assert_allclose(engine.mean_row(kept, torch.float64).numpy(), mean, atol=2e-3)
