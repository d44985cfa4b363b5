from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from proxylesskd.errors import UserError
from proxylesskd.evaluation.embed import embed_images, pair_scores
from tests.evaluation.samples import Floats, people
from tests.faces import ColourEmbedder, face


def faces(count: int) -> np.ndarray:
    """[M, 3, 112, 112] uint8."""
    return np.stack([face(i // 2, i % 2).transpose(2, 0, 1) for i in range(count)])


def colours(image: np.ndarray) -> Floats:
    """What ColourEmbedder makes of one [3, 112, 112] image, by loops."""
    means = [
        image[c, 16 * y : 16 * y + 16, 16 * x : 16 * x + 16].mean()
        for c in range(3)
        for y in range(7)
        for x in range(7)
    ]
    centred = np.array(means) - np.mean(means)
    return np.asarray(centred / np.sqrt((centred**2).sum()))


class Counting(ColourEmbedder):
    """Remembers the sizes of its batches, and needs gradients switched off by whoever calls it."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def embed(self, images: Tensor) -> Tensor:
        self.batches.append(len(images))
        return super().embed(images) * torch.ones((), requires_grad=True)


class Failing(ColourEmbedder):
    """Gives something else for some images, told by their first pixel."""

    def __init__(self, value: float) -> None:
        self.value = value

    def embed(self, images: Tensor) -> Tensor:
        embeddings = super().embed(images)
        embeddings[images[:, 0, 0, 0] == 255] = self.value
        return embeddings


class Refusing(ColourEmbedder):
    def embed(self, images: Tensor) -> Tensor:
        if (images[:, 0, 0, 0] == 255).any():
            raise UserError("expected finite embeddings, found others")
        return super().embed(images)


def marked(count: int, *which: int) -> np.ndarray:
    images = np.minimum(faces(count), 254)
    images[list(which), 0, 0, 0] = 255
    return images


@pytest.mark.parametrize("batch", [1, 3, 7, 100])
def test_embeddings_by_loops_whatever_the_batch(batch: int) -> None:
    images = faces(7)
    found = embed_images(ColourEmbedder(), images, batch=batch)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [colours(image) for image in images], atol=1e-6)


def test_flip_adds_the_mirror_image() -> None:
    images = faces(5)
    found = embed_images(ColourEmbedder(), images, batch=2, flip=True)
    for image, embedding in zip(images, found, strict=True):
        both = colours(image) + colours(image[:, :, ::-1])
        np.testing.assert_allclose(embedding, both / np.linalg.norm(both), atol=1e-6)
    assert np.abs(found - embed_images(ColourEmbedder(), images)).max() > 0.01


def test_batches_leave_nothing_out_and_need_no_gradients() -> None:
    embedder = Counting()
    assert embed_images(embedder, faces(7), batch=3).shape == (7, 147)
    assert embedder.batches == [3, 3, 1]


def test_images_of_a_file_on_disc(tmp_path: Path) -> None:
    """A read-only memory map is as good as an array."""
    np.save(tmp_path / "faces.npy", faces(3))
    mapped = np.load(tmp_path / "faces.npy", mmap_mode="r")
    np.testing.assert_array_equal(embed_images(ColourEmbedder(), mapped), embed_images(ColourEmbedder(), faces(3)))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, 1.0])
def test_embeddings_that_are_not_finite_or_not_unit_name_the_image(value: float) -> None:
    names = [f"someone/{i}.jpg" for i in range(6)]
    with pytest.raises(UserError, match=r"from colours, found 2 others among 6, first of image 'someone/3.jpg'"):
        embed_images(Failing(value), marked(6, 3, 5), batch=2, names=names)
    with pytest.raises(UserError, match="first of image '3'"):
        embed_images(Failing(value), marked(6, 3, 5))


def test_what_an_embedder_refuses_names_the_batch() -> None:
    names = [f"someone/{i}.jpg" for i in range(5)]
    with pytest.raises(UserError, match=r"among the images 'someone/2.jpg' to 'someone/3.jpg': expected finite"):
        embed_images(Refusing(), marked(5, 3), batch=2, names=names)
    with pytest.raises(UserError, match="among the images '4' to '4'"):
        embed_images(Refusing(), marked(5, 4), batch=2)


def test_no_images() -> None:
    with pytest.raises(UserError, match="expected images to embed, found none"):
        embed_images(ColourEmbedder(), np.zeros((0, 3, 112, 112), dtype=np.uint8))


def unit_rows(count: int, dim: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, dim))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


@pytest.mark.parametrize("block", [1, 7, 1 << 16])
def test_scores_by_loops(block: int) -> None:
    """The first image of a pair is looked up in the gallery, the second is the probe."""
    pairs = people(5, 3, 30)
    gallery, probes = unit_rows(15, 8, 0), unit_rows(15, 8, 1)
    found = pair_scores(gallery, probes, pairs, block=block)
    assert found.dtype == np.float64
    for score, first, second in zip(found.tolist(), pairs.first.tolist(), pairs.second.tolist(), strict=True):
        expected = sum(float(a) * float(b) for a, b in zip(gallery[first], probes[second], strict=True))
        assert score == pytest.approx(expected, abs=1e-12)
    assert np.abs(found - pair_scores(probes, gallery, pairs)).max() > 0.01


def test_other_dimensions_are_refused() -> None:
    with pytest.raises(UserError, match="of one dimension, found 8 and 4"):
        pair_scores(unit_rows(15, 8, 0), unit_rows(15, 4, 1), people(5, 3, 30))
    with pytest.raises(UserError, match="of one dimension, found 4 and 8"):
        pair_scores(unit_rows(15, 4, 0), unit_rows(15, 8, 1), people(5, 3, 30))
