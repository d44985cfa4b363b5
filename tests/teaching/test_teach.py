"""Cached or live, the methods hear the same; which of the two it is follows from augmentation and needs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from proxylesskd.data.augment import Augmentation, augment
from proxylesskd.data.keys import sample_keys
from proxylesskd.data.loader import CorruptLog, load_batches
from proxylesskd.errors import UserError
from proxylesskd.models import create_model
from proxylesskd.models.preprocess import Preprocessing
from proxylesskd.models.weights import save_model
from proxylesskd.teaching.cached import Cached
from proxylesskd.teaching.live import Live
from proxylesskd.teaching.teach import how_to_teach, shared_folder, teach_for
from tests.faces import ColourEmbedder, MemorySource
from tests.teaching.lessons import Listener, Teacher
from tests.training.pieces import fit_quietly

FLIPS, STRONGER = Augmentation(flip=0.5), Augmentation(flip=0.5, crop=0.3, colour=1.0)
HEARD = {"teacher_embeddings", "teacher_norms"}
SEED = 17


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _train(source: MemorySource, augmentation: Augmentation, teacher: Teacher, choice: str) -> list[Any]:
    def batches(start: int, stop: int) -> Iterator[Any]:
        yield from load_batches(source, batch=8, seed=3, start=start, stop=stop, workers=1, corrupt=CorruptLog())

    def augmented(images: Tensor, indices: Tensor, step: int) -> Tensor:
        return augment(images, sample_keys(SEED, step, indices), augmentation)

    course = Listener(*HEARD)
    teach = teach_for(teacher, source, augmentation, needs=course.needs, seed=SEED, choice=choice, workers=1)
    fit_quietly(course, batches, steps=7, lr=0.0, augment=augmented, teach=teach)
    return course.heard


def test_methods_hear_the_same_from_a_cache_and_from_the_live_teacher() -> None:
    source = MemorySource(4, 5)
    source.spoil(6)  # whose place another image takes
    teacher, asked = Teacher(), Teacher()
    cached, live = (_train(source, FLIPS, who, how) for who, how in ((teacher, "cached"), (asked, "live")))
    assert (teacher.images, asked.images) == (2 * 19, 7 * 8)
    mirrored = 0
    for ours, theirs in zip(cached, live, strict=True):
        assert torch.equal(ours.images, theirs.images)
        assert 6 not in ours.indices.tolist()
        assert torch.equal(ours.teacher_embeddings, F.normalize(theirs.teacher_embeddings.half().float(), dim=1))
        assert torch.equal(ours.teacher_norms, theirs.teacher_norms)
        # and that is what the teacher says about the pixels that the student saw
        pixels = ((ours.images + 1) * 127.5).round().to(torch.uint8).contiguous()
        said, norms = Teacher().measure(pixels)
        torch.testing.assert_close(theirs.teacher_embeddings, said)
        torch.testing.assert_close(theirs.teacher_norms, norms)
        mirrored += int((~torch.isclose(norms, Teacher().measure(pixels.flip(-1))[1])).sum())
    assert mirrored > 0  # the sides can be told apart


def test_a_second_run_finds_the_cache_and_a_folder_can_be_named(tmp_path: Path) -> None:
    source, first, second, third = MemorySource(2, 3), Teacher(), Teacher(), Teacher()
    for teacher, folder in ((first, ""), (second, ""), (third, tmp_path / "own")):
        teach_for(teacher, source, FLIPS, needs=HEARD, seed=0, folder=folder)
    assert (first.images, second.images, third.images) == (12, 0, 12)
    (place,) = shared_folder().iterdir()
    assert shared_folder() == tmp_path / "cache" / "proxylesskd" / "embeddings"
    assert {"views.npy", "norms.npy"} < {path.name for path in place.iterdir()}
    assert {"views.npy", "norms.npy"} < {path.name for path in (tmp_path / "own").iterdir()}


def test_other_keys_mirror_other_images() -> None:
    source, indices = MemorySource(4, 4), torch.arange(16)
    images = torch.zeros(16, 3, 8, 8, dtype=torch.uint8)
    told = [
        teach_for(Teacher(), source, FLIPS, needs=HEARD, seed=seed)(images, indices, step).norms
        for seed, step in ((1, 0), (1, 1), (2, 0), (1, 0))
    ]
    assert torch.equal(told[0], told[3])
    assert not torch.equal(told[0], told[1])
    assert not torch.equal(told[0], told[2])


@pytest.mark.parametrize(
    ("choice", "augmentation", "needs", "expected"),
    [
        ("auto", FLIPS, HEARD, "cached"),
        ("auto", Augmentation(flip=0.0), HEARD, "cached"),
        ("auto", STRONGER, HEARD, "live"),
        ("auto", FLIPS, {"teacher_maps"}, "live"),
        ("cached", FLIPS, {"teacher_embeddings", "student_maps", "balanced"}, "cached"),
        ("live", FLIPS, HEARD, "live"),
        ("live", STRONGER, {"teacher_maps"}, "live"),
    ],
)
def test_what_can_be_cached(choice: str, augmentation: Augmentation, needs: set[str], expected: str) -> None:
    assert how_to_teach(choice, augmentation, needs) == expected


def test_what_cannot_be_cached_says_why() -> None:
    with pytest.raises(UserError, match=re.escape("more than the side (crop = 0.3, colour = 1)")):
        how_to_teach("cached", STRONGER, HEARD)
    with pytest.raises(UserError, match="teacher's maps, which are too large to keep"):
        how_to_teach("cached", FLIPS, {"teacher_maps"})
    with pytest.raises(UserError, match="did you mean 'cached'"):
        how_to_teach("cache", FLIPS, HEARD)
    teacher = Teacher()
    with pytest.raises(UserError, match="more than the side"):
        teach_for(teacher, MemorySource(2, 2), STRONGER, needs=HEARD, seed=0, choice="cached")
    assert teacher.images == 0


def test_lengths_that_nobody_knows_are_refused(tmp_path: Path) -> None:
    source = MemorySource(2, 2)
    with pytest.raises(UserError, match="tells the lengths of its embeddings, found 'colours'"):
        teach_for(ColourEmbedder(), source, FLIPS, needs=HEARD, seed=0)
    assert teach_for(ColourEmbedder(), source, FLIPS, needs={"teacher_embeddings"}, seed=0)
    teach_for(Teacher(), source, FLIPS, needs=HEARD, seed=0, folder=tmp_path / "own")
    header = json.loads((tmp_path / "own" / "embedded.json").read_text())
    (tmp_path / "own" / "embedded.json").write_text(json.dumps({**header, "format": 1, "norms": False}))
    with pytest.raises(UserError, match="of an earlier version without"):
        teach_for(Teacher(), source, FLIPS, needs=HEARD, seed=0, folder=tmp_path / "own")
    assert teach_for(Teacher(), source, FLIPS, needs={"teacher_embeddings"}, seed=0, folder=tmp_path / "own")


def test_by_the_location_of_a_teacher_and_projected(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = create_model("mobilefacenet", dim=8, width=0.125, image_size=112)
    save_model(tmp_path / "t.safetensors", module, Preprocessing())
    source, faces = MemorySource(2, 2), torch.randint(0, 256, (3, 3, 112, 112), dtype=torch.uint8)
    teach = teach_for(
        str(tmp_path / "t.safetensors"), source, STRONGER, needs=HEARD, seed=0, project=lambda x: x[:, :3]
    )
    assert isinstance(teach, Live)
    said = teach(faces, torch.arange(3), 0)
    with torch.no_grad():
        raw = module.eval()((faces.float() - 127.5) / 127.5)
    torch.testing.assert_close(said.embeddings, F.normalize(raw[:, :3], dim=1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(said.norms, raw.norm(dim=1), rtol=1e-4, atol=1e-5)
    kept = teach_for(tmp_path / "t.safetensors", source, FLIPS, needs=HEARD, seed=0, project=lambda x: x[:, :3])
    assert isinstance(kept, Cached)
    said = kept(faces, torch.tensor([1, 3, 0]), 5)
    assert said.embeddings.shape == (3, 3)
    np.testing.assert_allclose(np.linalg.norm(said.embeddings.numpy(), axis=1), 1, atol=1e-6)
