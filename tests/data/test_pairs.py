"""Verification sets, read from files laid out by hand and judged by Pillow, pickle and scikit-learn."""

from __future__ import annotations

import io
import os
import pickle
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from sklearn.model_selection import KFold

from proxylesskd.data import pairs as module
from proxylesskd.data.formats.folder import FolderSource
from proxylesskd.data.pairs import Pairs, even_folds, make_pairs, read_pairs, write_bin, write_pairs_csv
from proxylesskd.errors import UserError
from tests.faces import face, jpeg, write_faces


def pixels(data: bytes) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).transpose(2, 0, 1)


def close(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> bool:
    return bool(np.abs(a.astype(int) - b.astype(int)).max() <= 2)


def lfw(root: Path, form: str = "JPEG") -> Path:
    for who, name in enumerate(["Ann_A", "Bob", "Cy"]):
        (root / name).mkdir(parents=True)
        for number in (1, 2):
            suffix = {"JPEG": "jpg", "PNG": "png"}[form]
            Image.fromarray(face(who, number)).save(root / name / f"{name}_{number:04d}.{suffix}", form)
    return root


LIST = "2\t1\nAnn_A\t1\t2\nAnn_A\t1\tBob\t2\nBob\t2\t1\nCy\t1\tBob\t1\n"


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("text", [LIST, LIST.replace("\t", " "), LIST + "\n"])
def test_lfw_list(tmp_path: Path, form: str, text: str) -> None:
    root = lfw(tmp_path / "images", form)
    (tmp_path / "pairs.txt").write_text(text)
    found = read_pairs(tmp_path / "pairs.txt", root)
    suffix = ".jpg" if form == "JPEG" else ".png"
    stems = ["Ann_A/Ann_A_0001", "Ann_A/Ann_A_0002", "Bob/Bob_0002", "Bob/Bob_0001", "Cy/Cy_0001"]
    assert found.name == "pairs"
    assert found.image_names == [stem + suffix for stem in stems]
    assert found.first.tolist() == [0, 0, 2, 4]
    assert found.second.tolist() == [1, 2, 3, 3]
    assert found.same.tolist() == [True, False, True, False]
    assert found.fold.tolist() == [0, 0, 1, 1]
    assert found.identities is not None
    assert found.identities.tolist() == [0, 0, 1, 1, 2]
    assert found.images.dtype == np.uint8
    for image, name in zip(found.images, found.image_names, strict=True):
        assert close(image, pixels((root / name).read_bytes()))
    assert len(found) == 4


def test_the_list_stands_beside_its_images_by_default(tmp_path: Path) -> None:
    lfw(tmp_path)
    (tmp_path / "pairs.txt").write_text("1\nAnn_A 1 2\nAnn_A 1 Bob 2\n")
    assert read_pairs(tmp_path / "pairs.txt").fold.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "first line, found ''"),
        ("ten 300\n", "first line, found 'ten 300'"),
        ("0 0\n", "first line"),
        ("1 2\nAnn_A 1 2\n", "1 x 2 x 2 pairs as the first line says, found 1"),
        ("1 1\nAnn_A 1 2\nAnn_A 1 Bob two\n", "line 3, found 'Bob two'"),
        ("1 1\nAnn_A 1 2\n../secret 1 Bob 2\n", "line 3, found '../secret 1'"),
        ("1 1\nAnn_A 1 2\nAnn_A 1\n", "line 3, found 'Ann_A 1'"),
        ("1 1\nAnn_A 1 9\nAnn_A 1 Bob 8\n", "2 of 3 missing, first 'Ann_A/Ann_A_0009.jpg'"),
        ("\0\xff", "as UTF-8"),
        ("first,second\na,b\n", "line 2, found 'a,b,,'"),
        ("first,second,same\na,b,maybe\n", "line 2, found 'a,b,maybe,'"),
        ("first,second,same,fold\na,b,1,x\n", "line 2"),
        ("first,second,same\n", "expected pairs in"),
        ("first,second,same\n" + "a" * 200_000 + ",b,1\n", "field larger"),
    ],
)
def test_broken_lists_are_explained(tmp_path: Path, text: str, message: str) -> None:
    lfw(tmp_path)
    (tmp_path / "list.txt").write_bytes(text.encode("latin1"))
    with pytest.raises(UserError, match=message) as caught:
        read_pairs(tmp_path / "list.txt")
    assert "\n" not in str(caught.value)


def test_csv(tmp_path: Path) -> None:
    lfw(tmp_path)
    rows = "Ann_A/Ann_A_0001.jpg,Ann_A/Ann_A_0002.jpg,yes,3\nAnn_A/Ann_A_0001.jpg,Cy/Cy_0001.jpg,False,5\n"
    (tmp_path / "list.csv").write_text("\ufefffirst,second,same,fold\n" + rows, encoding="utf-8")
    found = read_pairs(tmp_path / "list.csv")
    assert found.same.tolist() == [True, False]
    assert found.fold.tolist() == [3, 5]
    assert found.identities is not None
    assert found.identities.tolist() == [0, 0, 1]
    assert len(found.images) == 3


def test_identities_are_unknown_where_folders_do_not_tell(tmp_path: Path) -> None:
    lfw(tmp_path)
    (tmp_path / "list.csv").write_text("first,second,same\nAnn_A/Ann_A_0001.jpg,Cy/Cy_0001.jpg,1\n")
    found = read_pairs(tmp_path / "list.csv")
    assert found.identities is None
    assert found.fold.tolist() == [0]


@pytest.mark.parametrize("count", [3, 10, 25, 6000])
def test_folds_are_those_of_scikit_learn(count: int) -> None:
    expected = np.empty(count, dtype=np.int64)
    for fold, (_, test) in enumerate(KFold(min(10, count), shuffle=False).split(np.zeros(count))):
        expected[test] = fold
    np.testing.assert_array_equal(even_folds(count), expected)


def test_each_image_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, three = (jpeg(face(i, 0)) for i in range(3))
    # Equal bytes in different objects, as a file has that was not written with memory of the same image.
    images = [one, two, bytes(bytearray(one)), three, bytes(bytearray(two)), bytes(bytearray(two))]
    (tmp_path / "set.bin").write_bytes(pickle.dumps((images, [False, False, True]), protocol=2))
    calls = []
    real = module.decode
    monkeypatch.setattr(module, "decode", lambda data, size: (calls.append(data), real(data, size))[1])
    found = read_pairs(tmp_path / "set.bin")
    assert sorted(calls) == sorted([one, two, three])
    assert found.first.tolist() == [0, 0, 1]
    assert found.second.tolist() == [1, 2, 1]
    assert found.identities is None
    assert found.image_names == ["image 0", "image 1", "image 3"]
    assert all(close(found.images[i], pixels(d)) for i, d in enumerate((one, two, three)))


def test_corrupt_images_are_named(tmp_path: Path) -> None:
    whole, broken = jpeg(face(0, 0)), jpeg(face(1, 0))[:-500]
    images = [whole, broken, b"x", whole, b"", b"y"]
    (tmp_path / "set.bin").write_bytes(pickle.dumps((images, [True, True, False])))
    with pytest.raises(UserError, match=r"set\.bin', found 4 corrupt: image 1, image 2, image 4, … \(expected"):
        read_pairs(tmp_path / "set.bin")


def test_too_many_images_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_IMAGES", 1)
    (tmp_path / "set.bin").write_bytes(pickle.dumps(([b"a", b"b"], [True])))
    with pytest.raises(UserError, match="at most 1 different images"):
        read_pairs(tmp_path / "set.bin")


def test_a_huge_list_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LIST_BYTES", 5)
    (tmp_path / "list.txt").write_text(LIST)
    with pytest.raises(UserError, match="found more than"):
        read_pairs(tmp_path / "list.txt")


def test_no_such_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"found no file '.*lfw\.bin'"):
        read_pairs(tmp_path / "lfw.bin")


def faces(tmp_path: Path, identities: int = 12) -> FolderSource:
    return FolderSource(write_faces(tmp_path / "faces", identities, 4))


def test_drawn_pairs_are_the_source_s_images(tmp_path: Path) -> None:
    source = faces(tmp_path)
    drawn = make_pairs(source, genuine=20, impostor=30, folds=4, seed=1)
    assert len(drawn) == 50
    assert drawn.same.sum() == 20
    names = [source.name(i) for i in range(len(source))]
    assert drawn.identities is not None
    for image, name, identity in zip(drawn.images, drawn.image_names, drawn.identities, strict=True):
        index = names.index(name)
        assert source.labels[index] == identity
        assert close(image, pixels(source.read(index)[0]))
    np.testing.assert_array_equal(drawn.identities[drawn.first] == drawn.identities[drawn.second], drawn.same)
    again = make_pairs(source, genuine=20, impostor=30, folds=4, seed=1)
    np.testing.assert_array_equal(drawn.images[drawn.first], again.images[again.first])


def test_corrupt_images_are_never_drawn(tmp_path: Path) -> None:
    source = faces(tmp_path)
    for index in range(0, len(source), 4):
        (source.root / source.name(index)).write_bytes(b"broken")
    drawn = make_pairs(source, genuine=36, impostor=100, folds=1)  # all genuine pairs of what is whole
    assert not any(name.endswith("/000.jpg") for name in drawn.image_names)
    with pytest.raises(UserError, match="found only 36"):
        make_pairs(source, genuine=37, impostor=0, folds=1)


def assert_equal_sets(a: Pairs, b: Pairs) -> None:
    np.testing.assert_array_equal(a.images[a.first], b.images[b.first])
    np.testing.assert_array_equal(a.images[a.second], b.images[b.second])
    np.testing.assert_array_equal(a.same, b.same)
    np.testing.assert_array_equal(a.fold, b.fold)


def test_bin_round_trip_and_what_python_sees_in_it(tmp_path: Path) -> None:
    drawn = make_pairs(faces(tmp_path, 30), genuine=20, impostor=20, seed=2)
    write_bin(drawn, tmp_path / "set.bin")
    assert_equal_sets(read_pairs(tmp_path / "set.bin"), drawn)
    images, same = pickle.loads((tmp_path / "set.bin").read_bytes())
    assert same == drawn.same.tolist()
    assert all(type(x) is bool for x in same)
    np.testing.assert_array_equal(pixels(images[7]), drawn.images[drawn.second[3]])


def test_bin_is_written_fold_by_fold(tmp_path: Path) -> None:
    images = np.stack([face(i, 0).transpose(2, 0, 1) for i in range(4)])
    first, second = np.array([0, 1, 2]), np.array([1, 2, 3])
    given = Pairs("x", images, first, second, np.array([True, False, True]), np.array([1, 0, 1]), None, list("abcd"))
    write_bin(given, tmp_path / "set.bin")
    back = read_pairs(tmp_path / "set.bin")
    assert back.same.tolist() == [False, True, True]
    np.testing.assert_array_equal(back.images[back.first], images[[1, 0, 2]])


@pytest.mark.parametrize("place", [".", "lists", "faces"])
def test_csv_round_trip(tmp_path: Path, place: str) -> None:
    source = faces(tmp_path)
    drawn = make_pairs(source, genuine=20, impostor=20, folds=4, seed=2)
    (tmp_path / place).mkdir(exist_ok=True)
    path = tmp_path / place / "set.csv"
    write_pairs_csv(drawn, path)
    assert_equal_sets(read_pairs(path, source.root), drawn)
    write_pairs_csv(drawn, path, root=source.root)
    back = read_pairs(path)
    assert_equal_sets(back, drawn)
    assert back.identities is not None


@pytest.mark.skipif("PROXYLESSKD_REAL_DATA" not in os.environ, reason="PROXYLESSKD_REAL_DATA names no folder of faces")
def test_lfw_in_a_few_seconds() -> None:
    root = Path(os.environ["PROXYLESSKD_REAL_DATA"])
    start = time.perf_counter()
    found = read_pairs(root / "lfw-pairs.txt", root / "lfw")
    assert time.perf_counter() - start < 30
    assert len(found) == 6000
    assert len(found.images) == 7701
    assert np.bincount(found.fold).tolist() == [600] * 10
    assert found.same.sum() == 3000


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("first,second,same,fold\na.jpg,b.jpg,1,99999999999999999999\n", "99999999999999999999"),
        ("1\nAnn 1 " + "2" * 5000 + "\nAnn 1 Bob 2\n", "Ann"),
        ("9" * 5000 + "\n", "9"),
        ("1\n" + "A" * 400 + " 1 2\nAnn 1 Bob 2\n", "too long"),
    ],
)
def test_numbers_and_names_that_no_machine_takes_are_refused(tmp_path: Path, text: str, found: str) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=found) as caught:
        read_pairs(path)
    assert len(str(caught.value)) < 3000
