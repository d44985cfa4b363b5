"""The three questions, against what plain numpy says of the same faces."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import proxylesskd as pk
from proxylesskd.errors import UserError
from proxylesskd.evaluation.calibration import Calibration
from proxylesskd.recognition.answers import Identification, Verification
from proxylesskd.recognition.faces import PhotoError
from proxylesskd.recognition.gallery import Gallery
from proxylesskd.recognition.model import open_model
from proxylesskd.recognition.recognizer import Recognizer, verify
from proxylesskd.recognition.thresholds import OpenSet
from tests.photos.pictures import MarkDetector, photo, write
from tests.recognition.stand_in import CURVE, WEIGHTS, aligned, colours, write_model


@pytest.fixture
def recognizer(model: Path) -> Recognizer:
    return Recognizer(model, aligned=True)


@pytest.fixture
def people(tmp_path: Path) -> Path:
    for identity in range(3):
        for number in range(2):
            write(tmp_path / f"people/id {identity}/{number}.png", aligned(identity, number))
    write(tmp_path / "people/alone.png", aligned(7))
    return tmp_path / "people"


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    first, second = colours(np.stack([one.transpose(2, 0, 1), other.transpose(2, 0, 1)]))
    return float(sum(a * b for a, b in zip(first, second, strict=True)))


def test_verifies_by_the_models_threshold_and_curve(recognizer: Recognizer) -> None:
    for other in (aligned(0, 5), aligned(1)):
        found = recognizer.verify(aligned(0), other)
        expected = cosine(aligned(0), other)
        assert found.similarity == pytest.approx(expected, abs=1e-5)
        assert found.same == (expected >= 0.7)
        assert (found.threshold, found.far, found.model) == (0.7, 1e-3, "colours")
        odds = CURVE["slope"] * expected + CURVE["intercept"]
        assert found.probability == pytest.approx(1 / (1 + np.exp(-odds)), abs=1e-3)
    assert recognizer.verify(aligned(0), aligned(0)).similarity <= 1


def test_another_rate_is_another_threshold_and_a_given_one_stands(recognizer: Recognizer) -> None:
    assert recognizer.verify(aligned(0), aligned(1), far=1e-2).threshold == 0.5
    given = recognizer.verify(aligned(0), aligned(1), threshold=-1.0)
    assert (given.same, given.far, given.threshold) == (True, None, -1.0)
    with pytest.raises(UserError, match="FAR 1e-5"):
        recognizer.verify(aligned(0), aligned(1), far=1e-5)
    with pytest.raises(UserError, match=r"threshold in \[-1, 1\]"):
        recognizer.verify(aligned(0), aligned(1), threshold=2.0)


def test_detects_and_aligns(model: Path) -> None:
    found = Recognizer(model, detector=MarkDetector()).embed([photo((30, 40, 1.0)), photo((60, 20, 1.5))])
    assert found.shape == (2, 48)
    assert found[0] @ found[1] > 0.9


def test_wrong_photos_are_told_of_before_the_model_is_opened(tmp_path: Path) -> None:
    broken = tmp_path / "model.onnx"
    broken.write_text("no model", encoding="utf-8")
    recognizer = Recognizer(broken, aligned=True)
    with pytest.raises(PhotoError, match="no image"):
        recognizer.verify(b"text", b"text")
    with pytest.raises(UserError, match="onnxruntime"):
        recognizer.verify(aligned(0), aligned(1))
    with pytest.raises(UserError, match="found nothing"):
        Recognizer(tmp_path / "none.onnx", aligned=True)


def test_one_line_in_python(model: Path) -> None:
    assert pk.verify is verify
    assert pk.Recognizer is Recognizer
    found = pk.verify(aligned(0), aligned(0, 1), model, aligned=True, threshold=0.1)
    assert found.same
    assert pk.verify(aligned(0), aligned(0, 1), open_model(model), aligned=True).same == (found.similarity >= 0.7)


def test_enrols_a_folder_and_goes_on_with_it(recognizer: Recognizer, people: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    (people / "id 1/text.jpg").write_text("no photo", encoding="utf-8")
    done = recognizer.enroll(people, tmp_path / "g.pkd", progress=lambda *told: seen.append(told))
    assert (done.photos, done.enrolled, done.kept, done.identities) == (8, 7, 0, 4)
    assert [one.photo for one in done.skipped] == ["id 1/text.jpg"]
    assert "another or no image format" in done.skipped[0].reason
    assert seen[-1] == (8, 8)
    assert "7 of 8 photos, 1 skipped" in str(done)
    assert Gallery(tmp_path / "g.pkd").counts() == {"alone": 1, "id 0": 2, "id 1": 2, "id 2": 2}
    write(people / "id 2/new.png", aligned(2, 9))
    again = recognizer.enroll(people, tmp_path / "g.pkd")
    assert (again.enrolled, again.kept, len(again.skipped)) == (1, 7, 1)
    assert "7 before" in str(again)
    assert json.dumps(again.to_dict())


def test_one_photo_under_two_names_is_enrolled_once(recognizer: Recognizer, people: Path, tmp_path: Path) -> None:
    write(people / "id 0/copy.png", aligned(0, 1))
    done = recognizer.enroll(people, tmp_path / "g.pkd")
    assert (done.photos, done.enrolled, done.kept) == (8, 7, 1)


def test_many_photos_are_written_in_groups(recognizer: Recognizer, tmp_path: Path) -> None:
    for number in range(37):
        write(tmp_path / f"many/p{number:02d}/a.png", aligned(number))
    seen: list[int] = []
    done = recognizer.enroll(tmp_path / "many", tmp_path / "g.pkd", progress=lambda so_far, _: seen.append(so_far))
    assert (done.enrolled, done.identities) == (37, 37)
    assert seen == [16, 32, 37]
    entries = Gallery(tmp_path / "g.pkd").entries()
    faces = np.stack([aligned(number).transpose(2, 0, 1) for number in range(37)])
    np.testing.assert_allclose(entries.embeddings, colours(faces), atol=1e-5)


def test_enrolling_refuses_what_is_no_folder_of_photos(recognizer: Recognizer, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a folder of photos"):
        recognizer.enroll(tmp_path / "none", tmp_path / "g.pkd")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="expected photos below"):
        recognizer.enroll(tmp_path / "empty", tmp_path / "g.pkd")
    (tmp_path / "empty/a.jpg").write_text("text", encoding="utf-8")
    with pytest.raises(UserError, match=r"found none: .*a\.jpg"):
        recognizer.enroll(tmp_path / "empty", tmp_path / "g.pkd")


def test_enrols_photos_one_by_one(recognizer: Recognizer, tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", aligned(0))
    assert recognizer.enroll_photo(path, "Ann", tmp_path / "g.pkd")
    assert not recognizer.enroll_photo(path.read_bytes(), "Ann", tmp_path / "g.pkd")  # the same photo
    assert recognizer.enroll_photo(aligned(1), "Bob", Gallery(tmp_path / "g.pkd"), name="passport")
    assert Gallery(tmp_path / "g.pkd").entries().photos == [str(path), "passport"]


def test_identifies_or_names_nobody(recognizer: Recognizer, people: Path, tmp_path: Path) -> None:
    recognizer.enroll(people, tmp_path / "g.pkd")
    found = recognizer.identify(aligned(1, 4), tmp_path / "g.pkd", k=2)
    scores = {f"id {i}": max(cosine(aligned(1, 4), aligned(i, n)) for n in range(2)) for i in range(3)}
    scores["alone"] = cosine(aligned(1, 4), aligned(7))
    best = sorted(scores, key=lambda name: -scores[name])[:2]
    assert [one.identity for one in found.candidates] == best == ["id 1", best[1]]
    assert [one.similarity for one in found.candidates] == pytest.approx([scores[name] for name in best], abs=1e-5)
    assert (found.identity, found.mode, found.photos) == ("id 1", "single", 7)
    assert (found.open_set.threshold, found.open_set.reached) == (
        0.7,
        True,
    )  # 7 photos at 1e-3 are below 0.01, at 1e-2 above
    stranger = recognizer.identify(aligned(33), tmp_path / "g.pkd")
    assert stranger.identity is None
    assert len(stranger.candidates) == 4
    assert str(stranger).startswith("nobody: similarity ")
    assert json.loads(json.dumps(stranger.to_dict()))["identity"] is None
    assert recognizer.identify(aligned(33), tmp_path / "g.pkd", threshold=-1.0).identity is not None


def test_a_student_searches_its_teachers_gallery(recognizer: Recognizer, people: Path, tmp_path: Path) -> None:
    recognizer.enroll(people, tmp_path / "g.pkd")
    student = write_model(tmp_path / "student.onnx", weights="s" * 64, teacher={"name": "colours", "sha256": WEIGHTS})
    found = Recognizer(student, aligned=True).identify(aligned(0), tmp_path / "g.pkd")
    assert (found.identity, found.mode, found.open_set.threshold) == ("id 0", "cross", 0.65)
    assert found.gallery_model == "colours"
    with pytest.raises(UserError, match="only its own model enrolls"):
        Recognizer(student, aligned=True).enroll(people, tmp_path / "g.pkd")
    stranger = Recognizer(write_model(tmp_path / "x.onnx", weights="x" * 64), aligned=True)
    with pytest.raises(UserError, match="similarities would mean nothing"):
        stranger.identify(aligned(0), tmp_path / "g.pkd")
    assert stranger.identify(aligned(0), tmp_path / "g.pkd", same_space=True).identity == "id 0"


def test_a_smaller_student_searches_through_its_projection(
    recognizer: Recognizer, people: Path, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import save_file

    recognizer.enroll(people, tmp_path / "g.pkd")
    projection = np.random.default_rng(0).standard_normal((48, 12)).astype(np.float32)
    base = recognizer.model
    student = replace(
        base, dim=12, identity="s" * 64, teacher={"sha256": WEIGHTS}, run=lambda faces: base.run(faces) @ projection
    )
    small = Recognizer(student, aligned=True)
    save_file({"projection": torch.from_numpy(projection)}, tmp_path / "projection.safetensors")
    found = small.identify(aligned(0), tmp_path / "g.pkd", projection=tmp_path)
    assert found.identity == "id 0"
    enrolled = {"id 0": (0, 2), "id 1": (1, 2), "id 2": (2, 2), "alone": (7, 1)}
    probe = colours(aligned(0).transpose(2, 0, 1)[None])[0] @ projection
    for candidate in found.candidates:
        number, count = enrolled[candidate.identity]
        rows = colours(np.stack([aligned(number, k).transpose(2, 0, 1) for k in range(count)])) @ projection
        cosines = rows @ probe / np.linalg.norm(rows, axis=1) / np.linalg.norm(probe)
        assert candidate.similarity == pytest.approx(cosines.max(), abs=1e-5)
    with pytest.raises(UserError, match=r"projection \[48, 12\].*found none"):
        small.identify(aligned(0), tmp_path / "g.pkd", projection=people)
    with pytest.raises(UserError, match="leave --projection out"):
        recognizer.identify(aligned(0), tmp_path / "g.pkd", projection=tmp_path)


def test_threads_share_it(model: Path, people: Path, tmp_path: Path) -> None:
    recognizer = Recognizer(model, aligned=True)
    recognizer.enroll(people, tmp_path / "g.pkd")
    gallery = Gallery(tmp_path / "g.pkd")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: recognizer.identify(aligned(n % 3), gallery, fpir=1).identity, range(12)))
    assert found == [f"id {n % 3}" for n in range(12)]


def test_answers_as_lines() -> None:
    one = Verification(True, 0.8123, 0.7, 1e-3, 0.99995, "m")
    assert str(one) == (
        "same person: similarity 0.8123 >= threshold 0.7000 (for FAR 1e-3); "
        "probability of one person above 99.99 % at even odds before"
    )
    other = replace(one, same=False, similarity=0.1, far=None, probability=None)
    assert str(other).startswith("different people: similarity 0.1000 < threshold 0.7000 (as given); no probability")
    assert "below 0.01 %" in str(replace(one, probability=1e-6))
    assert "probability of one person 50.00 %" in str(replace(one, probability=Calibration(1, 0).probability(0)))
    empty = Identification(None, [], OpenSet(0.5), "single", 0, "m", "m")
    assert str(empty) == "nobody: the gallery is empty"
    from proxylesskd.recognition.answers import Candidate

    named = replace(empty, identity="Ann", candidates=[Candidate("Ann", 0.6, "a")])
    assert str(named) == "Ann: similarity 0.6000 >= threshold 0.5000 (as given)"
    far = replace(named, open_set=OpenSet(0.5, 1e-3, 0.04, reached=False), photos=40)
    assert "of strangers at most 4.00 % are named" in str(far)
    assert "note: no threshold that is strict enough for 40 enrolled photos" in str(far)
