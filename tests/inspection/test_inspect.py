"""Inspection of a source, against counts by hand and Pillow's mean."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from proxylesskd.data.formats.folder import FolderSource
from proxylesskd.data.subset import spaced
from proxylesskd.errors import UserError
from proxylesskd.inspection.inspect import inspect_source
from proxylesskd.inspection.sheet import contact_sheet
from tests.faces import face, jpeg, write_faces


def faces(tmp_path: Path) -> FolderSource:
    """Three identities with 2, 2 and 4 images; one image is corrupt, one is larger."""
    root = write_faces(tmp_path / "faces", 3, 2)
    for number in (2, 3):
        (root / f"id-002/{number:03d}.jpg").write_bytes(jpeg(face(2, number)))
    (root / "id-001/001.jpg").write_bytes(b"broken")
    (root / "id-000/000.jpg").write_bytes(jpeg(face(0, 0, size=224)[:, :196]))
    return FolderSource(root)


def test_counts_sizes_and_corrupt(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    found = inspect_source(faces(tmp_path), progress=lambda done, total: calls.append((done, total)))
    assert (found.images, found.identities, found.read) == (8, 3, 8)
    assert found.per_identity == (2, 2.0, 4)
    assert found.histogram == {2: 2, 4: 1}
    assert found.sizes == {(112, 112): 6, (224, 196): 1}
    assert list(found.corrupt) == [3]
    assert found.corrupt[3].startswith("id-001/001.jpg: expected")
    assert calls == [(i, 8) for i in range(1, 9)]
    text = str(found)
    assert "8 of 3 identities" in text
    assert "112x112 (6), 196x224 (1)" in text
    assert "id-001/001.jpg" in text


def test_mean_face(tmp_path: Path) -> None:
    source = FolderSource(write_faces(tmp_path / "faces", 2, 2))
    each = [np.asarray(Image.open(io.BytesIO(source.read(i)[0]))).astype(float) for i in range(4)]
    (source.root / source.name(2)).write_bytes(b"broken")
    del each[2]
    expected = np.mean(each, axis=0).transpose(2, 0, 1)
    found = inspect_source(source).mean_face
    assert found.dtype == np.uint8
    assert np.abs(found - expected).max() <= 1.5


def test_a_sample_is_evenly_spaced(tmp_path: Path) -> None:
    assert spaced(10, None).tolist() == list(range(10))
    assert spaced(10, 20).tolist() == list(range(10))
    assert spaced(10, 3).tolist() == [0, 3, 6]
    assert inspect_source(faces(tmp_path), sample=2).read == 2


def test_nothing_whole(tmp_path: Path) -> None:
    source = faces(tmp_path)
    (source.root / source.name(0)).write_bytes(b"")
    with pytest.raises(UserError, match=r"found 1 corrupt, first id-000/000\.jpg"):
        inspect_source(source, sample=1)


def test_contact_sheet(tmp_path: Path) -> None:
    source = faces(tmp_path)
    contact_sheet(source, tmp_path / "sheet.png", identities=3, images=3)
    with Image.open(tmp_path / "sheet.png") as image:
        sheet = np.asarray(image)
    assert sheet.shape == (3 * 112, 3 * 112, 3)

    def cell(row: int, column: int) -> np.ndarray:
        return sheet[row * 112 : row * 112 + 112, column * 112 : column * 112 + 112].astype(int)

    assert np.abs(cell(0, 1) - np.asarray(Image.open(io.BytesIO(source.read(1)[0])))).max() <= 2
    assert (cell(0, 2) == 255).all()  # the identity has but two
    assert (cell(1, 1)[5, 5] == [255, 0, 0]).all()  # corrupt: a red cross
    assert (cell(1, 1)[5, 50] == 0).all()
    for column, index in enumerate([4, 5, 6]):
        assert np.abs(cell(2, column) - np.asarray(Image.open(io.BytesIO(source.read(index)[0])))).max() <= 2


def test_a_sheet_smaller_than_the_source(tmp_path: Path) -> None:
    contact_sheet(faces(tmp_path), tmp_path / "sheet.png", identities=1, images=1)
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.size == (112, 112)
    with pytest.raises(UserError, match="expected identities and images >= 1"):
        contact_sheet(faces(tmp_path / "again"), tmp_path / "sheet.png", identities=0)
