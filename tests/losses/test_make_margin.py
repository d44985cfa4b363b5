from __future__ import annotations

import pytest
import torch

from proxylesskd.errors import UserError
from proxylesskd.losses.adaptive_margin import AdaFace, CurricularFace, MagFace
from proxylesskd.losses.make_margin import NAMES, make_margin
from proxylesskd.losses.margin import ArcFace, Combined, CosFace


def test_margins_by_name() -> None:
    assert make_margin("arcface", 0.4, "straight-through") == ArcFace(0.4, "straight-through")
    assert make_margin("cosface", 0.3) == CosFace(0.3)
    assert make_margin("none", 0.3)(torch.tensor([0.7]), torch.ones(1)).target.item() == pytest.approx(0.7)
    assert make_margin("combined", 0.3, m1=1.5, m3=0.2) == Combined(1.5, 0.3, 0.2)
    assert make_margin("magface", 0.4, m_high=0.9, penalty=20.0) == MagFace(0.4, 0.9, penalty=20.0)
    assert make_margin("magface", 0.4) == MagFace(0.4)
    assert make_margin("combined", 0.3) == Combined(1.0, 0.3, 0.0)
    adaface, curricular = make_margin("adaface", 0.4, concentration=0.5), make_margin("curricularface", 0.45)
    assert isinstance(adaface, AdaFace)
    assert (adaface.margin, adaface.concentration) == (0.4, 0.5)
    assert isinstance(curricular, CurricularFace)
    assert curricular.margin == 0.45


@pytest.mark.parametrize("name", NAMES)
def test_every_name_makes_a_margin_that_lowers_the_target(name: str) -> None:
    cosine = torch.tensor([0.2, 0.5])
    target = make_margin(name, 0.4)(cosine, torch.full((2,), 20.0)).target
    assert bool((target <= cosine).all())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: make_margin("arcfase", 0.5), "did you mean 'arcface'"),
        (lambda: make_margin("arcface", 0.5, "analytical"), "did you mean 'analytic'"),
        (lambda: make_margin("cosface", 0.5, "straight-through"), "arcface or combined.*'cosface'"),
    ],
)
def test_wrong_names_are_named(build: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build()  # type: ignore[operator]
