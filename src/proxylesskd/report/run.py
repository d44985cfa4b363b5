"""A run folder read into memory: the run itself, the models it is compared with, and what was saved about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxylesskd.errors import UserError
from proxylesskd.export.measured import Evaluated, read_evaluation
from proxylesskd.export.run_folder import read_json, read_toml
from proxylesskd.report.curves import read_rows
from proxylesskd.report.differences import PairedDifference, read_differences

OWN, ALONE, TEACHER = 0, 1, 2
OTHERS = (3, 4, 5)
LATENCY = ("batch", "threads", "milliseconds", "images_per_second")
METHODS_COMPARED = "comparison of methods"  # the kind of another file of that name
OWN_FILES = ("recipe.toml", "evaluation.json", "metrics.jsonl")


@dataclass(frozen=True)
class Model:
    """One model on the page.

    Attributes:
        name: what the page calls it.
        folder: where its files stand.
        colour: number of the colour class.
        main: whether the page is about this one.
        evaluation: its evaluation, or None.
        rows: of its ``metrics.jsonl``.
        file: content of its ``export.json`` or ``speed.json``, or None.
    """

    name: str
    folder: Path
    colour: int
    main: bool
    evaluation: Evaluated | None
    rows: Sequence[Mapping[str, Any]]
    file: Mapping[str, Any] | None


@dataclass(frozen=True)
class Run:
    """A run folder.

    Attributes:
        folder: where the page stands.
        recipe: tables of the main model's ``recipe.toml``, or None.
        classifier: content of its ``classifier.json``, or None.
        models: what is compared, the main one included.
        differences: between them, paired.
    """

    folder: Path
    recipe: Mapping[str, Any] | None
    classifier: Mapping[str, Any] | None
    models: tuple[Model, ...]
    differences: tuple[PairedDifference, ...] = ()

    @property
    def main(self) -> Model:
        """The model that the page is about."""
        return next(model for model in self.models if model.main)


def read_run(folder: Path) -> Run:
    """Read a run folder: its own files, ``baselines/<name>/`` and the folders that ``comparison.json`` names.

    Raises:
        UserError: there is no such folder, or a file in it is malformed.
    """
    if not folder.is_dir():
        raise UserError(f"expected a run folder, found none at '{folder}'; give the folder that a training wrote")
    folders = _compared(folder)
    itself = any(where.resolve() == folder.resolve() for where in folders.values())
    if not folders or (not itself and any((folder / name).is_file() for name in OWN_FILES)):
        folders[own_name(folder)] = folder
    main = _main_name(list(folders))
    colours = _colours(list(folders), main)
    models = tuple(_read_model(name, where, colours[name], name == main) for name, where in folders.items())
    home = folders[main]
    return Run(
        folder,
        _read_recipe(home),
        read_json(home / "classifier.json"),
        models,
        tuple(read_differences(folder)),
    )


def own_name(folder: Path) -> str:
    """Return what to call the network that a run trained, by its recipe's method."""
    method = (_read_recipe(folder) or {}).get("method", {}).get("name")
    return {"proxyless": "ProxylessKD student", "alone": folder.resolve().name}.get(str(method), "student")


def _compared(folder: Path) -> dict[str, Path]:
    """Return the folders of the other models by name."""
    baselines = folder / "baselines"
    entries = sorted(entry for entry in baselines.iterdir() if entry.is_dir()) if baselines.is_dir() else []
    # the teacher stands first: it is what all others are measured by
    found = {entry.name: entry for entry in sorted(entries, key=lambda entry: "teacher" not in entry.name.lower())}
    file = folder / "comparison.json"
    told = read_json(file) or {}
    if told.get("kind") == METHODS_COMPARED:
        raise UserError(
            f"expected a run folder, found a comparison of methods in '{folder}'; its page is report.html there, "
            "which `proxylesskd compare` with --no-train writes anew"
        )
    for name, where in told.items():
        if not isinstance(where, str) or not (folder / where).is_dir():
            raise UserError(f"expected {file} to map names to existing folders, found {name!r}: {where!r}")
        found[name] = folder / where
    return found


def _main_name(names: Sequence[str]) -> str:
    """The ProxylessKD student if there is one, else the last: comparisons are listed from known to new."""
    own = [name for name in names if "proxyless" in name.lower()]
    return (own or list(names))[-1]


def _colours(names: Sequence[str], main: str) -> dict[str, int]:
    colours = {main: OWN}
    for colour, word in ((TEACHER, "teacher"), (ALONE, "alone")):
        fitting = [name for name in names if word in name.lower() and name not in colours]
        colours.update({fitting[0]: colour} if fitting else {})
    rest = [name for name in names if name not in colours]
    free = [colour for colour in (ALONE, TEACHER, *OTHERS) if colour not in colours.values()]
    return {**colours, **{name: free[i % len(free)] for i, name in enumerate(rest)}}


def _read_model(name: str, folder: Path, colour: int, main: bool) -> Model:
    evaluation = read_evaluation(folder / "evaluation.json")
    return Model(name, folder, colour, main, evaluation, read_rows(folder), _read_file(folder))


def _read_file(folder: Path) -> dict[str, Any] | None:
    """Return what was measured of a model's file: exported here, or a teacher's as it came."""
    for path in (folder / "export.json", folder / "speed.json"):
        told = read_json(path)
        if told is not None:
            _check_latencies(path, told.get("latencies", []))
            return told
    return None


def _check_latencies(path: Path, entries: Any) -> None:
    whole = isinstance(entries, list) and all(
        isinstance(entry, Mapping) and all(isinstance(entry.get(name), int | float) for name in LATENCY)
        for entry in entries
    )
    if not whole:
        raise UserError(f"expected latencies with {', '.join(LATENCY)} in {path}, found {entries!r}; export again")


def _read_recipe(folder: Path) -> dict[str, Any] | None:
    path = folder / "recipe.toml"
    recipe = read_toml(path)
    for name in ("data", "model", "method"):
        if recipe and not isinstance(recipe.get(name, {}), Mapping):
            raise UserError(f"expected a table [{name}] in {path}, found {recipe[name]!r}; write it anew or remove it")
    return recipe
