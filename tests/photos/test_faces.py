"""Which face is meant, by hand-placed boxes and by a loop."""

from __future__ import annotations

import math

import numpy as np
import pytest

from proxylesskd.errors import UserError
from proxylesskd.photos.faces import Faces, ManyFaces, check_choice, choose


def faces(*boxes: tuple[float, float, float, float], scores: list[float] | None = None) -> Faces:
    return Faces(np.zeros((len(boxes), 5, 2)), np.array(boxes, float), np.array(scores or [0.9] * len(boxes)))


def test_largest_is_by_area_and_then_by_score() -> None:
    assert choose(faces((0, 0, 10, 40), (50, 50, 21, 20), (90, 0, 5, 60)), "largest", 100, 100) == 1
    assert choose(faces((0, 0, 10, 40), (50, 50, 20, 20), scores=[0.7, 0.8]), "largest", 100, 100) == 1


def test_central_is_nearest_to_the_middle_and_then_larger() -> None:
    assert choose(faces((0, 0, 60, 60), (95, 45, 10, 10)), "central", 100, 200) == 1
    assert choose(faces((95, 45, 10, 10), (90, 40, 20, 20)), "central", 100, 200) == 1


def test_central_agrees_with_a_loop() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        boxes = random.uniform(0, 200, (6, 4))
        away = [math.dist((left + w / 2, top + h / 2), (160, 120)) for left, top, w, h in boxes]
        assert choose(faces(*map(tuple, boxes)), "central", 240, 320) == away.index(min(away))  # type: ignore[arg-type]


def test_only_takes_no_one_of_several() -> None:
    assert choose(faces((0, 0, 5, 5)), "only", 10, 10) == 0
    with pytest.raises(ManyFaces) as caught:
        choose(faces((0, 0, 5, 5), (5, 5, 5, 5)), "only", 10, 10)
    assert caught.value.count == 2


def test_an_unknown_rule_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'central'"):
        check_choice("centre")
    check_choice("only")
