from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from proxylesskd.comparison.gallery import enrol, enrolled
from proxylesskd.data.pairs import Pairs
from proxylesskd.errors import UserError
from tests.evaluation.samples import set_of
from tests.faces import ColourEmbedder, face


def made(count: int = 4) -> Pairs:
    images = np.stack([face(i, 0).transpose(2, 0, 1) for i in range(count)])
    return set_of(np.array([True, False]), images=images, folds=2)


class Counting(ColourEmbedder):
    """Counts how often it is asked."""

    asked = 0

    def embed(self, images: Tensor) -> Tensor:
        self.asked += 1
        return super().embed(images)


def test_a_gallery_remembers_what_the_teacher_said_in_any_order(tmp_path: Path) -> None:
    pairs, teacher = made(), Counting()
    enrol(tmp_path / "deep" / "g.npz", teacher, pairs, "fp")
    again = enrolled(tmp_path / "deep" / "g.npz", pairs)
    images = torch.from_numpy(pairs.images)[[2, 0, 2]]
    assert torch.equal(again.embed(images), ColourEmbedder().embed(torch.from_numpy(pairs.images))[[2, 0, 2]])
    assert (again.dim, again.name, again.fingerprint) == (147, "colours", "colours-1")
    with pytest.raises(UserError, match="found another one"):
        again.embed(images.flip(-1))


def test_it_is_embedded_once_for_the_same_pairs_and_teacher(tmp_path: Path) -> None:
    path, pairs, teacher = tmp_path / "g.npz", made(), Counting()
    enrol(path, teacher, pairs, "one")
    enrol(path, teacher, pairs, "one")
    assert teacher.asked == 1
    enrol(path, teacher, pairs, "two")
    assert teacher.asked == 2
    path.write_bytes(b"no file of numpy")
    enrol(path, teacher, pairs, "two")
    assert teacher.asked == 3


def test_damaged_and_foreign_galleries_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "g.npz"
    for content in (b"", b"PK\x03\x04 torn"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="expected embeddings, name, teacher in"):
            enrolled(path, made())
    enrol(path, ColourEmbedder(), made(), "one")
    with pytest.raises(UserError, match="of 6 images"):
        enrolled(path, made(6))
