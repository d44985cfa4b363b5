"""Protocols in a comparison: every cell takes them, and the means over seeds stand side by side."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from proxylesskd.comparison.plan import Cell
from proxylesskd.comparison.result import MODES, Mean, Sheet
from proxylesskd.errors import UserError
from proxylesskd.evaluation.gallery import Model
from proxylesskd.export.measured import FEW
from proxylesskd.export.run_folder import read_json
from proxylesskd.export.ship import write_json
from proxylesskd.models.embedder import Embedder
from proxylesskd.protocols.embedding_store import forget
from proxylesskd.protocols.outcome import FILE, FOLDER, Measure, Outcome, read_outcome
from proxylesskd.protocols.take import evaluation_folder, protocol_of, save_outcome, take_protocol

Taken = Sequence[tuple[Cell, Sequence[Outcome]]]
TAKEN = "taken.json"  # protocol as it was asked for -> how it was taken, and the folders of its outcomes


def checked(protocols: Sequence[str]) -> tuple[str, ...]:
    """Return the protocols that are asked for, each a known name, a colon and a path.

    Raises:
        UserError: one is unknown, or has nothing where its data should stand.
    """
    for text in protocols:
        found = protocol_of(text)
        if found is None:
            raise UserError(f"expected a protocol such as ijbc:FOLDER, found '{text}'; pairs are given as --pairs")
        if "/" in found[1] and ":" not in found[1] and not Path(found[1]).exists():
            raise UserError(f"expected the data of '{text}' at '{found[1]}', found nothing there")
    return tuple(dict.fromkeys(protocols))


def way_of(text: str, gallery: str) -> str:
    """Return a hash of how a protocol is taken: its name, the list it reads where that is a file, and the gallery.

    Args:
        text: the protocol.
        gallery: fingerprint of the gallery's model, or empty.
    """
    digest = hashlib.sha256(f"{text}\0{gallery}\0".encode())
    path = Path(text.partition(":")[2])
    if path.is_file():
        digest.update(path.read_bytes())
    return digest.hexdigest()


def is_taken(folder: Path, protocols: Sequence[str], gallery: str) -> bool:
    """Say whether a folder holds the outcomes of all protocols, taken as they would be now."""
    return all(_folders(folder, text, gallery) is not None for text in protocols)


def take_all(
    folder: Path,
    model: Embedder,
    protocols: Sequence[str],
    *,
    gallery: Model | None = None,
    fingerprint: str = "",
    projection: str | None = None,
    name: str = "",
) -> None:
    """Take what was not taken yet, and forget the model's embeddings: there may be hundreds of cells.

    Args:
        folder: of the run; outcomes go into ``protocols/``.
        model: makes the probes.
        protocols: as :func:`proxylesskd.protocols.take.take_protocol` takes them.
        gallery: the teacher, whose embeddings are kept for all cells; None for single mode alone.
        fingerprint: of the gallery's model.
        projection: path of the classifier through which the gallery is projected.
        name: of the method.

    Raises:
        UserError: a protocol's data or the model cannot be used.
    """
    for text in protocols:
        if _folders(folder, text, fingerprint) is not None:
            continue
        cache = evaluation_folder()
        outcomes = take_protocol(
            text, model, gallery=gallery, projection=projection, cache=cache, name=name or None, progress=False
        )
        made = [save_outcome(outcome, folder).name for outcome in outcomes]
        told = read_json(folder / TAKEN) or {}
        write_json(folder / TAKEN, {**told, text: {"way": way_of(text, fingerprint), "folders": made}})
        if gallery is not None or name:
            forget(cache, model)


def _folders(folder: Path, text: str, gallery: str) -> list[Path] | None:
    """Return the folders of a protocol's outcomes, None where it was not taken in this way."""
    told: Any = (read_json(folder / TAKEN) or {}).get(text)
    if not isinstance(told, dict) or told.get("way") != way_of(text, gallery):
        return None
    found = [folder / FOLDER / Path(str(name)).name for name in told.get("folders", [])]
    return found if found and all((one / FILE).is_file() for one in found) else None


def outcomes_of(folder: Path, protocols: Sequence[str], gallery: str) -> list[Outcome]:
    """Read what a run found in some protocols; those that were not taken in this way are left out.

    Raises:
        UserError: a file is malformed.
    """
    return [read_outcome(one) for text in protocols for one in _folders(folder, text, gallery) or ()]


def sheets(taken: Taken, teacher: tuple[str, Sequence[Outcome]] | None) -> list[Sheet]:
    """Set the outcomes of all cells side by side: students, within them protocols, within them modes.

    Args:
        taken: finished cells, each with its outcomes.
        teacher: its name in the tables and its outcomes, or None.
    """
    found = list[Sheet]()
    for student in dict.fromkeys(cell.student for cell, _ in taken):
        own = [(cell, outcomes) for cell, outcomes in taken if cell.student == student]
        titles = dict.fromkeys(one.protocol for _, outcomes in own for one in outcomes)
        found += [_sheet(student, title, mode, own, teacher) for title in titles for mode in MODES]
    return [sheet for sheet in found if any(sheet.seeds.values())]


def _sheet(student: str, title: str, mode: str, taken: Taken, teacher: tuple[str, Sequence[Outcome]] | None) -> Sheet:
    rows, seeds = dict[str, dict[str, Mean]](), dict[str, tuple[int, ...]]()
    for method in dict.fromkeys(cell.method for cell, _ in taken):
        each = {
            cell.seed: found
            for cell, outcomes in taken
            if cell.method == method and (found := _measures(outcomes, title, mode)) is not None
        }
        if each:
            rows[method], seeds[method] = _means(list(each.values())), tuple(each)
    if teacher is not None and (own := _measures(teacher[1], title, mode)) is not None:
        rows[teacher[0]], seeds[teacher[0]] = _means([own]), ()
    names = dict.fromkeys(name for row in rows.values() for name in row)
    return Sheet(title, student, mode, tuple(names), rows, seeds)


def _measures(outcomes: Sequence[Outcome], title: str, mode: str) -> Mapping[str, Measure] | None:
    """Return what a protocol found in a mode, or None where it was not taken in it."""
    return next((one.measures[mode] for one in outcomes if one.protocol == title and mode in one.measures), None)


def _means(seeds: Sequence[Mapping[str, Measure]]) -> dict[str, Mean]:
    found = dict[str, Mean]()
    for name in dict.fromkeys(name for one in seeds for name in one):
        each = [one[name] for one in seeds if name in one and one[name].value is not None]
        if len(each) == len(seeds):  # a mean over some of the seeds would be compared with one over all
            found[name] = _mean(each)
    return found


def _mean(each: Sequence[Measure]) -> Mean:
    values = [one.value for one in each if one.value is not None]
    few = any(one.allowed is not None and one.allowed < FEW for one in each)
    if len(each) > 1:
        return Mean(mean(values), stdev(values), few=few)
    return Mean(values[0], None, each[0].lower, each[0].upper, few)
