from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F

from proxylesskd.errors import CorruptImageError, UserError
from proxylesskd.protocols.embedding_cache import cached_embeddings

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 3, 8, 8), dtype=np.uint8)
NAMES = [f"{i}.jpg" for i in range(7)]


class Left:
    """Embeds the left half's pixels, and counts what it saw."""

    dim, name, fingerprint = 12, "left", "left-1"

    def __init__(self) -> None:
        self.seen = 0

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        self.seen += len(images)
        return F.normalize(images[:, :, :2, :2].flatten(1).float() + 1, dim=1)


class Telling(Left):
    fingerprint = "left-2"

    def measure(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        raw = images[:, :, :2, :2].flatten(1).float() + 1
        return self.embed(images), raw.norm(dim=1)


def read(index: int) -> npt.NDArray[np.uint8]:
    return IMAGES[index]


def raw(mirror: bool) -> npt.NDArray[np.float64]:
    images = IMAGES[:, :, :, ::-1] if mirror else IMAGES
    return np.stack([image[:, :2, :2].reshape(-1).astype(float) + 1 for image in images])


def test_both_views_and_norms_are_those_of_each_image() -> None:
    views = cached_embeddings(Telling(), NAMES, read, batch=3)
    assert views.norms is not None
    assert len(views) == 7
    for view in (0, 1):
        expected = raw(bool(view))
        np.testing.assert_allclose(views.norms[:, view], np.sqrt((expected**2).sum(1)), rtol=1e-6)
        np.testing.assert_allclose(views.units[:, view] * views.norms[:, view, None], expected, rtol=1e-5)


def test_fused_is_the_normalised_sum_of_unit_views() -> None:
    views = cached_embeddings(Left(), NAMES, read, batch=4)
    assert views.norms is None
    for i, row in enumerate(views.fused(block=2)):
        total = sum(raw(mirror)[i] / np.sqrt((raw(mirror)[i] ** 2).sum()) for mirror in (False, True))
        np.testing.assert_allclose(row, total / np.sqrt((total**2).sum()), atol=1e-6)


def test_one_view_without_flip() -> None:
    assert cached_embeddings(Left(), NAMES, read, flip=False).units.shape == (7, 1, 12)


def test_a_finished_folder_is_only_read(tmp_path: Path) -> None:
    first, second = Left(), Left()
    made = cached_embeddings(first, NAMES, read, folder=tmp_path, batch=2)
    again = cached_embeddings(second, NAMES, read, folder=tmp_path, batch=5)
    assert (first.seen, second.seen) == (14, 0)
    assert isinstance(again.units, np.memmap)
    assert not again.units.flags.writeable
    np.testing.assert_array_equal(made.units, again.units)


def test_what_was_interrupted_goes_on(tmp_path: Path) -> None:
    def fail_after(done: int, total: int) -> None:
        if done >= 4:
            raise KeyboardInterrupt

    first, second = Telling(), Telling()
    with pytest.raises(KeyboardInterrupt):
        cached_embeddings(first, NAMES, read, folder=tmp_path, batch=2, progress=fail_after)
    told: list[tuple[int, int]] = []
    views = cached_embeddings(
        second, NAMES, read, folder=tmp_path, batch=2, progress=lambda done, total: told.append((done, total))
    )
    assert (first.seen, second.seen) == (8, 6)
    assert told == [(6, 7), (7, 7)]
    np.testing.assert_array_equal(views.units, cached_embeddings(Telling(), NAMES, read).units)


@pytest.mark.parametrize("change", ["names", "depends", "pixels", "flip", "model"])
def test_whatever_changes_the_embeddings_has_a_folder_of_its_own(tmp_path: Path, change: str) -> None:
    cached_embeddings(Left(), NAMES, read, folder=tmp_path)
    embedder = Left()
    if change == "model":
        embedder.fingerprint = "other"
    cached_embeddings(
        embedder,
        [name.upper() for name in NAMES] if change == "names" else NAMES,
        (lambda i: 255 - IMAGES[i]) if change == "pixels" else read,
        folder=tmp_path,
        depends="landmarks" if change == "depends" else "",
        flip=change != "flip",
    )
    assert embedder.seen == (7 if change == "flip" else 14)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_broken_header_is_made_anew_and_a_broken_array_refused(tmp_path: Path) -> None:
    cached_embeddings(Left(), NAMES, read, folder=tmp_path)
    (place,) = tmp_path.iterdir()
    (place / "embeddings.json").write_text("[" * 100_000)
    again = Left()
    cached_embeddings(again, NAMES, read, folder=tmp_path)
    assert again.seen == 14
    (place / "units.npy").write_bytes(b"nothing")
    with pytest.raises(UserError, match="expected embeddings in"):
        cached_embeddings(Left(), NAMES, read, folder=tmp_path)
    np.save(place / "units.npy", np.zeros((7, 2, 11), np.float32))
    with pytest.raises(UserError, match="found float32"):
        cached_embeddings(Left(), NAMES, read, folder=tmp_path)


def test_no_room_is_said_before_an_hour_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        free = 10

    monkeypatch.setattr("shutil.disk_usage", lambda _: Full)
    with pytest.raises(UserError, match="room"):
        cached_embeddings(Left(), NAMES, read, folder=tmp_path)


def test_a_corrupt_image_is_named() -> None:
    def broken(index: int) -> npt.NDArray[np.uint8]:
        if index == 5:
            raise CorruptImageError("expected a whole image")
        return IMAGES[index]

    with pytest.raises(UserError, match=r"'5.jpg' corrupt") as caught:
        cached_embeddings(Left(), NAMES, broken)
    assert not isinstance(caught.value, CorruptImageError)


def test_what_is_no_embedding_is_named() -> None:
    class Diverged(Telling):
        def embed(self, images: torch.Tensor) -> torch.Tensor:
            units = super().embed(images)
            units[1] *= float("nan")
            return units

    with pytest.raises(UserError, match=r"of unit length from left.*'4.jpg'"):
        cached_embeddings(Diverged(), NAMES[3:], lambda i: IMAGES[3 + i])


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"workers": 0}])
def test_batches_and_workers_are_at_least_one(wrong: dict[str, int]) -> None:
    with pytest.raises(UserError, match="batch and workers"):
        cached_embeddings(Left(), NAMES, read, **wrong)  # type: ignore[arg-type]


def test_no_images_are_refused() -> None:
    with pytest.raises(UserError, match="found none"):
        cached_embeddings(Left(), [], read)
