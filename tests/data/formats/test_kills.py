"""A conversion that is killed and asked for again ends with what one makes that was left alone, in every format."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxylesskd.data.convert import WRITERS, convert
from proxylesskd.data.formats import parquet, resumable
from proxylesskd.data.source import open_source
from proxylesskd.errors import CorruptImageError, UserError
from tests.faces import MemorySource

lmdb = pytest.importorskip("lmdb")
pytest.importorskip("pyarrow")

ROOT = Path(__file__).resolve().parents[3]
EVERY, IDENTITIES, IMAGES = 6, 5, 5
ALL = IDENTITIES * IMAGES
PROBED = ALL  # a fingerprint reads as many images before the first one is written


class Killed(BaseException):
    """Stands for the end of the process."""


class Faces(MemorySource):
    """Names in no order, two images that cannot be read, and something that happens after some reads."""

    def __init__(self, reads: int = 10**9, then: Callable[[], None] | None = None) -> None:
        super().__init__(IDENTITIES, IMAGES)
        self.identities = ["e", "a b", "Ü", "d/x", "10"]
        self.left, self.then = reads, then

    def read(self, index: int) -> tuple[bytes, int]:
        if self.left == 0 and self.then is not None:
            self.then()
        self.left -= 1
        if index in (3, 17):
            raise CorruptImageError("gone")
        return super().read(index)


def die() -> None:
    raise Killed


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumable, "EVERY", EVERY)
    monkeypatch.setattr(parquet, "FILE_IMAGES", EVERY)


def on_disk(place: Path, scheme: str) -> dict[str, Any]:
    """All files of a set; of an LMDB what its own library finds, whose pages may lie in another order."""
    if scheme == "lmdb":
        with lmdb.open(str(place), readonly=True, lock=False) as environment, environment.begin() as transaction:
            return {key.decode(): value for key, value in transaction.cursor()}
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def assert_as_if_left_alone(tmp_path: Path, scheme: str) -> None:
    told: list[int] = []
    written = convert(Faces(), f"{scheme}:{tmp_path / 'out'}", progress=lambda done, _: told.append(done))
    assert (written.images, sorted(written.skipped)) == (ALL - 2, [3, 17])
    convert(Faces(), f"{scheme}:{tmp_path / 'alone'}")
    assert on_disk(tmp_path / "out", scheme) == on_disk(tmp_path / "alone", scheme)
    assert not (tmp_path / "out.part").exists()
    assert told == list(range(told[0], ALL + 1)) if told else True


@pytest.mark.parametrize("scheme", WRITERS)
@pytest.mark.parametrize("reads", [0, 1, EVERY, EVERY + 3, ALL - 1])
def test_stopped_between_images(tmp_path: Path, scheme: str, reads: int) -> None:
    with pytest.raises(Killed):
        convert(Faces(PROBED + reads, die), f"{scheme}:{tmp_path / 'out'}")
    assert not (tmp_path / "out").exists()
    assert_as_if_left_alone(tmp_path, scheme)


@pytest.mark.parametrize("scheme", WRITERS)
@pytest.mark.parametrize("word", [1, 3, 5])
def test_stopped_between_the_files_and_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, word: int
) -> None:
    """What was brought to disk and the journal does not know of is written again, not twice."""
    save, left = resumable.save_point, [word]

    def stopping(*told: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        save(*told)

    monkeypatch.setattr(resumable, "save_point", stopping)
    with pytest.raises(Killed):
        convert(Faces(), f"{scheme}:{tmp_path / 'out'}")
    monkeypatch.setattr(resumable, "save_point", save)
    assert_as_if_left_alone(tmp_path, scheme)


@pytest.mark.parametrize("scheme", WRITERS)
def test_stopped_again_and_again(tmp_path: Path, scheme: str) -> None:
    for _ in range(3):
        with pytest.raises(Killed):
            convert(Faces(PROBED + EVERY + 2, die), f"{scheme}:{tmp_path / 'out'}")
    assert_as_if_left_alone(tmp_path, scheme)


SCRIPT = """
import os, signal, sys
from proxylesskd.data.convert import convert
from proxylesskd.data.formats import parquet, resumable
from tests.data.formats import test_kills as kills
resumable.EVERY = parquet.FILE_IMAGES = kills.EVERY
faces = kills.Faces(kills.PROBED + kills.EVERY + 3, lambda: os.kill(os.getpid(), signal.SIGKILL))
convert(faces, sys.argv[1])
"""


@pytest.mark.parametrize("scheme", WRITERS)
def test_a_process_that_is_killed(tmp_path: Path, scheme: str) -> None:
    """SIGKILL ends the process in the midst of writing: no handler, no buffer and no file is cleared up."""
    command = [sys.executable, "-c", SCRIPT, f"{scheme}:{tmp_path / 'out'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    point = resumable.read_point(tmp_path / "out.part" / resumable.JOURNAL, begun_of(tmp_path))
    assert point is not None
    assert point.done == EVERY
    assert not (tmp_path / "out").exists()
    assert_as_if_left_alone(tmp_path, scheme)


def begun_of(tmp_path: Path) -> str:
    told = json.loads((tmp_path / "out.part" / resumable.JOURNAL).read_text())
    return str(told["source"])


@pytest.mark.parametrize("scheme", WRITERS)
@pytest.mark.parametrize("change", ["bytes", "labels", "names"])
def test_another_source_is_refused_and_the_beginnings_stay(tmp_path: Path, scheme: str, change: str) -> None:
    out = f"{scheme}:{tmp_path / 'out'}"
    with pytest.raises(Killed):
        convert(Faces(PROBED + EVERY + 2, die), out)
    other = Faces()
    if change == "bytes":
        other.spoil(4)
    elif change == "labels":
        other.labels[4] = 1
    else:
        other.identities[0] = "f"
    with pytest.raises(UserError, match=r"expected the beginnings of the same set in .* found those of another source"):
        convert(other, out)
    assert not (tmp_path / "out").exists()
    assert_as_if_left_alone(tmp_path, scheme)


@pytest.mark.parametrize("scheme", WRITERS)
def test_a_set_under_way_is_not_opened(tmp_path: Path, scheme: str) -> None:
    with pytest.raises(Killed):
        convert(Faces(PROBED + EVERY + 2, die), f"{scheme}:{tmp_path / 'out'}")
    with pytest.raises(UserError):
        open_source(f"{scheme}:{tmp_path / 'out'}")
