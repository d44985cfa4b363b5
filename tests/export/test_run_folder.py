from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxylesskd.errors import UserError
from proxylesskd.export import run_folder
from proxylesskd.export.run_folder import read_json, read_text, read_toml


def test_what_is_there_comes_back(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"x": [1, "ü"]}', encoding="utf-8")
    (tmp_path / "a.toml").write_text("[model]\nname = 'x'\n", encoding="utf-8")
    assert read_json(tmp_path / "a.json") == {"x": [1, "ü"]}
    assert read_toml(tmp_path / "a.toml") == {"model": {"name": "x"}}


def test_what_is_missing_is_none(tmp_path: Path) -> None:
    assert read_text(tmp_path / "a") is None
    assert read_json(tmp_path / "a") is None
    assert read_toml(tmp_path / "a") is None


@pytest.mark.parametrize(
    ("read", "content", "message"),
    [
        (read_json, b"{", "expected JSON in .*a.file"),
        (read_json, b"[1]", "expected a JSON object in .*a.file, found list"),
        (read_json, b"[" * 100_000, "expected JSON in .*a.file"),
        (read_json, b"\xff\xfe", "expected UTF-8 text in .*a.file"),
        (read_toml, b"a = ", "expected TOML in .*a.file"),
    ],
)
def test_what_is_malformed_is_named(tmp_path: Path, read: Callable[[Path], Any], content: bytes, message: str) -> None:
    path = tmp_path / "a.file"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read(path)


def test_what_is_implausibly_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "LARGEST", 10)
    (tmp_path / "a").write_text("x" * 11)
    with pytest.raises(UserError, match="found 11 bytes"):
        read_text(tmp_path / "a")
