"""What stands in a cell's folder already: nothing, a part, or all of it; and whether it was made as it would be now."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from proxylesskd.comparison.cell import EVALUATED, FAILURE, MEASURED, SETTINGS, evaluation_of
from proxylesskd.comparison.plan import Cell
from proxylesskd.errors import UserError
from proxylesskd.export.run_folder import read_json
from proxylesskd.export.ship import write_json
from proxylesskd.recipe import Recipe
from proxylesskd.recipe_fit import shaping
from proxylesskd.training.checkpoint import canonical_settings


def settings_of(cell: Cell, fingerprints: Mapping[str, str]) -> dict[str, str]:
    """Return what must be equal for a cell to be the one that is asked for.

    Args:
        cell: which one.
        fingerprints: of the training faces and, where they are given, of classifier and teacher.
    """
    shared = {f"{name} (sha256)": value for name, value in fingerprints.items() if name != "pairs"}
    return canonical_settings(shaping(cell.recipe) | shared)


def claim(cell: Cell, fingerprints: Mapping[str, str]) -> None:
    """Take a cell's folder, or find it taken for the same training.

    Raises:
        UserError: it was begun with other settings; names the first that differs.
    """
    now, path = settings_of(cell, fingerprints), cell.folder / SETTINGS
    found = read_json(path)
    if found is None:
        if (cell.folder / "recipe.toml").exists():
            raise UserError(f"expected no run in '{cell.folder}' but one of a comparison, found another; give --out")
        cell.folder.mkdir(parents=True, exist_ok=True)
        write_json(path, now)
        return
    # A setting that did not exist then had the value that is the default now.
    before = canonical_settings(Recipe().to_dict()) | {str(key): str(value) for key, value in found.items()}
    for key, value in now.items():
        if before.get(key) != value:
            raise UserError(
                f"expected the cell '{cell}' with the settings of now, found {key} = {before.get(key, 'absent')} in "
                f"'{cell.folder}' and {value} now; give the earlier value, or another --out"
            )


def is_finished(cell: Cell, pairs: str, gallery: str) -> bool:
    """Say whether a cell is trained, and evaluated on these pairs with this gallery.

    Args:
        cell: which one.
        pairs: fingerprint of the verification set.
        gallery: fingerprint of the teacher, or empty where there is no gallery for this student.
    """
    folder = cell.folder
    return (folder / MEASURED).is_file() and read_json(folder / EVALUATED) == evaluation_of(pairs, gallery)


def failure_of(folder: Path) -> str | None:
    """Return why a cell failed at the last attempt, or None."""
    told = read_json(folder / FAILURE)
    return None if told is None else str(told.get("reason", "no reason given"))
