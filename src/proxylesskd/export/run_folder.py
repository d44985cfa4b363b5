"""Reading what a run folder holds: a missing file is no matter, a malformed one is an error that names it."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from proxylesskd.errors import UserError

# The largest evaluation of a run is a few megabytes; whatever is far beyond was not written by a run.
LARGEST = 64 * 1024 * 1024


def read_text(path: Path) -> str | None:
    """Return the text of a file, or None when there is no such file.

    Raises:
        UserError: it is no text or implausibly large.
    """
    if not path.is_file():
        return None
    if path.stat().st_size > LARGEST:
        raise UserError(f"expected a file of a run at {path}, found {path.stat().st_size} bytes; remove it")
    try:
        return path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(f"expected UTF-8 text in {path}, found {error}; write it anew or remove it") from error


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in a file, or None when there is no such file.

    Raises:
        UserError: it is no JSON object.
    """
    text = read_text(path)
    if text is None:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"expected JSON in {path}, found {error}; write it anew or remove it") from error
    if not isinstance(value, dict):
        raise UserError(f"expected a JSON object in {path}, found {type(value).__name__}; write it anew or remove it")
    return value


def read_toml(path: Path) -> dict[str, Any] | None:
    """Return the tables of a TOML file, or None when there is no such file.

    Raises:
        UserError: it is no TOML.
    """
    text = read_text(path)
    if text is None:
        return None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"expected TOML in {path}, found {error}; write it anew or remove it") from error
