from __future__ import annotations

import re
from pathlib import Path

from proxylesskd.methods.catalogue import CATALOGUE

PAGE = Path(__file__).parents[2] / "docs" / "methods.md"


def test_every_method_has_its_section_and_every_section_its_method() -> None:
    sections = re.findall(r"^## (\w+)(?: · .*)?$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(sections) == sorted(CATALOGUE)


def test_every_option_is_named_in_its_section() -> None:
    parts = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    text = {part.split()[0]: part for part in parts if part.split()}
    listed = [(name, option) for name, entry in CATALOGUE.items() for option in entry.options]
    missing = [f"{name}.{option}" for name, option in listed if f"`{option}=" not in text[name]]
    assert not missing
