"""What the pages tell a reader to type: the fenced blocks of Markdown, and the commands in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CHAINED = re.compile(r"\s(?:&&|;|\|)\s|; ")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, its text, and the line on which that begins."""

    page: Path
    line: int
    language: str
    text: str

    def commands(self) -> list[str]:
        """Return the commands of a block of shell, each on one line and without its comment."""
        joined = self.text.replace("\\\n", " ")
        lines = (_without_comment(line).strip() for line in joined.splitlines())
        return [line for line in lines if line]


def _without_comment(line: str) -> str:
    return re.sub(r"(^|\s)#\s.*$", "", line)


def pages() -> list[Path]:
    """Return every page that a reader may open."""
    beside = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
    return beside + sorted((ROOT / "docs").rglob("*.md"))


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page in their order."""
    text = page.read_text(encoding="utf-8")
    return [Block(page, text.count("\n", 0, found.start()) + 2, found[1], found[2]) for found in _FENCE.finditer(text)]


def words(command: str) -> Iterator[list[str]]:
    """Yield the words of each ``proxylesskd`` call of a command line, without the name of the program."""
    for part in _CHAINED.split(command):
        found = shlex.split(part)
        for start in ("proxylesskd", "-m proxylesskd"):
            given = start.split()
            at = next((n for n in range(len(found)) if found[n : n + len(given)] == given), None)
            if at is not None and (at == 0 or found[0] in ("do", "torchrun", "python", "time")):
                yield found[at + len(given) :]
                break
