"""Every method has a page of the same shape, in the menu, which names all of its options with their defaults."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from proxylesskd.methods.catalogue import CATALOGUE, expand, wants

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "methods"
HEADINGS = [
    "What it does",
    "The equation",
    "Options",
    "What it needs and costs",
    "When to use it, and when not",
    "Run it",
    "In Python",
    "Constants, and where it differs",
    "Where its test is",
]


def _page(name: str) -> str:
    return (PAGES / f"{name}.md").read_text(encoding="utf-8")


def test_every_method_has_its_page_and_every_page_its_method() -> None:
    assert sorted(path.stem for path in PAGES.glob("*.md")) == sorted([*CATALOGUE, "index"])


def test_every_page_is_in_the_menu_and_in_the_table() -> None:
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    assert sorted(re.findall(r"\bmethods/(\w+)\.md", menu)) == sorted([*CATALOGUE, "index"])
    rows = re.findall(r"^\| \[`(\w+)`\]\((\w+)\.md\) \|", _page("index"), re.MULTILINE)
    assert rows == [(name, name) for name in CATALOGUE]


@pytest.mark.parametrize("name", CATALOGUE)
def test_pages_have_one_shape(name: str) -> None:
    text = _page(name)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS
    assert f"--out runs/{name} " in text
    assert re.search(rf"method\.name={name}$", text, re.MULTILINE)
    files = re.findall(r"`((?:tests|src)/[\w/]+\.py)`", text)
    assert files[-2:] == [f"tests/methods/test_{name}.py", f"src/proxylesskd/methods/{name}.py"]
    assert all((ROOT / file).is_file() for file in files)


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_option_is_named_with_its_default(name: str) -> None:
    entry, text = CATALOGUE[name], _page(name)
    known = inspect.signature(entry.made).parameters
    defaults = {option: known[option].default for option in entry.options}
    table = re.findall(r"^\| `(\w+)=([^`]*)` \| \S", text, re.MULTILINE)
    said = {option: str(value).lower() if isinstance(value, bool) else str(value) for option, value in defaults.items()}
    assert dict(table) == said


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_command_gives_what_the_method_takes(name: str) -> None:
    block = _page(name).partition("```sh\n")[2].partition("```")[0]
    wanted = wants(expand(name))
    assert ("--classifier" in block) == ("classifier" in wanted)
    assert ("--teacher" in block) == ("teacher" in wanted)
