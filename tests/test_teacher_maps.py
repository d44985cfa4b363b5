from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from proxylesskd.errors import UserError
from proxylesskd.models import create_model
from proxylesskd.models.maps import recording_maps
from proxylesskd.models.preprocess import Preprocessing
from proxylesskd.teacher import Teacher, teacher_of
from proxylesskd.teacher_maps import embed_with_maps, teacher_map_shapes


def _teacher() -> Teacher:
    torch.manual_seed(0)
    return teacher_of(create_model("mobilefacenet", dim=8, width=0.125, image_size=32), Preprocessing(size=32))


def test_embeddings_lengths_and_maps_of_one_pass() -> None:
    teacher = _teacher()
    images = torch.randint(0, 256, (19, 3, 40, 40), dtype=torch.uint8)  # more than one chunk, another size
    embeddings, norms, maps = embed_with_maps(teacher, images)
    torch.testing.assert_close(embeddings, teacher.embed(images))
    module: nn.Module = teacher.network.module.eval()  # type: ignore[attr-defined]
    with torch.no_grad(), recording_maps(module) as expected:
        raw = module(teacher.preprocessing(images))
    torch.testing.assert_close(norms, raw.square().sum(1).sqrt(), rtol=1e-4, atol=1e-5)
    for mine, theirs in zip(maps, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
    assert not any(each.requires_grad for each in (embeddings, norms, *maps))
    assert teacher_map_shapes(teacher) == tuple(tuple(each.shape[1:]) for each in maps)


class _Nothing(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :4] * 0


def test_what_shows_no_maps_or_no_faces_is_refused() -> None:
    blind = Teacher(lambda images: images.flatten(1)[:, :4], Preprocessing(size=8), 4, "graph", "f")
    for ask in (lambda: embed_with_maps(blind, torch.zeros(1, 3, 8, 8, dtype=torch.uint8)),
                lambda: teacher_map_shapes(blind)):  # fmt: skip
        with pytest.raises(UserError, match=r"expected a PyTorch teacher.*'graph'"):
            ask()
    for wrong in (torch.zeros(1, 3, 8, 8), torch.zeros(0, 3, 8, 8, dtype=torch.uint8)):
        with pytest.raises(UserError, match=r"faces \[B, 3, H, W\] uint8"):
            embed_with_maps(_teacher(), wrong)
    silent = teacher_of(_Nothing(), Preprocessing(size=8))
    with pytest.raises(UserError, match="zero or non-finite"):
        embed_with_maps(silent, torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
