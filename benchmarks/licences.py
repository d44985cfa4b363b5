"""Writes docs/licences.md: every package that the installation and its extras ask for, and its licence.

``python -m benchmarks.licences`` reads them from what is installed here. A package that is not installed keeps the row
that the page has; one that never was says so.
"""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

from proxylesskd.doctor.packages import asked_for

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "licences.md"
UNKNOWN = "not installed where this page was made"
SAID = {"Apache License": "Apache-2.0", "MIT License": "MIT", "BSD 3-Clause": "BSD-3-Clause"}
INTRO = """# Licences of dependencies

ProxylessKD is Apache-2.0. It contains no code of the packages below; pip brings them, each under its own licence, as
its own metadata names it. Written by `python -m benchmarks.licences`; what these packages bring in turn is not listed.

| package | asked for by | licence |
|---|---|---|
"""


def declared() -> dict[str, list[str]]:
    """Return every declared package and who asks for it: the core, or extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = list(project["dependencies"])
    for extra, asked in project["optional-dependencies"].items():
        own = [line for line in asked if not line.startswith("proxylesskd[")]
        lines += [f"{line.split(';')[0]}; extra == '{extra}'" for line in own]
    found: dict[str, list[str]] = {}
    for extra, packages in asked_for(lines, find=lambda _: None).items():
        for package in packages:
            found.setdefault(package.name, []).append(extra or "core")
    return dict(sorted(found.items()))


def licence_of(name: str) -> str | None:
    """Return what a package's metadata says of its licence; None if it is not installed."""
    try:
        told = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return None
    classifiers = [line.rsplit(" :: ", 1)[-1] for line in told.get_all("Classifier", []) if line.startswith("License")]
    text = (told.get("License") or "").strip()
    short = text if text and "\n" not in text and len(text) < 80 else ""
    return told.get("License-Expression") or short or ", ".join(classifiers) or _by_file(name)


def _by_file(name: str) -> str:
    """Return what the licence file of a package begins with to say."""
    for file in metadata.files(name) or []:
        if file.name.upper().startswith(("LICENSE", "LICENCE", "COPYING")):
            head = " ".join(Path(str(file.locate())).read_text(encoding="utf-8", errors="replace").split())[:2000]
            for text, short in SAID.items():
                if text in head:
                    return f"{short} (its licence file)"
    return "see its files"


def rows(before: str) -> list[str]:
    """Return the table's rows.

    Args:
        before: the page as it was.
    """
    known = dict(re.findall(r"^\| (\S+) \| .*? \| (.*) \|$", before, re.MULTILINE))
    found = {name: licence_of(name) or known.get(name, UNKNOWN) for name in declared()}
    return [f"| {name} | {', '.join(by)} | {found[name].replace('|', '/')} |" for name, by in declared().items()]


if __name__ == "__main__":
    PAGE.write_text(INTRO + "\n".join(rows(PAGE.read_text() if PAGE.exists() else "")) + "\n")
    print(PAGE)
