from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from proxylesskd.errors import UserError
from proxylesskd.models import create_model
from proxylesskd.models.preprocess import Preprocessing
from proxylesskd.models.teacher import Teacher
from proxylesskd.teacher import teacher_of
from proxylesskd.teaching.live import Live
from tests.faces import ColourEmbedder
from tests.teaching import lessons

NONE = torch.zeros(0, dtype=torch.int64)


def _faces(count: int, size: int = 112) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, 3, size, size), generator=generator, dtype=torch.uint8)


def test_the_teacher_sees_what_it_is_shown() -> None:
    faces = _faces(5)
    said = Live(lessons.Teacher())(faces, NONE, 3)
    assert torch.equal(said.embeddings, ColourEmbedder().embed(faces))
    assert said.norms is not None
    np.testing.assert_allclose(said.norms, 1 + faces.numpy()[..., :50].mean((1, 2, 3), dtype=np.float64), rtol=1e-6)
    assert said.maps == ()
    assert Live(ColourEmbedder())(faces, NONE, 3).norms is None


def test_for_a_smaller_student_it_is_projected_and_normalised() -> None:
    faces = _faces(5)
    said = Live(lessons.Teacher(), project=lambda x: 3 * x[:, :7])(faces, NONE, 0)
    whole = ColourEmbedder().embed(faces).double().numpy()[:, :7]
    np.testing.assert_allclose(said.embeddings, whole / np.linalg.norm(whole, axis=1, keepdims=True), atol=1e-6)
    assert said.norms is not None
    assert torch.equal(said.norms, Live(lessons.Teacher())(faces, NONE, 0).norms)  # those of the teacher's own space


def test_maps_of_a_teacher_that_runs_in_chunks() -> None:
    torch.manual_seed(0)
    module = create_model("mobilefacenet", dim=8, width=0.125, image_size=32).eval()
    preprocessing = Preprocessing(size=32)
    one = teacher_of(module, preprocessing)
    chunked = Teacher(one.network, preprocessing, 8, "t", "f", chunk=4)
    faces = _faces(10, 32)
    said = Live(chunked, maps=True)(faces, NONE, 0)
    whole = Live(one, maps=True)(faces, NONE, 0)
    torch.testing.assert_close(said.embeddings, one.embed(faces))
    torch.testing.assert_close(said.norms, one.measure(faces)[1])
    assert len(said.maps) == len(whole.maps) > 1
    for ours, theirs in zip(said.maps, whole.maps, strict=True):
        assert len(ours) == 10
        assert not ours.requires_grad
        torch.testing.assert_close(ours, theirs)
    # the deepest map, once more by hand: the network up to what makes one vector of it
    sizes = [each.shape[-1] for each in said.maps]
    assert sizes == sorted(sizes, reverse=True)
    seen = list[Tensor]()
    hooks = [part.register_forward_hook(lambda *run: seen.append(run[-1])) for part in module.modules()]
    with torch.no_grad():
        module(preprocessing(faces))
    for hook in hooks:
        hook.remove()
    assert any(each.shape == said.maps[-1].shape and torch.allclose(each, said.maps[-1], atol=1e-5) for each in seen)


def test_a_teacher_without_insides_shows_no_maps() -> None:
    for teacher in (ColourEmbedder(), Teacher(nn.Flatten(), Preprocessing(size=8), 192, "colours", "f")):
        with pytest.raises(UserError, match=r"expected a PyTorch teacher .*found 'colours', which shows none"):
            Live(teacher, maps=True)
