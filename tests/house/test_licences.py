"""The page of licences lists every declared package."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata

from benchmarks.licences import PAGE, ROOT, declared, licence_of, rows


def _listed() -> dict[str, str]:
    return dict(re.findall(r"^\| ([\w.-]+) \| .*? \| (.*) \|$", PAGE.read_text(), re.MULTILINE))


def test_every_declared_package_is_listed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"] + [line for asked in project["optional-dependencies"].values() for line in asked]
    names = {re.split(r"[\[<>=;! ]", line)[0] for line in lines} - {"proxylesskd"}
    assert set(_listed()) - {"package"} == names
    assert set(declared()) == names


def test_every_licence_is_known() -> None:
    assert [name for name, licence in _listed().items() if not licence or "not installed" in licence] == []


def test_licences_are_those_of_the_metadata() -> None:
    assert licence_of("pytest") == metadata.metadata("pytest")["License-Expression"]
    assert licence_of("there-is-no-such-package") is None
    assert rows("| coremltools | coreml | once known |\n| numpy | core | once wrong |") != []
    kept = "\n".join(rows("| numpy | core | once wrong |"))
    assert "once wrong" not in kept
