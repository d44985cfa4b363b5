from __future__ import annotations

import pytest
import torch

from proxylesskd.errors import UserError
from proxylesskd.models import create_model
from proxylesskd.models.preprocess import Preprocessing
from proxylesskd.models.teacher import Teacher
from proxylesskd.teacher import teacher_of
from proxylesskd.teacher_maps import teacher_map_shapes
from proxylesskd.teaching.live import Live


def test_the_shapes_are_those_of_the_maps_that_it_shows() -> None:
    torch.manual_seed(0)
    teacher = teacher_of(create_model("mobilefacenet", dim=8, width=0.125, image_size=32), Preprocessing(size=32))
    images = torch.randint(0, 256, (2, 3, 40, 40), dtype=torch.uint8)  # resized by its preprocessing
    maps = Live(teacher, maps=True)(images, torch.arange(2), 0).maps
    assert teacher_map_shapes(teacher) == tuple(tuple(each.shape[1:]) for each in maps)
    assert len(maps) == 4


def test_a_teacher_that_shows_none_is_refused() -> None:
    blind = Teacher(lambda images: images.flatten(1)[:, :4], Preprocessing(size=8), 4, "graph", "f")
    with pytest.raises(UserError, match=r"expected a PyTorch teacher.*'graph'"):
        teacher_map_shapes(blind)
