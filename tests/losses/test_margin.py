from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from proxylesskd.errors import UserError
from proxylesskd.losses.make_margin import make_margin
from proxylesskd.losses.margin import ArcFace, CosFace, Margin, arcface_target
from tests.reference import softmax as reference

COSINES = torch.linspace(-0.999, 0.999, 41, dtype=torch.float64)


def target_of(margin: Margin, cosine: torch.Tensor) -> torch.Tensor:
    return margin(cosine, torch.ones_like(cosine)).target


@pytest.mark.parametrize("margin", [0.0, 0.3, 0.5, 1.2])
def test_arcface_is_the_cosine_of_the_shifted_angle(margin: float) -> None:
    expected = [reference.arcface(float(c), margin) for c in COSINES]
    np.testing.assert_allclose(target_of(ArcFace(margin), COSINES).numpy(), expected, rtol=0, atol=1e-12)


def test_arcface_is_monotonic_through_the_guard() -> None:
    values = target_of(ArcFace(0.5), torch.linspace(-1, 1, 2001, dtype=torch.float64))
    assert bool((values.diff() > 0).all())


def test_arcface_gradient_is_the_derivative() -> None:
    inside = torch.linspace(-0.8, 0.98, 20, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda c: arcface_target(c, 0.5), inside)


def test_arcface_gradient_stays_finite_at_the_ends() -> None:
    ends = torch.tensor([-1.0, 1.0, 1.0 + 1e-7], requires_grad=True)
    target_of(ArcFace(0.5), ends).sum().backward()
    assert ends.grad is not None
    assert bool(torch.isfinite(ends.grad).all())


def test_straight_through_has_the_value_of_the_margin_and_the_gradient_of_the_cosine() -> None:
    cosines = COSINES.clone().requires_grad_()
    values = target_of(ArcFace(0.5, gradient="straight-through"), cosines)
    values.sum().backward()
    torch.testing.assert_close(values.detach(), target_of(ArcFace(0.5), COSINES))
    assert cosines.grad is not None
    assert bool((cosines.grad == 1).all())


def test_cosface_subtracts() -> None:
    np.testing.assert_allclose(target_of(CosFace(0.35), COSINES), [reference.cosface(float(c), 0.35) for c in COSINES])


def test_margins_by_name() -> None:
    assert make_margin("arcface", 0.4, "straight-through") == ArcFace(0.4, "straight-through")
    assert make_margin("cosface", 0.3) == CosFace(0.3)
    assert target_of(make_margin("none", 0.3), torch.tensor([0.7])).item() == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: make_margin("arcfase", 0.5), "did you mean 'arcface'"),
        (lambda: ArcFace(math.pi), "radians"),
        (lambda: CosFace(-0.1), "CosFace margin"),
        (lambda: make_margin("arcface", 0.5, "analytical"), "did you mean 'analytic'"),
    ],
)
def test_wrong_margins_are_named(build: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build()  # type: ignore[operator]
