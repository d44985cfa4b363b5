"""Names of identities as names of folders, and back."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxylesskd.data.formats.folder_names import NAMES, folder_names, read_names, write_names
from proxylesskd.errors import UserError

HOSTILE = ["../x", "a/b", "", ".", "..", ".hidden", "a\\b", "c:d", "x\0y", "tail.", "tail ", " head", "CON", "nul.txt"]


def test_plain_names_stay() -> None:
    names = ["id-000", "Ann Müller", "100%", "n000012", "李", "a.b"]
    assert folder_names(names) == names


def test_hostile_names_become_harmless() -> None:
    found = folder_names([*HOSTILE, "x" * 5000, "ü" * 300, "a\u202eb"])
    for name in found:
        assert not set(name) & set('/\\:*?"<>|\0')
        assert name
        assert name[0] not in ". "
        assert name[-1] not in ". "
        assert len(name.encode()) < 240
        assert name.split(".")[0].lower() not in {"con", "nul"}
    assert found[:2] == ["%2E./x".replace("/", "%2F"), "a%2Fb"]
    assert len(set(found)) == len(found)


def test_names_that_some_file_systems_take_for_one() -> None:
    composed, apart = "é", unicodedata.normalize("NFD", "é")
    found = folder_names(["Ann", "ann", "ANN", "ann%2", composed, apart, "a/b", "a%2Fb"])
    assert found[0] == "Ann"
    assert len({unicodedata.normalize("NFC", name).casefold() for name in found}) == 8


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.text(min_size=1, max_size=12) | st.sampled_from(HOSTILE).filter(bool), unique=True, min_size=1, max_size=12
    )
)
def test_any_names_come_back_in_their_order(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    root = tmp_path_factory.mktemp("names")
    folders = folder_names(names)
    for folder in folders:
        (root / folder).mkdir()  # fails where two are one
        assert (root / folder).parent == root
    write_names(root, folders, names)
    there = sorted(path.name for path in root.iterdir() if path.is_dir())
    assert read_names(root, there) == (folders, names)


def test_no_list_where_the_folders_tell_all(tmp_path: Path) -> None:
    write_names(tmp_path, ["a", "b"], ["a", "b"])
    assert not (tmp_path / NAMES).exists()
    write_names(tmp_path, ["b", "a"], ["b", "a"])
    assert (tmp_path / NAMES).exists()


def test_folders_that_came_and_went(tmp_path: Path) -> None:
    write_names(tmp_path, ["b", "a%2F", "c"], ["b", "a/", "c"])
    assert read_names(tmp_path, ["a%2F", "b", "d", "e"]) == (["b", "a%2F", "d", "e"], ["b", "a/", "d", "e"])
    with pytest.raises(UserError, match="found one twice"):
        read_names(tmp_path, ["a%2F", "a/"])


@pytest.mark.parametrize(
    "told",
    [
        b"",
        b"[]",
        b'{"identities": 3}',
        b'{"identities": [["a"]]}',
        b'{"identities": [["a", 3]]}',
        b'{"identities": [["a", ""]]}',
        b'{"identities": [["a", "x"], ["a", "y"]]}',
        b'{"identities": [[["a"], "x"]]}',
        b'{"identities": [["a", "\\ud800"]]}',
        b"[" * 90_000,
        b"\xff",
    ],
)
def test_a_broken_list_is_refused(tmp_path: Path, told: bytes) -> None:
    (tmp_path / NAMES).write_bytes(told)
    with pytest.raises(UserError, match="remove it to use the folders'"):
        read_names(tmp_path, ["a"])


def test_a_huge_list_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / NAMES).write_text(json.dumps({"identities": [["a", "b"]]}))
    monkeypatch.setattr("proxylesskd.data.formats.folder_names.MAX_NAMES_BYTES", 5)
    with pytest.raises(UserError, match="more than a GiB"):
        read_names(tmp_path, ["a"])
