"""Whose embeddings a run's student gives: what the run says of its teacher, by name and by hash."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proxylesskd.errors import UserError
from proxylesskd.export.run_folder import read_json, read_toml
from proxylesskd.models.location import split_location
from proxylesskd.models.weights import RUN_WEIGHTS

# Two networks that do not embed into one space score pairs across each other at an AUC of one half.
SOME_RELATION = 0.6


def teacher_of_run(folder: Path) -> dict[str, str]:
    """Return name and hashes of the teacher in whose space a run's student was trained, as far as they are known.

    ``fingerprint`` (weights and preprocessing) is what the inherited classifier says; ``sha256`` is that of the file
    which the recipe names, where it still stands there. A student that was evaluated against its teacher and showed no
    relation to it (AUC across below ``SOME_RELATION``) gets the name alone.

    Raises:
        UserError: a file of the run is malformed.
    """
    classifier = _table(read_json(folder / "classifier.json"), "provenance")
    method = _table(read_toml(folder / "recipe.toml"), "method")
    taught = method.get("name") != "alone"
    plain = _plain(method.get("teacher")) if taught else None
    known = {
        "name": classifier.get("teacher") or classifier.get("run") or (None if plain is None else plain.stem),
        "fingerprint": classifier.get("teacher_fingerprint") if _related(folder) else None,
        "sha256": _hash(plain) if _related(folder) else None,
    }
    return {key: str(value) for key, value in known.items() if value}


def weights_file(path: Path) -> Path | None:
    """Return the file of a model's weights, that of a run for its folder; None where there is none."""
    if path.is_file():
        return path
    return next((one for name in RUN_WEIGHTS if (one := path / name).is_file()), None)


def _related(folder: Path) -> bool:
    auc = _table(_table(read_json(folder / "evaluation.json"), "cross"), "auc").get("value")
    return not isinstance(auc, (int, float)) or auc >= SOME_RELATION


def _table(tables: Mapping[str, Any] | None, name: str) -> Mapping[str, Any]:
    inner = (tables or {}).get(name)
    return inner if isinstance(inner, Mapping) else {}


def _plain(named: Any) -> Path | None:
    """Return the path in what a recipe calls a teacher, which may carry options."""
    if not isinstance(named, str) or not named:
        return None
    try:
        return Path(split_location(named)[0])
    except UserError:
        return None


def _hash(plain: Path | None) -> str | None:
    file = None if plain is None else weights_file(plain)
    return None if file is None else hashlib.sha256(file.read_bytes()).hexdigest()
