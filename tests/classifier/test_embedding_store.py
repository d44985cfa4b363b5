"""What several programs leave of one folder, and what one that was killed leaves behind."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from proxylesskd.classifier.embed_source import embed_source
from proxylesskd.classifier.embedding_store import header_of, in_folder, key_of
from proxylesskd.errors import CorruptImageError, UserError
from tests.faces import ColourEmbedder, MemorySource

HALTING = """
import sys, time
from pathlib import Path
from tests.faces import ColourEmbedder, MemorySource
from proxylesskd.classifier.embed_source import embed_source

class Halting(ColourEmbedder):
    def embed(self, images):
        Path(sys.argv[1] + "-begun").touch()
        while not Path(sys.argv[1] + "-go").exists():
            time.sleep(0.02)
        return super().embed(images)

embed_source(Halting(), MemorySource(4, 4), batch=2, folder=sys.argv[1])
"""


@contextmanager
def another_program(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """One that fills the folder, and stops within its first batch until it may go on."""
    root = str(Path(__file__).parents[2])
    with subprocess.Popen([sys.executable, "-c", HALTING, str(folder)], cwd=root) as process:
        for _ in range(1200):
            if Path(f"{folder}-begun").exists():
                break
            assert process.poll() is None
            time.sleep(0.05)
        yield process


def test_two_programs_fill_a_folder_once(tmp_path: Path) -> None:
    source, folder, said = MemorySource(4, 4), tmp_path / "e", list[str]()

    def tell(line: str) -> None:
        said.append(line)
        assert not np.load(folder / "done.npy").any()
        Path(f"{folder}-go").touch()

    with another_program(folder) as process:
        with in_folder(folder, header_of(ColourEmbedder(), source, 2), 8, tell) as store:
            assert store.done.all()
            assert np.array_equal(store.views, embed_source(ColourEmbedder(), source, batch=2).views)
        assert process.wait(60) == 0
    assert said == [f"waiting for another program that fills '{folder}'"]


def test_a_program_that_was_killed_holds_nobody_up(tmp_path: Path) -> None:
    with another_program(tmp_path / "e") as process:
        process.kill()
        process.wait(60)
    assert (tmp_path / "e" / ".lock").exists()
    expected = embed_source(ColourEmbedder(), MemorySource(4, 4), batch=2)
    found = embed_source(ColourEmbedder(), MemorySource(4, 4), batch=2, folder=tmp_path / "e")
    assert np.array_equal(found.views, expected.views)


def test_a_folder_that_was_never_made_whole_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "views.npy").write_bytes(b"half")
    (tmp_path / ".embedded.json.abc").write_bytes(b"{")
    (tmp_path / ".lock").touch()
    expected = embed_source(ColourEmbedder(), MemorySource(2, 2))
    assert np.array_equal(embed_source(ColourEmbedder(), MemorySource(2, 2), folder=tmp_path).views, expected.views)


def test_a_foreign_folder_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="found other files"):
        embed_source(ColourEmbedder(), MemorySource(2, 2), folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_finished_folder_is_not_locked(tmp_path: Path) -> None:
    source = MemorySource(2, 2)
    embed_source(ColourEmbedder(), source, folder=tmp_path)
    (tmp_path / ".lock").unlink()
    with in_folder(tmp_path, header_of(ColourEmbedder(), source, 128), 1) as store:
        assert not store.views.flags.writeable
    assert not (tmp_path / ".lock").exists()
    (tmp_path / "done.npy").write_bytes(b"hello")
    with pytest.raises(UserError, match="expected embeddings in"):
        embed_source(ColourEmbedder(), source, folder=tmp_path)


def test_the_key_is_of_what_counts() -> None:
    source, teacher, other = MemorySource(2, 2), ColourEmbedder(), ColourEmbedder()
    other.name = "of another name"
    key = key_of(header_of(teacher, source, 128))
    assert key == key_of(header_of(other, source, 128))
    other.fingerprint = "colours-2"
    spoilt = MemorySource(2, 2)
    spoilt.spoil(0)
    for different in (header_of(other, source, 128), header_of(teacher, source, 64), header_of(teacher, spoilt, 128)):
        assert key_of(different) != key


def test_images_that_cannot_be_read_are_part_of_the_content() -> None:
    class Broken(MemorySource):
        def read(self, index: int) -> tuple[bytes, int]:
            if index == 1:
                raise CorruptImageError("cut off")
            return super().read(index)

    headers = [header_of(ColourEmbedder(), source, 128)["content"] for source in (Broken(2, 2), MemorySource(2, 2))]
    assert headers[0] != headers[1]
    assert headers[0] == header_of(ColourEmbedder(), Broken(2, 2), 128)["content"]
