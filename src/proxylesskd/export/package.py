"""Everything about an export in a folder: its files, ``export.json``, the table ``export.md`` and ``card.md``."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from proxylesskd.data.pairs import Pairs
from proxylesskd.errors import UserError
from proxylesskd.evaluation.embed import embed_images, pair_scores
from proxylesskd.evaluation.evaluation import measure
from proxylesskd.export.agreement import supported_far
from proxylesskd.export.assemble import FLOAT, InputKind, calling_of
from proxylesskd.export.card import card_text, write_card
from proxylesskd.export.contract import TEMPLATE, Contract
from proxylesskd.export.deliver import FORMATS, LOSSY, Artefact, Material, check_format, make_files
from proxylesskd.export.faults import Truth
from proxylesskd.export.lineage import teacher_of_run, weights_file
from proxylesskd.export.measured import read_evaluation
from proxylesskd.export.onnx import as_faces, embed_reference, float_file, frozen_copy, network_graph
from proxylesskd.export.run_folder import read_json, read_toml
from proxylesskd.export.ship import provenance, write_json
from proxylesskd.export.speed import machine_name
from proxylesskd.export.table import REPEATS, Row, markdown, time_together
from proxylesskd.export.thresholds import thresholds_of
from proxylesskd.models.count import count_multiply_adds, count_parameters
from proxylesskd.models.preprocess import Preprocessing
from proxylesskd.models.teacher import Teacher
from proxylesskd.models.torch_network import TorchNetwork

FACES = 64  # of the gate where there are no pairs

Faces = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Delivery:
    """What :func:`deliver` wrote.

    Attributes:
        rows: of the table, the teacher's first.
        artefacts: the files.
        card: path of ``card.md``.
        table: the table as Markdown.
    """

    rows: tuple[Row, ...]
    artefacts: tuple[Artefact, ...]
    card: Path
    table: str


@dataclass(frozen=True)
class TeacherFile:
    """The teacher, for the first row.

    Attributes:
        embedder: the teacher.
        path: its file or run folder.
    """

    embedder: Teacher
    path: Path


def deliver(
    folder: Path,
    model: nn.Module,
    preprocessing: Preprocessing,
    *,
    training: Faces,
    pairs: Pairs | None = None,
    formats: Sequence[str] = ("onnx",),
    kind: InputKind = FLOAT,
    flip_fusion: bool = False,
    teacher: TeacherFile | None = None,
    weights: str | None = None,
    metadata: Mapping[str, str] | None = None,
    stem: str = "student",
    force: bool = False,
    repeats: int = REPEATS,
) -> Delivery:
    """Export a network in several formats, each through the gate, and describe what came out.

    Args:
        folder: the run folder; what it tells of training, evaluation and classifier goes into the card.
        model: ``[B, 3, S, S] float -> [B, D]`` un-normalised embedding; left as it is.
        preprocessing: how it wants its images.
        training: ``[N, 3, 112, 112] uint8`` training faces: they calibrate eight bits, and without pairs they are the
            faces of the gate.
        pairs: the verification set of the gate.
        formats: among :data:`proxylesskd.export.deliver.FORMATS`; fp16 and int8 need pairs.
        kind: what the files take.
        flip_fusion: add the embedding of the mirrored face inside the files.
        teacher: for the table and the thresholds across models.
        weights: sha256 of the weights.
        metadata: such as a licence, recorded as text.
        stem: of the files' names.
        force: keep also what the gate refuses.
        repeats: timed calls.

    Raises:
        UserError: a package is missing, the faces are unusable, or the gate refuses a file; those that pass stand.
    """
    _check_formats(formats, pairs)
    material = _material(
        folder, model, preprocessing, training, pairs, kind, flip_fusion, teacher, weights, dict(metadata or {}), stem
    )
    made, refused = make_files(material, folder, stem, formats, force=force)
    if not made:
        raise UserError(f"refused, nothing was written: {'; '.join(refused)}")
    rows = tuple(_rows(material, made, teacher, repeats))
    table = markdown(rows)
    counts = {
        "parameters": count_parameters(model),
        "multiply_adds": count_multiply_adds(model, preprocessing.size),
    }
    card = _write(folder, _told(material.contract, made[0], counts, stem) | _measured(rows, made[0], pairs), table)
    if refused:
        kept = ", ".join(one.path.name for one in made)
        raise UserError(f"refused: {'; '.join(refused)}; written were {kept}; --force keeps what was refused")
    return Delivery(rows, tuple(made), card, table)


def _measured(rows: Sequence[Row], first: Artefact, pairs: Pairs | None) -> dict[str, Any]:
    main = next(row for row in rows if row.file == first.path.name)
    return {
        "pairs": None if pairs is None else f"{pairs.name} ({int(pairs.same.sum())} genuine, {len(pairs)} pairs)",
        "machine": machine_name(),
        "latencies": [one.to_dict() for one in main.latencies],
        "artefacts": [row.to_dict() for row in rows],
    }


def _write(folder: Path, told: dict[str, Any], table: str) -> Path:
    write_json(folder / "export.json", {**told, "table": table})
    (folder / "export.md").write_text(table, encoding="utf-8")
    return write_card(folder)


def _check_formats(formats: Sequence[str], pairs: Pairs | None) -> None:
    if not formats:
        raise UserError(f"expected a format among {', '.join(FORMATS)}, found none")
    for name in formats:
        check_format(name)
    lossy = [name for name in formats if name in LOSSY]
    if lossy and pairs is None:
        raise UserError(f"expected a verification set for the gate of {', '.join(lossy)}, found none; give --pairs")


def _material(
    folder: Path,
    model: nn.Module,
    preprocessing: Preprocessing,
    training: Faces,
    pairs: Pairs | None,
    kind: InputKind,
    flip_fusion: bool,
    teacher: TeacherFile | None,
    weights: str | None,
    metadata: dict[str, str],
    stem: str,
) -> Material:
    faces = as_faces(training[:FACES] if pairs is None else pairs.images)
    network = frozen_copy(model)
    reference = embed_reference(network, preprocessing, faces, flip=flip_fusion)
    thresholds, calibration = thresholds_of(
        folder, pairs, reference, None if teacher is None else teacher.embedder, flip=flip_fusion
    )
    contract = Contract(
        calling_of(preprocessing, kind),
        reference.shape[1],
        True,
        TEMPLATE,
        {**provenance(folder), **metadata},
        dtype=kind.dtype,
        flip_fusion=flip_fusion,
        weights=weights,
        teacher=_teacher(teacher, folder),
        thresholds=thresholds,
        calibration=calibration,
    )
    truth = Truth(preprocessing, network_graph(network, preprocessing), faces, reference)
    card = _inner_card(folder, contract, stem)
    return Material(network, preprocessing, kind, flip_fusion, contract, truth, pairs, training, card)


def _teacher(teacher: TeacherFile | None, folder: Path) -> dict[str, str]:
    """Return what the file says of its teacher: a gallery that this one made may be searched with it."""
    if teacher is None:
        return teacher_of_run(folder)
    file = weights_file(teacher.path)
    assert file is not None  # the teacher was opened from it
    embedder = teacher.embedder
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    return {"name": embedder.name, "fingerprint": embedder.fingerprint, "sha256": sha256}


def _inner_card(folder: Path, contract: Contract, stem: str) -> str:
    """Return the card as it stands inside of files, which cannot hold their own size and hash."""
    told = _told(contract, None, {}, stem)
    return card_text(
        told,
        evaluation=read_evaluation(folder / "evaluation.json"),
        recipe=read_toml(folder / "recipe.toml"),
        classifier=read_json(folder / "classifier.json"),
    )


def _told(contract: Contract, first: Artefact | None, counts: Mapping[str, int], stem: str) -> dict[str, Any]:
    calling = {**contract.preprocessing.to_dict(), "alignment": [list(point) for point in contract.alignment]}
    told: dict[str, Any] = {
        "file": f"{stem}.onnx" if first is None else first.path.name,
        "opset": None if first is None else first.notes.get("opset"),
        "dim": contract.dim,
        "normalised": contract.normalised,
        "dtype": contract.dtype,
        "flip_fusion": contract.flip_fusion,
        "preprocessing": calling,
        "provenance": dict(contract.provenance),
        "weights": contract.weights,
        **counts,
    }
    return told if first is None else told | {"bytes": first.size, "sha256": first.sha256}


def _rows(material: Material, made: Sequence[Artefact], teacher: TeacherFile | None, repeats: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as place:
        files = {one.name: one.path for one in made if one.agreement is not None}
        timed = {} if teacher is None else {"teacher": _as_onnx(teacher, Path(place))}
        times = time_together({**timed, **files}, repeats=repeats)
        rows = [] if teacher is None else [_teacher_row(teacher, material, timed["teacher"], times["teacher"])]
    for one in made:
        found = one.agreement
        accuracy, tar = (found.accuracy, found.tar) if found else (None, None)
        rows.append(
            Row(
                name=one.name,
                file=one.path.name,
                size=one.size,
                accuracy=None if accuracy is None else accuracy.file,
                tar=None if tar is None else tar.file,
                far=found.far if found else None,
                agreement=found,
                refused=one.refused,
                latencies=times.get(one.name, ()),
                sha256=one.sha256,
                notes=one.notes,
            )
        )
    return rows


def _as_onnx(teacher: TeacherFile, place: Path) -> Path:
    """Return the teacher as an ONNX file, so that it is timed in the same runtime as its student."""
    if teacher.path.suffix.lower() == ".onnx":
        return teacher.path
    network = teacher.embedder.network
    if not isinstance(network, TorchNetwork):
        raise UserError(f"expected a teacher in PyTorch or ONNX, found '{teacher.path}'")
    frozen = frozen_copy(network.module)
    preprocessing = teacher.embedder.preprocessing
    path = place / "teacher.onnx"
    path.write_bytes(float_file(network_graph(frozen, preprocessing), preprocessing, FLOAT).SerializeToString())
    return path


def _teacher_row(teacher: TeacherFile, material: Material, path: Path, latencies: Any) -> Row:
    size, pairs = path.stat().st_size, material.pairs
    if pairs is None:
        return Row("teacher", None, size, None, None, None, latencies=latencies)
    units = embed_images(teacher.embedder, pairs.images, flip=material.flip_fusion)
    found, far = measure(pair_scores(units, units, pairs), pairs, replicates=0), supported_far(pairs)
    tar = None if far is None else found.tar[far].value
    return Row("teacher", None, size, found.accuracy.value, tar, far, latencies=latencies)
