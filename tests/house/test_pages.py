"""The pages about the house say what the code is: rooms, arrows, and tests that exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "proxylesskd"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
PAGES = ("SECURITY.md", "docs/threat-model.md", "docs/responsible-use.md", "docs/architecture.md", "docs/installing.md")
_TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
_LINK = re.compile(r"\]\(([^)#]+?)(?:#[^)]*)?\)")


def _rooms() -> set[str]:
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    files = {path.name for path in PACKAGE.glob("*.py") if not path.name.startswith("__")}
    return folders | files


def test_every_room_is_listed_once_and_no_other() -> None:
    table = ARCHITECTURE.read_text().split("| room |")[1].split("## Seams")[0]
    first = re.findall(r"^\| `([\w.]+)` \|", table, re.MULTILINE)
    beside = [name for name in re.findall(r"`(\w+\.py)`", table) if name not in first]
    rooms, listed = _rooms(), first + beside
    assert [room for room in listed if listed.count(room) > 1] == []
    assert set(listed) - rooms <= {"web", "serving"}  # these may be left out of a build
    assert rooms - set(listed) == set()


def test_the_layers_are_those_of_the_linter() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    told = re.search(r"<!-- layers -->\n```\n(.*?)\n```\n<!-- /layers -->", ARCHITECTURE.read_text(), re.DOTALL)
    assert told is not None
    assert told.group(1).splitlines() == [layer.strip("()") for layer in layers]


def test_seams_lie_where_the_page_says() -> None:
    rows = re.findall(r"^\| `?(\w+)`? \| `([\w/]+\.py)` \|", ARCHITECTURE.read_text(), re.MULTILINE)
    assert len(rows) == 7
    for name, where in rows:
        text = (PACKAGE / where).read_text()
        assert name[0].islower() or f"class {name}" in text, name


@pytest.mark.parametrize("page", PAGES)
def test_every_test_and_page_that_is_named_exists(page: str) -> None:
    text = (ROOT / page).read_text()
    for file, name in _TEST.findall(text):
        assert (ROOT / file).is_file(), file
        assert not name or re.search(rf"^def {name}\(", (ROOT / file).read_text(), re.MULTILINE), f"{file}::{name}"
    for target in _LINK.findall(text):
        assert "://" in target or ((ROOT / page).parent / target).is_file(), target


def test_every_row_of_the_threat_model_names_its_test() -> None:
    text = (ROOT / "docs" / "threat-model.md").read_text()
    rows = [
        line
        for line in text.splitlines()
        if line.startswith("| ") and not line.startswith(("| what |", "| what could"))
    ]
    assert len(rows) > 15
    assert [row for row in rows if "`tests/" not in row] == []


def test_nobody_is_invented() -> None:
    text = (ROOT / "SECURITY.md").read_text()
    assert "@" not in text
    assert "private advisory" in text


def test_extras_that_pages_name_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    texts = [path.read_text() for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))]
    named = [name for text in texts for name in re.findall(r"\bextras? `(\w+)`", text)]
    assert named
    assert set(named) <= set(extras)
