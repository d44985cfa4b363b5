"""InsightFace's training sets, against files written by hand."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxylesskd.data.formats import recordio
from proxylesskd.data.formats.folder import FolderSource
from proxylesskd.data.formats.record_file import pack
from proxylesskd.data.formats.recordio import RecordSource, write_record
from proxylesskd.data.formats.stored_index import store_index
from proxylesskd.data.source import open_source
from proxylesskd.errors import CorruptImageError, UserError
from tests.faces import write_faces

MAGIC = 0xCED7230A


def record(labels: list[float], image: bytes, always_list: bool = False) -> bytes:
    if len(labels) == 1 and not always_list:
        body = struct.pack("<IfQQ", 0, labels[0], 0, 0) + image
    else:
        body = struct.pack("<IfQQ", len(labels), 0, 0, 0) + struct.pack(f"<{len(labels)}f", *labels) + image
    return struct.pack("<II", MAGIC, len(body)) + body + b"\0" * (-len(body) % 4)


def write(root: Path, records: list[bytes], keys: list[int] | None = None, text: str = "") -> Path:
    """Write train.rec and train.idx (and property) as MXNet's writer does."""
    root.mkdir(exist_ok=True)
    lines, at = [], 0
    for key, data in zip(keys or range(len(records)), records, strict=True):
        lines.append(f"{key}\t{at}\n")
        at += len(data)
    (root / "train.rec").write_bytes(b"".join(records))
    (root / "train.idx").write_text("".join(lines))
    if text:
        (root / "property").write_text(text)
    return root


def insightface(spans: list[tuple[int, int]], labels: list[float], images: list[bytes]) -> list[bytes]:
    count = len(images)
    header = record([count + 1, count + 1 + len(spans)], b"")
    faces = [record([label], image) for label, image in zip(labels, images, strict=True)]
    return [header, *faces, *(record([a, b], b"") for a, b in spans)]


IMAGES = [b"one", b"two!", b"three", b"four", b"five"]
SET = insightface([(1, 3), (3, 6)], [4, 4, 10, 10, 10], IMAGES)


def test_a_set_as_insightface_writes_it(tmp_path: Path) -> None:
    source = open_source(f"rec:{write(tmp_path / 's', SET, text='11,112,112')}")
    assert len(source) == 5
    assert list(source.identities) == ["4", "10"]
    assert source.labels.tolist() == [0, 0, 1, 1, 1]
    assert source.labels.dtype == np.int64
    assert [source.read(i) for i in range(5)] == list(zip(IMAGES, [0, 0, 1, 1, 1], strict=True))
    assert source.name(2) == "record 3"
    assert isinstance(open_source(str(tmp_path / "s")), RecordSource)


def test_images_are_not_touched_to_learn_the_labels(tmp_path: Path) -> None:
    labels = [float(i // 50) for i in range(200)]
    spans = [(1 + 50 * i, 51 + 50 * i) for i in range(4)]
    records = insightface(spans, labels, [b"image"] * 200)
    for middle in (20, 77, 130):  # neither first nor last of its identity: whatever stands there is read later
        records[middle] = b"\xee" * len(records[middle])
    source = RecordSource(write(tmp_path / "s", records))
    assert source.labels.tolist() == [int(label) for label in labels]
    with pytest.raises(CorruptImageError, match="no RecordIO magic"):
        source.read(19)


def test_a_label_that_contradicts_its_identity_record(tmp_path: Path) -> None:
    records = insightface([(1, 4), (4, 6)], [4, 9, 4, 10, 10], IMAGES)
    source = RecordSource(write(tmp_path / "s", records))
    with pytest.raises(CorruptImageError, match=r"label 9\.0 instead of 4"):
        source.read(1)


@pytest.mark.parametrize(
    "spans",
    [
        [(1, 3), (4, 6)],  # a gap
        [(1, 4), (3, 6)],  # an overlap
        [(1, 6), (6, 6)],  # one span with two labels
        [(1, 3), (3, 5)],  # short
        [(1, 2.5), (2.5, 6)],
        [(1, float("nan")), (3, 6)],
        [(-5, 3), (3, 6)],
    ],
)
def test_identity_records_that_do_not_fit_are_not_believed(tmp_path: Path, spans: list[tuple[int, int]]) -> None:
    source = RecordSource(write(tmp_path / "s", insightface(spans, [4, 4, 10, 10, 10], IMAGES)))
    assert source.labels.tolist() == [0, 0, 1, 1, 1]
    assert source.read(4) == (b"five", 1)


def test_empty_identities_and_spans_in_any_order(tmp_path: Path) -> None:
    records = insightface([(3, 6), (3, 3), (1, 3)], [4, 4, 10, 10, 10], IMAGES)
    assert RecordSource(write(tmp_path / "s", records)).labels.tolist() == [0, 0, 1, 1, 1]


def test_a_shuffled_set_without_a_header(tmp_path: Path) -> None:
    records = [record([label], image) for label, image in zip([2, 0, 2, 5, 0], IMAGES, strict=True)]
    source = RecordSource(write(tmp_path / "s", records))
    assert source.identities == ["0", "2", "5"]
    assert source.labels.tolist() == [1, 0, 1, 2, 0]
    assert source.read(0) == (b"one", 1)
    assert source.name(0) == "record 0"


def test_labels_in_a_list_and_keys_out_of_order(tmp_path: Path) -> None:
    records = [record([3, 0.5], b"b"), record([1, 0.5], b"a"), record([3], b"c", always_list=True)]
    source = RecordSource(write(tmp_path / "s", records, keys=[20, 10, 30]))
    assert source.labels.tolist() == [0, 1, 1]
    assert [source.read(i)[0] for i in range(3)] == [b"a", b"b", b"c"]


def test_round_trip_of_a_folder(tmp_path: Path) -> None:
    source = FolderSource(write_faces(tmp_path / "faces", 5, 3))
    write_record(source, tmp_path / "out")
    back = RecordSource(tmp_path / "out")
    assert back.labels.tolist() == source.labels.tolist()
    assert [back.read(i) for i in range(15)] == [source.read(i) for i in range(15)]
    assert back.identities == ["0", "1", "2", "3", "4"]
    assert (tmp_path / "out/property").read_text().strip() == "5,112,112"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["property", "train.idx", "train.rec"]


def test_what_is_written_is_what_insightface_reads(tmp_path: Path) -> None:
    """Follow InsightFace's own steps: header, image keys, identity spans, by struct alone."""
    write_record(FolderSource(write_faces(tmp_path / "faces", 3, 2)), tmp_path / "out")
    data = (tmp_path / "out/train.rec").read_bytes()
    offset = dict(tuple(map(int, line.split())) for line in (tmp_path / "out/train.idx").read_text().splitlines())

    def labels(key: int) -> tuple[float, ...]:
        flag, label, number, _ = struct.unpack_from("<IfQQ", data, offset[key] + 8)
        assert number == key
        return struct.unpack_from(f"<{flag}f", data, offset[key] + 32) if flag else (label,)

    assert labels(0) == (7, 10)
    assert [labels(k) for k in range(1, 7)] == [(0,), (0,), (1,), (1,), (2,), (2,)]
    assert [labels(k) for k in range(7, 10)] == [(1, 3), (3, 5), (5, 7)]


def test_a_source_in_disorder_is_written_identity_by_identity(tmp_path: Path) -> None:
    records = [record([label], image) for label, image in zip([2, 0, 2, 5, 0], IMAGES, strict=True)]
    write_record(RecordSource(write(tmp_path / "s", records)), tmp_path / "out")
    back = RecordSource(tmp_path / "out")
    assert back.labels.tolist() == [0, 0, 1, 1, 2]
    assert [back.read(i)[0] for i in range(5)] == [b"two!", b"five", b"one", b"three", b"four"]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    source = FolderSource(write_faces(tmp_path / "faces", 1, 1))
    write_record(source, tmp_path / "out")
    with pytest.raises(UserError, match="expected nothing yet"):
        write_record(source, tmp_path / "out")


def test_more_than_float_labels_can_count_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordio, "EXACT", 5)
    with pytest.raises(UserError, match="expected at most 5 images and identities, found 6; split"):
        write_record(FolderSource(write_faces(tmp_path / "faces", 2, 2)), tmp_path / "out")


def test_beyond_exact_floats_every_header_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write(tmp_path / "s", [*SET[:4], b"\xee" * len(SET[4]), *SET[5:]])  # inside an identity
    assert RecordSource(root).labels.tolist() == [0, 0, 1, 1, 1]
    monkeypatch.setattr(recordio, "EXACT", 5)
    with pytest.raises(UserError, match="no RecordIO magic"):
        RecordSource(root)
    assert RecordSource(write(tmp_path / "t", SET)).labels.tolist() == [0, 0, 1, 1, 1]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    root = write(tmp_path / "s", SET)
    (root / "train.rec").unlink()
    with pytest.raises(UserError, match=r"found no train\.rec"):
        RecordSource(root)


@pytest.mark.parametrize("keep", [10, 100, -20])
def test_a_truncated_set_is_located(tmp_path: Path, keep: int) -> None:
    root = write(tmp_path / "s", SET)
    data = (root / "train.rec").read_bytes()
    (root / "train.rec").write_bytes(data[:keep])
    with pytest.raises(UserError, match=r"train\.rec' at byte \d+, found .*end of the file"):
        RecordSource(root)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "columns or no lines"),
        ("1 2 3\n", "3 columns"),
        ("a\tb\n", "found others"),
        ("1\t0\n2\n", "found others"),
        ("1\t99999999999999999999999\n", "found others"),
        ("1\t0\n1\t40\n", "one twice"),
        ("\xff\xfe", "found others"),
    ],
)
def test_a_broken_index_is_refused(tmp_path: Path, text: str, found: str) -> None:
    root = write(tmp_path / "s", SET)
    (root / "train.idx").write_bytes(text.encode("latin1"))
    with pytest.raises(UserError, match=found):
        RecordSource(root)


def test_a_huge_index_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write(tmp_path / "s", SET)
    monkeypatch.setattr(recordio, "MAX_INDEX_BYTES", 10)
    with pytest.raises(UserError, match="below 2 GiB"):
        RecordSource(root)


@pytest.mark.parametrize("label", [-1.0, 0.5, float("nan"), float("inf"), 3e9])
def test_labels_that_are_no_identity_numbers(tmp_path: Path, label: float) -> None:
    with pytest.raises(UserError, match="expected identity numbers as labels"):
        RecordSource(write(tmp_path / "s", [record([0], b"a"), record([label], b"b")]))


def test_a_set_without_images(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected images"):
        RecordSource(write(tmp_path / "s", [record([1, 2], b"")]))


@pytest.mark.parametrize(("text", "found"), [("1,112,112", "at most 1 identities"), ("what", "found 'what'")])
def test_a_property_that_contradicts(tmp_path: Path, text: str, found: str) -> None:
    with pytest.raises(UserError, match=found):
        RecordSource(write(tmp_path / "s", SET, text=text))


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_damaged_sets_raise_nothing_else(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    root = write(tmp_path_factory.mktemp("fuzz"), SET, text="11,112,112")
    name = data.draw(st.sampled_from(["train.rec", "train.rec", "train.idx"]))
    content = bytearray((root / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (root / name).write_bytes(
        content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    )
    try:
        source = RecordSource(root)
        found = [source.read(i) for i in range(len(source))]
    except UserError:
        return
    assert all(0 <= label < len(source.identities) for _, label in found)


def test_a_set_without_an_index(tmp_path: Path) -> None:
    root = write(tmp_path / "s", SET, text="11,112,112")
    (root / "train.idx").unlink()
    for _ in range(2):  # walked through, then from what is kept
        source = RecordSource(root)
        assert list(source.identities) == ["4", "10"]
        assert [source.read(i) for i in range(5)] == list(zip(IMAGES, [0, 0, 1, 1, 1], strict=True))
        assert source.name(2) == "record 3"


def test_where_the_records_lie_is_kept_and_found_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write(tmp_path / "s", SET)
    (root / "train.idx").unlink()
    RecordSource(root)
    monkeypatch.setattr(recordio.RecordFile, "scan", lambda _: pytest.fail("walked again"))
    assert len(RecordSource(root)) == 5
    kept = next(root.glob(".proxylesskd-index-*"))
    store_index([root / "train.rec"], {"keys": np.arange(2), "offsets": np.array([-8, 0]), "numbers": np.zeros(2)})
    monkeypatch.undo()
    assert len(RecordSource(root)) == 5  # an offset before the file is no offset
    store_index([root / "train.rec"], {"keys": np.arange(2)})
    assert len(RecordSource(root)) == 5
    kept.write_bytes(b"\xff" * 50)
    assert len(RecordSource(root)) == 5


def test_shuffled_for_dali_without_an_index(tmp_path: Path) -> None:
    """Images alone, their labels as lists, keys in any order."""
    labels = [[2, 0.5], [0, 1], [2, 0], [5, 1], [0, 0]]
    records = [record(label, image) for label, image in zip(labels, IMAGES, strict=True)]
    root = write(tmp_path / "s", records, keys=[3, 5, 1, 4, 2])
    by_key = RecordSource(root)
    assert [by_key.name(i) for i in range(5)] == [f"record {k}" for k in (1, 2, 3, 4, 5)]
    assert [by_key.read(i)[0] for i in range(5)] == [IMAGES[i] for i in (2, 4, 0, 3, 1)]
    (root / "train.idx").unlink()
    by_place = RecordSource(root)
    assert by_place.identities == by_key.identities == ["0", "2", "5"]
    assert [by_place.read(i) for i in range(5)] == list(zip(IMAGES, [1, 0, 1, 2, 0], strict=True))


def test_records_in_parts_without_an_index(tmp_path: Path) -> None:
    images = [b"abcd" + struct.pack("<I", MAGIC) + b"efgh", b"plain", struct.pack("<I", MAGIC) * 3]
    (tmp_path / "any.rec").write_bytes(b"".join(pack([float(i)], i, image) for i, image in enumerate(images)))
    source = RecordSource(tmp_path / "any.rec")
    assert [source.read(i)[0] for i in range(3)] == images


def test_any_file_and_a_folder_with_one(tmp_path: Path) -> None:
    root = write(tmp_path / "s", SET)
    (root / "train.rec").rename(root / "faces.rec")
    (root / "train.idx").rename(root / "faces.idx")
    for uri in (f"rec:{root}", f"rec:{root / 'faces.rec'}", str(root), str(root / "faces.rec")):
        assert open_source(uri).read(3) == (b"four", 1)
    (root / "more.rec").write_bytes(b"")
    with pytest.raises(UserError, match=r"found 2 others; name one: rec:.*faces\.rec"):
        RecordSource(root)
    with pytest.raises(UserError, match=r"expected images in .* found none"):
        RecordSource(root / "more.rec")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (record([0], b"one")[:-4], "the end of the file"),
        (record([0], b"one") + b"\x0a", "the end of the file"),
        (record([0], b"one") + bytes(64), "no RecordIO magic"),
        (struct.pack("<II", MAGIC, 2 << 29 | 4) + b"abcd", "a part of kind 2"),
        (struct.pack("<II", MAGIC, 7 << 29 | 4) + b"abcd", "a part of kind 7"),
        (struct.pack("<II", MAGIC, 1 << 29 | 4) + b"abcd" + record([0], b"one"), "a part of kind 0"),
        (struct.pack("<II", MAGIC, 1 << 29 | 28) + bytes(28), "before its last part"),
        (struct.pack("<II", MAGIC, (1 << 29) - 1) + bytes(64), "the end of the file"),
        (struct.pack("<II", MAGIC, 0), "the end of the file"),
    ],
)
def test_damaged_sets_without_an_index_are_located(tmp_path: Path, data: bytes, found: str) -> None:
    (tmp_path / "train.rec").write_bytes(data)
    with pytest.raises(UserError, match=rf"at byte \d+, found .*{found}"):
        RecordSource(tmp_path)


def test_other_processes_read_the_same(tmp_path: Path) -> None:
    source = RecordSource(write(tmp_path / "s", SET))
    again = pickle.loads(pickle.dumps(source))
    assert [again.read(i) for i in range(5)] == [source.read(i) for i in range(5)]


def test_corrupt_images_leave_a_sound_set(tmp_path: Path) -> None:
    records = insightface([(1, 3), (3, 6)], [4, 4, 10, 10, 10], IMAGES)
    records[4] = b"\xee" * len(records[4])
    written = write_record(RecordSource(write(tmp_path / "s", records)), tmp_path / "out")
    assert written.images == 4
    assert list(written.skipped) == [3]
    back = RecordSource(tmp_path / "out")
    assert [back.read(i)[0] for i in range(4)] == [b"one", b"two!", b"three", b"five"]
    (tmp_path / "out" / "train.idx").unlink()
    assert RecordSource(tmp_path / "out").labels.tolist() == back.labels.tolist() == [0, 0, 1, 1]
