"""Names of shards: a folder, one file, ``shard-{000000..000009}.tar``, ``{a,b}``, ``*`` and ``?``."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from proxylesskd.errors import UserError

MAX_SHARDS = 1_000_000
BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"([0-9]{1,12})\.\.([0-9]{1,12})")


def find_shards(where: str) -> list[Path]:
    """Return the shards that a path or pattern means: those of a folder by name, those of braces in their order.

    Raises:
        UserError: there are none, or one that braces name is missing.
    """
    if Path(where).is_dir():
        found = sorted(path for path in Path(where).glob("*.tar") if not path.name.startswith("."))
    elif Path(where).is_file():
        found = [Path(where)]
    else:
        found = [path for name in _expand(where) for path in _named(name)]
    if not found:
        raise UserError(
            "expected a folder of .tar shards, one .tar or a pattern like shard-{000..009}.tar, found nothing at "
            f"'{where}'"
        )
    if len(set(found)) != len(found):
        raise UserError(f"expected each shard once, found one twice in '{where}'")
    return found


def _named(name: str) -> list[Path]:
    if any(sign in name for sign in "*?["):
        return sorted(map(Path, glob.glob(name)))  # noqa: PTH207 - the pattern may begin at the root
    if not Path(name).is_file():
        raise UserError(f"expected a shard at '{name}', found none; mend the pattern or fetch the shard")
    return [Path(name)]


def _expand(pattern: str) -> list[str]:
    """Return what braces stand for, the first of them varying slowest."""
    names = [pattern]
    while (match := BRACES.search(names[0])) is not None:
        choices = _choices(match[1])
        if len(names) * len(choices) > MAX_SHARDS:
            raise UserError(f"expected a pattern of at most {MAX_SHARDS} shards, found more in '{pattern}'")
        names = [_filled(name, choice) for name in names for choice in choices]
    return names


def _filled(name: str, choice: str) -> str:
    return BRACES.sub(lambda _: choice, name, count=1)


def _choices(text: str) -> list[str]:
    if (span := RANGE.fullmatch(text)) is None:
        return text.split(",")
    first, last = int(span[1]), int(span[2])
    if last < first or last - first >= MAX_SHARDS:
        raise UserError(f"expected a range of shards like 000..009, found '{text}'")
    return [f"{number:0{len(span[1])}d}" for number in range(first, last + 1)]
