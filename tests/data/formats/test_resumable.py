"""Writing that a kill does not undo, with a format of one text file."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from proxylesskd.data.formats import resumable
from proxylesskd.data.formats.resumable import JOURNAL, Ints, Item, Point, check_free, fingerprint, write_set
from proxylesskd.data.formats.written import Written
from proxylesskd.errors import CorruptImageError, UserError
from tests.faces import MemorySource


class Killed(Exception):
    """Stands for the end of the process: nobody catches it."""


class Faces(MemorySource):
    """Faces that can be unreadable, and kill who reads too many."""

    def __init__(self, identities: int, images: int, corrupt: tuple[int, ...] = (), reads: int = 10**6) -> None:
        super().__init__(identities, images)
        self.corrupt, self.reads = corrupt, reads

    def read(self, index: int) -> tuple[bytes, int]:
        if self.reads == 0:
            raise Killed
        self.reads -= 1
        if index in self.corrupt:
            raise CorruptImageError("expected a whole one")
        return super().read(index)


class Lines:
    """One line an image, in a file; the mark is its size."""

    def __init__(self, folder: Path, point: Point) -> None:
        self.file = (folder / "lines").open("ab")
        self.file.truncate(point.marks[0] if point.marks else 0)
        self.begun = point.done

    def add(self, item: Item) -> None:
        digest = hashlib.sha256(item.data).hexdigest()[:8]
        self.file.write(f"{item.place} {item.key} {item.label} {digest}\n".encode())

    def settle(self) -> list[int]:
        self.file.flush()
        return [os.fstat(self.file.fileno()).st_size]

    def finish(self, labels: Ints) -> None:
        self.file.write(f"end {labels.tolist()}\n".encode())

    def close(self) -> None:
        self.file.close()


def expected(source: MemorySource, corrupt: tuple[int, ...] = ()) -> str:
    """What the file should hold, by a plain loop."""
    lines, labels, key = [], [], 0
    order = [
        i for label in sorted(set(source.labels.tolist())) for i in range(len(source)) if source.labels[i] == label
    ]
    for place, index in enumerate(order):
        if index in corrupt:
            continue
        digest = hashlib.sha256(MemorySource.read(source, index)[0]).hexdigest()[:8]
        lines.append(f"{place} {key} {source.labels[index]} {digest}")
        labels.append(int(source.labels[index]))
        key += 1
    return "\n".join([*lines, f"end {labels}"]) + "\n"


def shuffled(source: Faces) -> Faces:
    order = np.random.default_rng(1).permutation(len(source))
    source.labels = source.labels[order]
    source._data = [source._data[i] for i in order]
    return source


def test_images_come_by_label_and_corrupt_ones_are_told(tmp_path: Path) -> None:
    source = shuffled(Faces(3, 4, corrupt=(2, 7)))
    told: list[tuple[int, int]] = []
    written = write_set(source, tmp_path / "out", Lines, progress=lambda done, total: told.append((done, total)))
    assert written == Written(10, {i: f"image {i}: expected a whole one" for i in written.skipped})
    assert set(written.skipped) == {2, 7}
    assert (tmp_path / "out" / "lines").read_text() == expected(source, (2, 7))
    assert told == [(i + 1, 12) for i in range(12)]
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "lines"]


@pytest.mark.parametrize("every", [1, 3, 100])
@pytest.mark.parametrize("reads", [0, 1, 5, 11])
def test_killed_anywhere_the_next_run_makes_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int, reads: int
) -> None:
    monkeypatch.setattr(resumable, "EVERY", every)
    monkeypatch.setattr(resumable, "PROBED", 2)
    corrupt = (1, 5)
    begun: list[int] = []

    def opened(folder: Path, point: Point) -> Lines:
        begun.append(point.done)
        return Lines(folder, point)

    with pytest.raises(Killed):
        write_set(shuffled(Faces(3, 4, corrupt, reads=2 + reads)), tmp_path / "out", opened)
    assert not (tmp_path / "out").exists()
    source = shuffled(Faces(3, 4, corrupt))
    assert set(write_set(source, tmp_path / "out", opened).skipped) == set(corrupt)
    assert begun == [0, reads // every * every]
    assert (tmp_path / "out" / "lines").read_text() == expected(source, corrupt)


def test_killed_while_it_completes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Faces(2, 2)
    monkeypatch.setattr(resumable, "EVERY", 2)

    def killed(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(Killed):
        write_set(source, tmp_path / "out", Lines)
    monkeypatch.undo()
    write_set(source, tmp_path / "out", Lines)
    assert (tmp_path / "out" / "lines").read_text() == expected(source)


def begin(tmp_path: Path, source: Faces, settings: str = "") -> None:
    source.reads = resumable.PROBED + 1
    with pytest.raises(Killed):
        write_set(source, tmp_path / "out", Lines, settings=settings)
    source.reads = 10**6


@pytest.mark.parametrize("change", ["labels", "names", "bytes", "settings"])
def test_another_source_does_not_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    monkeypatch.setattr(resumable, "PROBED", 4)
    source = Faces(2, 3)
    begin(tmp_path, source)
    if change == "labels":
        source.labels = source.labels[::-1].copy()
    elif change == "names":
        source.identities[1] = "x"
    elif change == "bytes":
        source.spoil(0)
    with pytest.raises(UserError, match="those of another source or other settings"):
        write_set(source, tmp_path / "out", Lines, settings="x" if change == "settings" else "")


@pytest.mark.parametrize(
    "journal",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 90_000,
        b'{"done": "a", "skipped": {}, "marks": [], "source": ""}',
        b'{"done": 1, "skipped": {"a": 1}, "marks": []}',
        b'{"done": -1, "skipped": {}, "marks": []}',
        b'{"done": 1, "skipped": {}, "marks": [], "source": "another"}',
    ],
)
def test_a_broken_journal_is_refused(tmp_path: Path, journal: bytes) -> None:
    part = tmp_path / "out.part"
    part.mkdir()
    (part / JOURNAL).write_bytes(journal)
    with pytest.raises(UserError, match=r"expected (a journal|the beginnings)"):
        write_set(Faces(1, 2), tmp_path / "out", Lines)


def test_what_stands_there_stays(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_bytes(b"mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "other.part").mkdir()
    (tmp_path / "other.part" / "mine").write_bytes(b"mine")
    for name, found in (("file", "a file"), ("full", "not empty"), ("link", "a file"), ("other", "not empty")):
        with pytest.raises(UserError, match=f"expected nothing yet .*{found}"):
            write_set(Faces(1, 1), tmp_path / name, Lines)
    assert (tmp_path / "full" / "mine").read_bytes() == b"mine"
    (tmp_path / "empty").mkdir()
    check_free(tmp_path / "empty")
    assert write_set(Faces(1, 1), tmp_path / "empty", Lines).images == 1


def test_names_that_are_none(tmp_path: Path) -> None:
    for names in (["a", "a"], ["a", ""], ["a", "\ud800"]):
        source = Faces(2, 1)
        source.identities = names
        with pytest.raises(UserError, match=r"expected (a name of its own|names of identities in Unicode)"):
            write_set(source, tmp_path / "out", Lines)


def test_a_source_of_corrupt_images_alone(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found 2 that cannot be read"):
        write_set(Faces(1, 2, corrupt=(0, 1)), tmp_path / "out", Lines)


def test_two_processes_do_not_write_one_set(tmp_path: Path) -> None:
    def second(_folder: Path, _point: Point) -> Lines:
        write_set(Faces(1, 2), tmp_path / "out", Lines)
        raise AssertionError("both wrote")

    with pytest.raises(UserError, match="found another process writing there"):
        write_set(Faces(1, 2), tmp_path / "out", second)


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    def full(_folder: Path, _point: Point) -> Lines:
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="No space left on device; mend it and run again"):
        write_set(Faces(1, 2), tmp_path / "out", full)


def test_the_journal_is_plain_text(tmp_path: Path) -> None:
    source = Faces(2, 40)
    begin(tmp_path, source)
    told = json.loads((tmp_path / "out.part" / JOURNAL).read_text())
    assert told == {"source": fingerprint(source), "done": 0, "skipped": {}, "marks": []}
