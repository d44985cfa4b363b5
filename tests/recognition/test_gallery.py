"""Galleries: what is kept, what a kill and a rival leave, who may search, and files that somebody else made."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from proxylesskd.errors import UserError
from proxylesskd.evaluation.calibration import Calibration
from proxylesskd.recognition.gallery import Enrolled, Gallery
from proxylesskd.recognition.model import RecognitionModel
from proxylesskd.recognition.thresholds import Scale

DIM = 4


def model_of(identity: str = "m" * 64, **changed: object) -> RecognitionModel:
    scales = {"single": Scale({1e-3: 0.5}, Calibration(3.0, -1.0)), "cross": Scale({1e-3: 0.4})}
    made = RecognitionModel(
        "small", DIM, identity, frozenset({identity, "f" * 64}), {}, scales, lambda faces: np.zeros((len(faces), DIM))
    )
    return replace(made, **changed)  # type: ignore[arg-type]


def photo_of(identity: str, number: int) -> Enrolled:
    embedding = np.random.default_rng(number).standard_normal(DIM).astype(np.float32)
    return Enrolled(identity, f"{identity}/{number}.jpg", f"{number:064d}", embedding / np.linalg.norm(embedding))


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    return Gallery.create(tmp_path / "g.pkd", model_of())


def test_gives_back_what_was_put_in_grouped_by_identity(gallery: Gallery) -> None:
    put = [photo_of("Zoe", 1), photo_of("Ann", 2), photo_of("Zoe", 3), photo_of("Ümit", 4)]
    assert gallery.add(put) == 4
    found = Gallery(gallery.path).entries()
    assert found.identities == ["Ann", "Zoe", "Ümit"]
    assert found.photos == ["Ann/2.jpg", "Zoe/1.jpg", "Zoe/3.jpg", "Ümit/4.jpg"]
    assert found.starts.tolist() == [0, 1, 3, 4]
    np.testing.assert_array_equal(found.embeddings, [put[k].embedding for k in (1, 0, 2, 3)])
    assert gallery.counts() == {"Ann": 1, "Zoe": 2, "Ümit": 1}
    assert gallery.known() == {(one.identity, one.digest) for one in put}


def test_knows_its_maker(gallery: Gallery) -> None:
    maker = Gallery(gallery.path).maker
    assert (maker.name, maker.identity, maker.dim) == ("small", "m" * 64, DIM)
    assert maker.hashes == {"m" * 64, "f" * 64}
    assert maker.scale == Scale({1e-3: 0.5}, Calibration(3.0, -1.0))


def test_a_photo_is_kept_once_an_identity(gallery: Gallery) -> None:
    assert gallery.add([photo_of("Ann", 1)]) == 1
    assert gallery.add([photo_of("Ann", 1), photo_of("Bob", 1)]) == 1
    assert gallery.counts() == {"Ann": 1, "Bob": 1}
    assert gallery.add([]) == 0


def test_entries_are_read_again_only_after_a_change(gallery: Gallery) -> None:
    gallery.add([photo_of("Ann", 1)])
    first = gallery.entries()
    assert gallery.entries() is first
    Gallery(gallery.path).add([photo_of("Bob", 2)])  # by another object, as by another process
    assert gallery.entries().identities == ["Ann", "Bob"]


def test_who_is_removed_is_gone_from_the_file(gallery: Gallery) -> None:
    gallery.add([photo_of("Somebody Unmistakable", 1), photo_of("Ann", 2)])
    raw = photo_of("", 1).embedding.tobytes()
    assert raw in gallery.path.read_bytes()
    assert gallery.remove("Somebody Unmistakable") == 1
    assert gallery.remove("Somebody Unmistakable") == 0
    assert raw not in gallery.path.read_bytes()
    assert b"Unmistakable" not in gallery.path.read_bytes()
    assert gallery.entries().identities == ["Ann"]


def test_all_or_nothing(gallery: Gallery) -> None:
    wrong = replace(photo_of("Bob", 2), embedding=np.zeros(DIM, np.float32))
    with pytest.raises(UserError, match="unit length"):
        gallery.add([photo_of("Ann", 1), wrong])
    with pytest.raises(UserError, match="names of 1 to"):
        gallery.add([photo_of("Ann", 1), photo_of("", 2)])
    assert gallery.counts() == {}


def test_who_may_search_and_enrol(gallery: Gallery) -> None:
    student = model_of("s" * 64, teacher={"name": "small", "sha256": "f" * 64})
    assert gallery.mode_of(model_of()) == "single"
    assert gallery.mode_of(student) == "cross"
    stranger = model_of("x" * 64, teacher={"name": "f" * 64})  # a name is no hash
    with pytest.raises(UserError, match=r"student of it.*--same-space"):
        gallery.mode_of(stranger)
    assert gallery.mode_of(stranger, same_space=True) == "cross"
    for other in (student, stranger, model_of(dim=5)):
        with pytest.raises(UserError, match="only its own model enrolls"):
            Gallery.create(gallery.path, other)


def test_thresholds_are_the_probes_and_else_the_gallerys(gallery: Gallery) -> None:
    assert gallery.scale(model_of(scales={}), "single").at(1e-3) == 0.5
    assert gallery.scale(model_of(scales={"single": Scale({1e-3: 0.6})}), "single").at(1e-3) == 0.6
    assert gallery.scale(model_of(), "cross").at(1e-3) == 0.4
    assert not gallery.scale(model_of(scales={}), "cross").thresholds


def test_projects_to_a_smaller_student(gallery: Gallery) -> None:
    put = [photo_of("Ann", 1), photo_of("Bob", 2)]
    gallery.add(put)
    projection = np.random.default_rng(0).standard_normal((DIM, 2)).astype(np.float32)
    found = gallery.projected(projection)
    for one, row in zip(put, found.embeddings, strict=True):
        expected = [sum(float(one.embedding[i]) * float(projection[i, j]) for i in range(DIM)) for j in range(2)]
        np.testing.assert_allclose(row, np.array(expected) / np.hypot(*expected), rtol=1e-5)
    with pytest.raises(UserError, match=r"projection \[4, D\]"):
        gallery.projected(projection.T)
    with pytest.raises(UserError, match="takes some to nothing"):
        gallery.projected(np.zeros((DIM, 2), np.float32))


WRITER = """
import sys
from tests.recognition.test_gallery import model_of, photo_of
from proxylesskd.recognition.gallery import Gallery
gallery = Gallery.create(sys.argv[1], model_of())
for number in range(int(sys.argv[3]), int(sys.argv[3]) + int(sys.argv[4])):
    gallery.add([photo_of(sys.argv[2], 2 * number), photo_of(sys.argv[2], 2 * number + 1)])
    print(number, flush=True)
"""


def writer(path: Path, identity: str, start: int, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), identity, str(start), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


def test_killed_at_any_time_nothing_enrolled_is_lost(tmp_path: Path) -> None:
    path, told = tmp_path / "g.pkd", 0
    for wait in (1, 4):
        process = writer(path, "Ann", told, 100_000)
        assert process.stdout is not None
        for _ in range(wait):
            told = int(process.stdout.readline()) + 1
        os.kill(process.pid, signal.SIGKILL)
        told += len(process.stdout.read().split("\n")) - 1
        process.wait()
        kept = Gallery(path).entries()
        # what was told of is there; of the addition that was cut short, all or nothing
        assert len(kept) in (2 * told, 2 * told + 2)
        for name, embedding in zip(kept.photos, kept.embeddings, strict=True):
            number = int(name.split("/")[1].removesuffix(".jpg"))
            np.testing.assert_array_equal(embedding, photo_of("Ann", number).embedding)
    Gallery(path).add([photo_of("Bob", 0)])  # what a kill leaves beside the file is gone after the next change
    assert [entry.name for entry in tmp_path.iterdir()] == ["g.pkd"]


def test_two_processes_at_the_same_time_both_succeed(tmp_path: Path) -> None:
    path = tmp_path / "g.pkd"
    both = [writer(path, name, 0, 15) for name in ("Ann", "Bob")]  # both make the gallery, too
    assert [process.wait() for process in both] == [0, 0]
    assert Gallery(path).counts() == {"Ann": 30, "Bob": 30}
    for process in both:
        assert process.stdout is not None
        process.stdout.close()


def test_a_file_of_no_bytes_is_a_new_gallery(tmp_path: Path) -> None:
    (tmp_path / "g.pkd").touch()  # as a kill between opening and the first write leaves it
    assert Gallery.create(tmp_path / "g.pkd", model_of()).counts() == {}


@pytest.mark.parametrize("content", [b"", b"# a text file\n" * 100, b"SQLite format 3\0" + bytes(200)])
def test_files_that_are_no_galleries(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "g.pkd"
    path.write_bytes(content)
    with pytest.raises(UserError, match="expected a gallery"):
        Gallery(path)
    with pytest.raises(UserError, match="found none; make one"):
        Gallery(tmp_path / "nothing.pkd")
    with pytest.raises(UserError, match="expected a gallery"):
        Gallery(tmp_path)


def changed(gallery: Gallery, *statements: str) -> Path:
    database = sqlite3.connect(gallery.path)
    for statement in statements:
        database.execute(statement)
    database.commit()
    database.close()
    return gallery.path


@pytest.mark.parametrize(
    "statements",
    [
        ("CREATE VIEW more AS SELECT 1",),
        ("CREATE TRIGGER t AFTER INSERT ON photo BEGIN DELETE FROM photo; END",),
        (
            "DROP TABLE photo",
            "CREATE VIEW photo AS WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x FROM r) SELECT x",
        ),
    ],
)
def test_programs_in_the_file_are_not_run(gallery: Gallery, statements: tuple[str, ...]) -> None:
    path = changed(gallery, *statements)
    with pytest.raises(UserError, match="was not made by proxylesskd"):
        Gallery(path)
    with pytest.raises(UserError, match="was not made by proxylesskd"):
        gallery.add([photo_of("Ann", 1)])


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE photo SET embedding = zeroblob(16)", "unit length"),
        ("UPDATE photo SET embedding = zeroblob(15)", "4 floats"),
        ("UPDATE photo SET embedding = 'a text of it'", "4 floats"),
    ],
)
def test_damaged_embeddings_are_told_of(gallery: Gallery, statement: str, message: str) -> None:
    gallery.add([photo_of("Ann", 1)])
    changed(gallery, statement, "UPDATE about SET value = '77' WHERE key = 'changes'")
    with pytest.raises(UserError, match=message):
        gallery.entries()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("PRAGMA user_version = 2", "format 2"),
        ("PRAGMA application_id = 5", "another file"),
        ("DELETE FROM about WHERE key = 'dim'", "which model made it"),
        ("UPDATE about SET value = '99999999' WHERE key = 'dim'", "which model made it"),
        ("UPDATE about SET value = '{}' WHERE key = 'scale'", "which model made it"),
    ],
)
def test_what_it_says_of_itself_must_make_sense(gallery: Gallery, statement: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Gallery(changed(gallery, statement))
