"""Patterns of shards, against their expansion by the shell."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from proxylesskd.data.formats.shard_names import find_shards
from proxylesskd.errors import UserError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).write_bytes(b"")


@pytest.mark.parametrize("pattern", ["{008..011}.tar", "{b,a}-{0..1}.tar", "{a,b}{0..1}{x,y}.tar", "plain.tar"])
def test_braces_as_the_shell_expands_them(tmp_path: Path, pattern: str) -> None:
    said = subprocess.run(["bash", "-c", f"echo {pattern}"], capture_output=True, text=True, check=True)
    names = said.stdout.split()
    touch(tmp_path, *names)
    assert [path.name for path in find_shards(str(tmp_path / pattern))] == names


def test_a_folder_a_star_and_one_file(tmp_path: Path) -> None:
    touch(tmp_path, "b.tar", "a.tar", "c.txt", "._a.tar")
    assert [path.name for path in find_shards(str(tmp_path))] == ["a.tar", "b.tar"]
    assert [path.name for path in find_shards(str(tmp_path / "?.tar"))] == ["a.tar", "b.tar"]
    assert [path.name for path in find_shards(str(tmp_path / "c.txt"))] == ["c.txt"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("{0..2}.tar", r"found none; mend the pattern"),
        ("nothing-*.tar", "found nothing at"),
        ("{2..1}.tar", "expected a range"),
        ("{0..99999999}.tar", "expected a range"),
        ("{0..99999}{0..99999}.tar", "at most 1000000 shards"),
        ("{a,a}.tar", "found one twice"),
    ],
)
def test_patterns_that_mean_nothing(tmp_path: Path, pattern: str, found: str) -> None:
    touch(tmp_path, "0.tar", "1.tar", "a.tar")
    with pytest.raises(UserError, match=found):
        find_shards(str(tmp_path / pattern))
