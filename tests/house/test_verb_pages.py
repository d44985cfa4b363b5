"""Every verb has a page, and the pages say what the verbs say of themselves."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import typer

from proxylesskd.cli import app

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "verbs"
GROUP: Any = typer.main.get_command(app)
VERBS = sorted(GROUP.commands)
# Of other programs, in what a page shows beside the verb.
OTHERS = {"--help", "--data-binary", "--install-completion"}


def _hook() -> ModuleType:
    told = importlib.util.spec_from_file_location("options_hook", ROOT / "docs" / "hooks" / "options.py")
    assert told is not None
    assert told.loader is not None
    module = importlib.util.module_from_spec(told)
    told.loader.exec_module(module)
    return module


def _options(command: Any) -> Iterator[str]:
    """Yield every option of a verb and of the verbs below it."""
    for below in getattr(command, "commands", {}).values():
        yield from _options(below)
    for parameter in command.params:
        if parameter.param_type_name == "option":
            yield from (*parameter.opts, *parameter.secondary_opts)


def test_every_verb_has_a_page_in_the_menu_and_every_page_a_verb() -> None:
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    named = re.findall(r"verbs/([\w-]+)\.md", menu)
    assert sorted(named) == sorted([*VERBS, "index"])
    assert sorted(path.stem for path in PAGES.glob("*.md")) == sorted(named)


def test_the_table_names_every_verb_once() -> None:
    text = (PAGES / "index.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| \[`([\w-]+)`\]\(\1\.md\)", text, re.MULTILINE)) == VERBS


@pytest.mark.parametrize("verb", VERBS)
def test_a_page_names_its_own_options_and_no_others(verb: str) -> None:
    text = (PAGES / f"{verb}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {verb}\n")
    assert text.rstrip().endswith("<!-- options -->")
    assert f"`proxylesskd {verb} --help` lists them" in text.partition("## Options")[2]
    known = set(_options(GROUP.commands[verb])) | OTHERS
    spoken = re.sub(r"^```text\n.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL).replace("\\\n", " ")
    own = re.sub(rf"proxylesskd (?!{verb}\b)[\w-]+ [^`|\n]*", "", spoken)
    written = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", own))
    assert written <= known, sorted(written - known)


@pytest.mark.parametrize("verb", VERBS)
def test_the_table_of_options_names_every_option(verb: str) -> None:
    page = SimpleNamespace(file=SimpleNamespace(src_uri=f"verbs/{verb}.md"))
    text = _hook().on_page_markdown("# Title\n\n<!-- options -->\n", page=page, config=None, files=None)
    assert "<!-- options -->" not in text
    missing = [name for name in _options(GROUP.commands[verb]) if f"`{name}`" not in text]
    assert missing == []


def test_a_table_tells_defaults_and_what_must_be_given() -> None:
    rows = _hook().options_of("align").splitlines()
    assert "| `--score` | `0.6` | The least score of a face, between 0 and 1. |" in rows
    assert any(row.startswith("| `PHOTOS` | required |") for row in rows)


def test_a_page_without_the_marker_stays_as_it_is() -> None:
    page = SimpleNamespace(file=SimpleNamespace(src_uri="index.md"))
    assert _hook().on_page_markdown("# Overview\n", page=page, config=None, files=None) == "# Overview\n"
