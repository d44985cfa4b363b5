"""Joined sources by URI.

``join:rec:/data/a+2*folder:/data/b`` joins two sources, the images of the second come twice an epoch; with
``join:by-name:…`` identities of the same name are one. A plus divides only where a scheme follows, perhaps behind a
weight, so that paths may hold any character. What cannot be said in a line stands in a file, ``join:faces.toml``::

    identities = "by-name"    # "namespaced" if left out

    [[source]]
    uri = "rec:/data/a"       # relative paths as on the command line
    weight = 0.5
    name = "a"
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxylesskd.data.joined import BY_NAME, NAMESPACED, JoinedSource
from proxylesskd.data.source import SCHEMES, open_source
from proxylesskd.errors import UserError, nearest

MAX_TOML_BYTES = 1 << 20
TOP = {"identities": str, "numbers_are_names": bool, "seed": int, "source": list}
EACH = {"uri": str, "weight": (int, float), "name": str}
_WEIGHT = r"(?:(\d+(?:\.\d+)?)\*)?"


@dataclass(frozen=True)
class _Asked:
    """One source as the user wrote it."""

    uri: str
    weight: float = 1.0
    name: str = ""

    def called(self) -> str:
        """Return its name: the last part of its path unless given."""
        return self.name or Path(self.uri.partition(":")[2].partition("?")[0]).name


def _pattern() -> str:
    return rf"{_WEIGHT}((?:{'|'.join(SCHEMES)}):)"


def _split(text: str) -> list[_Asked]:
    starts = [0, *(found.end() for found in re.finditer(rf"\+(?={_pattern()})", text))]
    ends = [*(start - 1 for start in starts[1:]), len(text)]
    pieces = [text[start:end] for start, end in zip(starts, ends, strict=True)]
    found = [re.match(_pattern(), piece) for piece in pieces]
    return [_Asked(p[m.start(2) :], float(m[1] or 1)) for p, m in zip(pieces, found, strict=True) if m]


def _typed(table: dict[str, Any], known: dict[str, Any], path: Path) -> dict[str, Any]:
    for key, value in table.items():
        if key not in known:
            raise UserError(f"expected {', '.join(known)} in '{path}', found '{key}'{nearest(key, known)}")
        if not isinstance(value, known[key]) or (isinstance(value, bool) and known[key] is not bool):
            raise UserError(f"expected another type for {key} in '{path}', found {str(value)[:80]!r}")
    return table


def _read(path: Path) -> dict[str, Any]:
    expected = f"expected a file with [[source]] tables at '{path}'"
    try:
        with path.open("rb") as file:
            text = file.read(MAX_TOML_BYTES + 1)
        if len(text) > MAX_TOML_BYTES:
            raise UserError(f"{expected}, found more than {MAX_TOML_BYTES >> 20} MiB")
        return tomllib.loads(text.decode())
    except OSError as error:
        raise UserError(f"{expected}, found {error.strerror or error}; or give sources: join:{_example()}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{expected}, found: {' '.join(str(error).split())[:160]}") from error


def _example() -> str:
    return "rec:A+2*folder:B"


def _from_toml(path: Path) -> JoinedSource:
    top = _typed(_read(path), TOP, path)
    tables = top.get("source", [])
    if not tables or not all(isinstance(table, dict) and "uri" in table for table in tables):
        raise UserError(f"expected [[source]] tables with a uri in '{path}', found others or none")
    asked = [_Asked(**_typed(table, EACH, path)) for table in tables]
    return _opened(asked, top.get("identities", NAMESPACED), top.get("numbers_are_names", False), top.get("seed", 0))


def _opened(asked: list[_Asked], identities: str, numbers_are_names: bool = False, seed: int = 0) -> JoinedSource:
    for each in asked:
        if each.uri.startswith("join:"):
            raise UserError(f"expected sources to join, found a join within a join: '{each.uri[:200]}'; name them all")
    return JoinedSource(
        [open_source(each.uri) for each in asked],
        [each.weight for each in asked],
        [each.called() for each in asked],
        identities,
        numbers_are_names=numbers_are_names,
        seed=seed,
    )


def parse_join(where: str) -> JoinedSource:
    """Open what follows ``join:``.

    Args:
        where: ``[by-name:][WEIGHT*]URI+[WEIGHT*]URI…``, each URI with its scheme; or a TOML file.

    Raises:
        UserError: neither, a source that cannot be opened, or what :class:`JoinedSource` refuses.
    """
    by_name = where.startswith(f"{BY_NAME}:")
    text = where.removeprefix(f"{BY_NAME}:")
    if re.match(_pattern(), text):
        return _opened(_split(text), BY_NAME if by_name else NAMESPACED)
    if by_name:
        raise UserError(f"expected sources behind '{BY_NAME}:' like {_example()}, found '{text[:200]}'")
    return _from_toml(Path(where))
