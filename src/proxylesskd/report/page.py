"""The page of a run: one HTML file that holds everything it shows."""

from __future__ import annotations

import importlib.metadata
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from proxylesskd.errors import UserError
from proxylesskd.report.headline import sentence, tiles
from proxylesskd.report.run import Run, read_run
from proxylesskd.report.sections import Section, sections

TEMPLATES = Path(__file__).with_name("templates")


def write_report(folder: Path) -> Path:
    """Write ``report.html`` into a run folder from whatever stands there, and return its path.

    Read are ``recipe.toml``, ``metrics.jsonl``, ``classifier.json``, ``evaluation.json``, ``export.json``,
    ``wrong_pairs/``, and the same files of other models in ``baselines/<name>/`` or in the folders that
    ``comparison.json`` (``{"name": "path"}``, relative to the folder) names. What is missing is not shown; its
    section then names the command that adds it. The page loads nothing from elsewhere.

    Raises:
        UserError: the folder does not exist, or one of these files is malformed.
    """
    html = render(read_run(folder))
    path = folder / "report.html"
    temporary = folder / ".report.html.partial"
    temporary.write_text(html, encoding="utf-8")
    temporary.replace(path)
    return path


def name_models(folder: Path, models: Mapping[str, Path]) -> None:
    """Write ``comparison.json``, by which the page of a folder sets several evaluated models side by side.

    Args:
        folder: of the page; created if need be.
        models: folders with ``evaluation.json`` by the name to show, in the order to show them.

    Raises:
        UserError: no models are given.
    """
    if not models:
        raise UserError("expected at least one model to compare, found none; give names and folders")
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: os.path.relpath(where, folder) for name, where in models.items()}
    (folder / "comparison.json").write_text(json.dumps(paths, indent=1, ensure_ascii=False), encoding="utf-8")


def render(run: Run) -> str:
    """Return the page of a run as HTML."""
    return fill(run.folder.resolve().name, "ProxylessKD report", sentence(run), tiles(run), sections(run))


def fill(title: str, kind: str, lead: str, numbers: Sequence[Mapping[str, str]], parts: Sequence[Section]) -> str:
    """Return a page as HTML; every text in it is escaped.

    Args:
        title: its heading.
        kind: of report, above the heading.
        lead: what was done, in plain words.
        numbers: the few that matter most: name, value, detail.
        parts: its sections, whose ids say the form of their data.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        title=title,
        kind=kind,
        sentence=lead,
        tiles=numbers,
        sections=[section for section in parts if section.data is not None],
        absent=[section for section in parts if section.data is None and section.command],
        version=importlib.metadata.version("proxylesskd"),
    )
