"""Augmentation, against numpy, scipy and Pillow."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from proxylesskd.data import augment as module
from proxylesskd.data.augment import Augmentation, augment, flipped, sample_keys
from proxylesskd.errors import UserError

NAMES = [f.name for f in fields(Augmentation)]
EVERYTHING = Augmentation(0.5, 0.6, 0.4, 0.5, 0.6, 0.5)


def faces(count: int, height: int = 28, width: int = 28, seed: int = 0) -> torch.Tensor:
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (count, 5, 5, 3), dtype=np.uint8)
    full = [np.asarray(Image.fromarray(c).resize((width, height), Image.Resampling.BICUBIC)) for c in coarse]
    return torch.from_numpy(np.stack(full).transpose(0, 3, 1, 2).copy())


def only(name: str, probability: float = 1.0) -> Augmentation:
    return Augmentation(**{"flip": 0.0, name: probability})


def keys(count: int, seed: int = 0, step: int = 0) -> torch.Tensor:
    return sample_keys(seed, step, torch.arange(count))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.permutations(range(9)), st.integers(1, 8), st.sampled_from([(28, 28), (13, 19)]))
def test_a_sample_does_not_depend_on_its_company(seed: int, order: list[int], cut: int, shape: tuple[int, int]) -> None:
    images, its_keys = faces(9, *shape, seed=seed), keys(9, seed)
    together = augment(images, its_keys, EVERYTHING)
    shuffled = torch.tensor(order)
    for part in (shuffled[:cut], shuffled[cut:], shuffled[:1]):
        assert torch.equal(augment(images[part], its_keys[part], EVERYTHING), together[part])


def test_chunks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    images = faces(20)
    expected = augment(images, keys(20), EVERYTHING)
    monkeypatch.setattr(module, "CPU_CHUNK", 1000)
    assert torch.equal(augment(images, keys(20), EVERYTHING), expected)


def test_nothing_happens_at_probability_zero_nor_to_the_input() -> None:
    images = faces(6)
    before = images.clone()
    assert torch.equal(augment(images, keys(6), Augmentation(flip=0.0)), images)
    augment(images, keys(6), Augmentation(*[1.0] * 6))
    assert torch.equal(images, before)


def test_an_empty_batch_stays_empty() -> None:
    assert augment(faces(2)[:0], keys(2)[:0], EVERYTHING).shape == (0, 3, 28, 28)


@pytest.mark.parametrize("name", NAMES)
def test_every_change_keeps_type_and_shape_and_changes_every_sample(name: str) -> None:
    images = faces(12, 28, 21)
    out = augment(images, keys(12), only(name))
    assert out.dtype == torch.uint8
    assert out.shape == images.shape
    assert all(not torch.equal(a, b) for a, b in zip(out, images, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_keys_decide(name: str) -> None:
    images = faces(1).expand(8, -1, -1, -1)
    out = augment(images, keys(8), only(name, 0.99))
    assert torch.equal(out, augment(images, keys(8), only(name, 0.99)))
    if name != "flip":
        assert len({bytes(x.numpy().tobytes()) for x in out}) > 2  # low resolution knows four levels
        assert not torch.equal(out, augment(images, keys(8, step=1), only(name, 0.99)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("probability", [0.2, 0.7])
def test_as_often_as_asked(name: str, probability: float) -> None:
    images = faces(1, 7, 7).expand(3000, -1, -1, -1)
    out = augment(images, keys(3000), only(name, probability))
    share = float((out != images).flatten(1).any(dim=1).float().mean())
    # Three standard deviations; a crop, colour or square that leaves a face of 7 pixels as it was is rare.
    assert abs(share - probability) < 3 * np.sqrt(probability * (1 - probability) / 3000) + 0.01


def test_flip_is_that_of_numpy() -> None:
    images = faces(5)
    np.testing.assert_array_equal(augment(images, keys(5), Augmentation(flip=1.0)), images.numpy()[..., ::-1])


def bilinear(image: npt.NDArray[np.float64], zoom: float, dx: float, dy: float) -> npt.NDArray[np.float64]:
    """Sample [H, W] at zoom * (pixel - middle) + shift, edges repeated, one pixel after the other."""
    height, width = image.shape
    out = np.empty_like(image)
    for i in range(height):
        for j in range(width):
            y = np.clip(zoom * (i - (height - 1) / 2) + (height - 1) / 2 + dy * height, 0, height - 1)
            x = np.clip(zoom * (j - (width - 1) / 2) + (width - 1) / 2 + dx * width, 0, width - 1)
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
            top = image[y0, x0] * (1 - (x - x0)) + image[y0, x1] * (x - x0)
            bottom = image[y1, x0] * (1 - (x - x0)) + image[y1, x1] * (x - x0)
            out[i, j] = top * (1 - (y - y0)) + bottom * (y - y0)
    return out


def test_crop_is_a_zoom_and_a_shift() -> None:
    images, its_keys = faces(4, 20, 14), keys(4)
    out = augment(images, its_keys, only("crop")).numpy()
    for b in range(4):
        u = [float(module.uniform(its_keys[b : b + 1], s)) for s in (10, 11, 12)]
        zoom, dx, dy = 0.85 + 0.25 * u[0], -0.06 + 0.12 * u[1], -0.06 + 0.12 * u[2]
        expected = bilinear(images[b, 1].double().numpy(), zoom, dx, dy)
        assert np.abs(out[b, 1] - expected).max() <= 0.51


def test_blur_is_a_gaussian() -> None:
    images, its_keys = faces(4, 24, 30), keys(4)
    out = augment(images, its_keys, only("blur")).numpy()
    for b in range(4):
        sigma = 0.4 + 1.6 * float(module.uniform(its_keys[b : b + 1], 30))
        for c in range(3):
            expected = ndimage.gaussian_filter(
                images[b, c].double().numpy(), sigma, mode="nearest", radius=module.BLUR_RADIUS
            )
            assert np.abs(out[b, c] - expected).max() <= 0.51


def test_low_resolution_is_shrinking_and_enlarging() -> None:
    images, its_keys = faces(12, 28, 28), keys(12)
    out = augment(images, its_keys, only("low_resolution")).numpy()
    levels = set()
    for b in range(12):
        side = [4, 8, 12, 16][int(4 * float(module.uniform(its_keys[b : b + 1], 20)))]
        levels.add(side)
        if 28 % side == 0:  # Pillow's BOX agrees with area averaging where pixels divide evenly
            small = Image.fromarray(images[b, 0].float().numpy()).resize((side, side), Image.Resampling.BOX)
            expected = np.asarray(small.resize((28, 28), Image.Resampling.BILINEAR))
            assert np.abs(out[b, 0] - expected).max() <= 1
        fine = np.abs(np.diff(out[b].astype(int), n=2, axis=-1)).mean()
        assert fine < np.abs(np.diff(images[b].numpy().astype(int), n=2, axis=-1)).mean()
    assert len(levels) > 1


def test_colour_by_hand() -> None:
    images, its_keys = faces(30), keys(30)
    out = augment(images, its_keys, only("colour")).numpy()
    greys = 0
    for b in range(30):
        u = {s: float(module.uniform(its_keys[b : b + 1], s)) for s in (40, 41, 42, 43)}
        x = images[b].double().numpy()
        luma = 0.299 * x[0] + 0.587 * x[1] + 0.114 * x[2]
        saturation = 0.0 if u[43] < 0.2 else 0.5 + u[42]
        x = luma + saturation * (x - luma)
        mean = np.round(luma).mean()
        x = mean + (0.6 + 0.8 * u[41]) * (x - mean)
        x = np.clip(x * (0.6 + 0.8 * u[40]), 0, 255)
        assert np.abs(out[b] - x).max() <= 0.51
        greys += int(np.ptp(out[b].astype(int), axis=0).max() == 0)
    assert 1 <= greys <= 15


def test_occlusion_is_one_rectangle_of_one_colour() -> None:
    images = faces(60, 56, 56)
    out = augment(images, keys(60), only("occlusion"))
    areas = []
    for before, after in zip(images, out, strict=True):
        changed = (before != after).any(dim=0).numpy()
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        box = after[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert all(len(torch.unique(box[c])) == 1 for c in range(3))
        areas.append(box[0].numel() / 56**2)
    assert min(areas) > 0.01
    assert max(areas) < 0.23
    assert 0.08 < np.mean(areas) < 0.14  # uniform from 0.02 to 0.2


@pytest.mark.parametrize("wrong", [-0.1, 1.5, float("nan")])
def test_what_is_no_probability_is_refused(wrong: float) -> None:
    with pytest.raises(UserError, match=r"expected augmentation blur to be a probability in \[0, 1\]"):
        Augmentation(blur=wrong)


def test_what_is_mirrored_can_be_told_beforehand() -> None:
    images = torch.randint(0, 256, (64, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    for seed, flip in ((0, 0.5), (1, 0.2), (2, 0.0), (3, 1.0)):
        augmentation = Augmentation(flip=flip)
        keys = sample_keys(seed, 5, torch.arange(64) * 3)
        told = flipped(keys, augmentation)
        changed = augment(images, keys, augmentation)
        for image, after, mirrored in zip(images, changed, told.tolist(), strict=True):
            assert torch.equal(after, image.flip(-1) if mirrored else image)
        assert abs(float(told.float().mean()) - flip) < 0.2


def test_what_is_done_beyond_mirroring() -> None:
    assert Augmentation(flip=0.5).beyond_flips() == {}
    assert Augmentation(flip=0.0, crop=0.2, occlusion=1.0).beyond_flips() == {"crop": 0.2, "occlusion": 1.0}
