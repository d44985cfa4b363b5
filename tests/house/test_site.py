"""The documentation site: every page in its menu, every public name in its reference, and no warning."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import proxylesskd

ROOT = Path(__file__).parents[2]


def test_every_page_is_in_the_menu() -> None:
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    named = re.findall(r"([\w/-]+\.md)", menu)
    pages = (ROOT / "docs").rglob("*.md")
    assert sorted(named) == sorted(path.relative_to(ROOT / "docs").as_posix() for path in pages)


def test_every_public_name_is_in_the_reference() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    named = re.findall(r"^::: ([\w.]+)\.(\w+)$", text, re.MULTILINE)
    assert {name: home for home, name in named} == proxylesskd._HOME_OF


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_asks_nobody_else(tmp_path: Path) -> None:
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for page in (tmp_path / "site").rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        fetched = re.findall(r"<(?:script|img|iframe)[^>]* src=\"(https?:[^\"]+)", text)
        fetched += re.findall(r"<link[^>]* rel=\"(?:stylesheet|preconnect)\"[^>]* href=\"(https?:[^\"]+)", text)
        assert not fetched, f"{page}: {fetched}"
