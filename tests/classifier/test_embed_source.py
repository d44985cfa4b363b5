from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from proxylesskd.classifier import embed_source as module
from proxylesskd.classifier.embed_source import embed_source
from proxylesskd.data.decode import decode
from proxylesskd.data.loader import CorruptLog
from proxylesskd.errors import UserError
from tests.faces import ColourEmbedder, MemorySource


class LongEmbedder(ColourEmbedder):
    """Knows how long its embeddings were."""

    fingerprint = "long-1"

    def measure(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return super().embed(images), images[..., :50].float().mean((1, 2, 3))

    def embed(self, images: Tensor) -> Tensor:
        raise AssertionError(f"these {len(images)} images are to be seen once")


class CountingEmbedder(ColourEmbedder):
    """Counts the images it is shown and may fail after some of them."""

    def __init__(self, fail_after: int = 10**9) -> None:
        self.images = 0
        self.fail_after = fail_after

    def embed(self, images: Tensor) -> Tensor:
        self.images += len(images)
        if self.images > self.fail_after:
            raise KeyboardInterrupt
        return super().embed(images)


def test_both_views_of_every_image_in_memory_and_in_a_folder(tmp_path: Path) -> None:
    source, teacher = MemorySource(3, 3), ColourEmbedder()
    memory = embed_source(teacher, source, batch=4)
    folder = embed_source(teacher, source, batch=4, folder=tmp_path / "deep" / "e")
    for index in range(9):
        image = decode(source.read(index)[0])
        for number, view in enumerate((image, image[:, :, ::-1].copy())):
            expected = teacher.embed(torch.from_numpy(view)[None])[0].numpy()
            np.testing.assert_allclose(memory.views[index, number], expected, atol=1e-3)
    assert np.array_equal(memory.views, folder.views)
    assert memory.views.dtype == folder.views.dtype == np.float16
    assert memory.labels.tolist() == folder.labels.tolist() == source.labels.tolist()
    assert (folder.identities, folder.teacher, folder.fingerprint) == (source.identities, "colours", "colours-1")
    assert isinstance(folder.views, np.memmap)


def test_a_finished_folder_is_used_as_it_is(tmp_path: Path) -> None:
    source, teacher = MemorySource(3, 3), CountingEmbedder()
    first = embed_source(teacher, source, batch=4, folder=tmp_path)
    assert teacher.images == 18
    again = embed_source(teacher, source, batch=4, folder=tmp_path)
    assert teacher.images == 18
    assert np.array_equal(first.views, again.views)
    with pytest.raises(ValueError, match="read-only"):  # nobody spoils what is finished
        again.views[0] = 0


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    source = MemorySource(4, 4)
    expected = embed_source(ColourEmbedder(), source, batch=3)
    with pytest.raises(KeyboardInterrupt):
        embed_source(CountingEmbedder(fail_after=15), source, batch=3, folder=tmp_path)
    # Two of six batches are done; the third had one view.
    assert np.load(tmp_path / "done.npy").tolist() == [1, 1, 0, 0, 0, 0]
    rest = CountingEmbedder()
    found = embed_source(rest, source, batch=3, folder=tmp_path)
    assert rest.images == 2 * (16 - 6)
    assert np.array_equal(found.views, expected.views)
    assert found.labels.tolist() == expected.labels.tolist()


def test_corrupt_images_have_no_label(tmp_path: Path) -> None:
    source, corrupt = MemorySource(3, 4), CorruptLog()
    for index in (0, 4, 5, 6, 7):  # the whole second batch among them
        source.spoil(index)
    found = embed_source(ColourEmbedder(), source, batch=4, folder=tmp_path, corrupt=corrupt)
    assert np.flatnonzero(found.labels < 0).tolist() == sorted(corrupt.entries) == [0, 4, 5, 6, 7]
    assert corrupt.seen == 12
    teacher = CountingEmbedder()
    again = embed_source(teacher, source, batch=4, folder=tmp_path)
    assert teacher.images == 0
    assert again.labels.tolist() == found.labels.tolist()


def test_nothing_but_corrupt_images() -> None:
    source = MemorySource(1, 3)
    for index in range(3):
        source.spoil(index)
    with pytest.raises(UserError, match="expected whole images, found 3 corrupt"):
        embed_source(ColourEmbedder(), source, batch=2)


def test_embeddings_of_others_are_refused(tmp_path: Path) -> None:
    source, folder = MemorySource(2, 2), tmp_path / "e"
    embed_source(ColourEmbedder(), source, folder=folder)
    other = ColourEmbedder()
    other.fingerprint = "colours-2"
    with pytest.raises(UserError, match="teacher_fingerprint = colours-2"):
        embed_source(other, source, folder=folder)
    with pytest.raises(UserError, match="another"):
        embed_source(ColourEmbedder(), MemorySource(2, 3), folder=folder)
    renamed, moved = MemorySource(2, 2), MemorySource(2, 2)
    renamed.identities[1] = "someone else"
    moved.labels = moved.labels[::-1].copy()
    for changed in (renamed, moved):
        with pytest.raises(UserError, match="source ="):
            embed_source(ColourEmbedder(), changed, folder=folder)
    with pytest.raises(UserError, match="batch = 7"):
        embed_source(ColourEmbedder(), source, folder=folder, batch=7)


def test_what_is_no_folder_of_embeddings(tmp_path: Path) -> None:
    source, teacher = MemorySource(2, 2), ColourEmbedder()
    (tmp_path / "file").write_text("hello")
    with pytest.raises(UserError, match="found the file"):
        embed_source(teacher, source, folder=tmp_path / "file")
    with pytest.raises(UserError, match="found other files"):
        embed_source(teacher, source, folder=tmp_path)
    with pytest.raises(UserError, match="batch >= 1, found 0"):
        embed_source(teacher, source, batch=0)
    folder = tmp_path / "e"
    embed_source(teacher, source, folder=folder)
    np.save(folder / "views.npy", np.zeros((4, 2, 3), np.float16))
    with pytest.raises(UserError, match=r"found float16 \(4, 2, 3\)"):
        embed_source(teacher, source, folder=folder)
    (folder / "views.npy").write_bytes(b"hello")
    with pytest.raises(UserError, match="expected embeddings in"):
        embed_source(teacher, source, folder=folder)
    (folder / "embedded.json").write_text(json.dumps([1]))
    with pytest.raises(UserError, match="found other files"):
        embed_source(teacher, source, folder=folder)


def test_a_full_disk_is_seen_before_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 8, 2))  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"GB of room in .* found 0\.0 GB"):
        embed_source(ColourEmbedder(), MemorySource(2, 2), folder=tmp_path / "e")


def test_several_processes_need_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "rank_and_world", lambda: (0, 2))
    with pytest.raises(UserError, match="folder that all 2 processes see"):
        embed_source(ColourEmbedder(), MemorySource(2, 2))


def test_lengths_are_kept_beside_the_embeddings(tmp_path: Path) -> None:
    source = MemorySource(3, 3)
    memory = embed_source(LongEmbedder(), source, batch=4)
    folder = embed_source(LongEmbedder(), source, batch=4, folder=tmp_path)
    assert memory.norms is not None
    assert folder.norms is not None
    for index in range(9):
        image = decode(source.read(index)[0])
        expected = [image[:, :, :50].mean(dtype=np.float64), image[:, :, ::-1][:, :, :50].mean(dtype=np.float64)]
        np.testing.assert_allclose(memory.norms[index], expected, rtol=1e-6)
    assert np.array_equal(memory.norms, folder.norms)
    assert memory.norms.dtype == folder.norms.dtype == np.float32
    again = embed_source(LongEmbedder(), source, batch=4, folder=tmp_path)
    assert np.array_equal(again.norms, folder.norms)
    assert embed_source(ColourEmbedder(), source).norms is None


def test_folders_from_before_there_were_lengths_still_serve(tmp_path: Path) -> None:
    source = MemorySource(3, 3)
    first = embed_source(LongEmbedder(), source, folder=tmp_path)
    header = json.loads((tmp_path / "embedded.json").read_text())
    for key in ("content", "norms"):
        header.pop(key)
    (tmp_path / "embedded.json").write_text(json.dumps({**header, "format": 1}))
    (tmp_path / "norms.npy").unlink()
    found = embed_source(LongEmbedder(), source, folder=tmp_path)
    assert found.norms is None
    assert np.array_equal(found.views, first.views)
    np.save(tmp_path / "done.npy", np.zeros(1, np.uint8))  # as if it had been interrupted
    assert np.array_equal(embed_source(LongEmbedder(), source, folder=tmp_path).views, first.views)
    (tmp_path / "embedded.json").write_text(json.dumps({**header, "format": 3}))
    with pytest.raises(UserError, match=r"format = 2 .*found 3"):
        embed_source(LongEmbedder(), source, folder=tmp_path)


def test_faces_of_the_same_names_with_other_pixels_are_other_faces(tmp_path: Path) -> None:
    source, other = MemorySource(2, 2), MemorySource(2, 2)
    other.spoil(3)
    embed_source(ColourEmbedder(), source, folder=tmp_path)
    with pytest.raises(UserError, match="content ="):
        embed_source(ColourEmbedder(), other, folder=tmp_path)


def test_a_teacher_may_be_renamed(tmp_path: Path) -> None:
    source, teacher = MemorySource(2, 2), CountingEmbedder()
    embed_source(ColourEmbedder(), source, folder=tmp_path)
    teacher.name = "colours of another name"
    assert embed_source(teacher, source, folder=tmp_path).teacher == "colours of another name"
    assert teacher.images == 0


def test_runs_share_a_folder_for_each_teacher_and_faces(tmp_path: Path) -> None:
    source, renamed = MemorySource(2, 2), CountingEmbedder()
    renamed.name = "another name"
    first = embed_source(ColourEmbedder(), source, shared=tmp_path)
    again = embed_source(renamed, source, shared=tmp_path)
    assert renamed.images == 0
    assert np.array_equal(first.views, again.views)
    assert len(list(tmp_path.iterdir())) == 1
    embed_source(ColourEmbedder(), MemorySource(2, 3), shared=tmp_path)
    embed_source(LongEmbedder(), source, shared=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    embed_source(ColourEmbedder(), source, folder=tmp_path.parent / "own", shared=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3  # a folder that is given comes first
