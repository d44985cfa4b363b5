"""From a trained network to all the files that leave the house: made, put through the gate, measured, described."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from proxylesskd.data.pairs import Pairs
from proxylesskd.errors import UserError, nearest
from proxylesskd.export.agreement import LIMITS, Agreement, Limits, agreement
from proxylesskd.export.assemble import InputKind, assemble
from proxylesskd.export.contract import Contract, prepare
from proxylesskd.export.faults import Truth, batch_fault, likely_fault
from proxylesskd.export.gate import LENGTH_TOLERANCE, check_form
from proxylesskd.export.half import to_half
from proxylesskd.export.mobile import WRITERS
from proxylesskd.export.onnx import BATCHES, describe, float_file, opset_of
from proxylesskd.export.runtimes import embed_file, open_file, write_beside
from proxylesskd.export.search import quantised
from proxylesskd.export.whole import Whole, example_of
from proxylesskd.models.preprocess import Preprocessing

Faces = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Format:
    """One kind of file.

    Attributes:
        ending: of the file's name.
        limits: name of its limits in :data:`proxylesskd.export.agreement.LIMITS`.
    """

    ending: str
    limits: str


FORMATS: Mapping[str, Format] = {
    "onnx": Format(".onnx", "float32"),
    "fp16": Format(".fp16.onnx", "float16"),
    "int8": Format(".int8.onnx", "int8"),
    **{name: Format(ending, "float32" if name != "coreml" else "float16") for name, (ending, _) in WRITERS.items()},
}
LOSSY = ("fp16", "int8")
LEAST_CALIBRATION = 16


def check_format(name: str) -> None:
    """Raise a UserError unless a format is known."""
    if name not in FORMATS:
        raise UserError(f"expected a format among {', '.join(FORMATS)}, found '{name}'{nearest(name, FORMATS)}")


@dataclass(frozen=True)
class Material:
    """What every file is made from and held against.

    Attributes:
        network: the frozen network.
        preprocessing: how it wants its images.
        kind: what the files take.
        flip_fusion: whether they add the embedding of the mirrored face.
        contract: what ONNX files say about themselves.
        truth: the network's graph, faces of the gate and their embeddings.
        pairs: of these faces; None for no pairs.
        training: ``[N, 3, 112, 112] uint8`` faces for the ranges of eight bits.
        card: what goes into ONNX files for people.
    """

    network: nn.Module
    preprocessing: Preprocessing
    kind: InputKind
    flip_fusion: bool
    contract: Contract
    truth: Truth
    pairs: Pairs | None
    training: Faces
    card: str = ""


@dataclass(frozen=True)
class Artefact:
    """One file that was made and checked.

    Attributes:
        name: of the format.
        path: the file; a folder for Core ML.
        size: in bytes.
        sha256: its hash.
        agreement: with the PyTorch network; None where it could not be run, which only ``force`` allows.
        refused: why the gate would not have it; empty where it passed.
        notes: what was chosen in making it.
    """

    name: str
    path: Path
    size: int
    sha256: str
    agreement: Agreement | None
    refused: str
    notes: Mapping[str, Any] = field(default_factory=dict)


def make_files(
    material: Material, folder: Path, stem: str, formats: Sequence[str], *, force: bool = False
) -> tuple[list[Artefact], list[str]]:
    """Make files, each in its place only when the gate lets it pass.

    Args:
        material: what they are made from.
        folder: where they go.
        stem: of their names.
        formats: among :data:`FORMATS`.
        force: keep also what the gate refuses.

    Returns:
        The files that stand, and for each that does not, why.

    Raises:
        UserError: a package is missing, or the network cannot be converted.
    """
    kept, refused = [], []
    for name in formats:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".export-") as place:
            path = Path(place) / f"{stem}{FORMATS[name].ending}"
            notes = write_file(material, name, path)
            found, complaint = check(path, material, LIMITS[FORMATS[name].limits])
            if complaint and not force:
                refused.append(f"{path.name}: {complaint}")
                continue
            final = _move(path, folder)
        kept.append(Artefact(name, final, _size(final), _hash(final), found, complaint, notes))
    return kept, refused


def write_file(material: Material, name: str, path: Path) -> dict[str, Any]:
    """Write one file unchecked, and return what was chosen in making it.

    Raises:
        UserError: a package is missing, or the network cannot be converted.
    """
    if name in WRITERS:
        whole = Whole(material.network, material.preprocessing, material.kind, flip_fusion=material.flip_fusion)
        WRITERS[name][1](whole.eval(), example_of(material.preprocessing, material.kind, 2), path)
        write_beside(path, material.contract)
        return {}
    makers: dict[str, Callable[[Material], tuple[Any, dict[str, Any]]]] = {
        "onnx": _float, "fp16": _half, "int8": _eight
    }  # fmt: skip
    proto, notes = makers[name](material)
    describe(proto, material.contract, material.card)
    path.write_bytes(proto.SerializeToString())
    return {**notes, "opset": opset_of(proto)}


def _float(material: Material) -> tuple[Any, dict[str, Any]]:
    body, fused = material.truth.body, material.flip_fusion
    return float_file(body, material.preprocessing, material.kind, flip_fusion=fused), {}


def _half(material: Material) -> tuple[Any, dict[str, Any]]:
    return _around(material, to_half(material.truth.body)), {}


def _eight(material: Material) -> tuple[Any, dict[str, Any]]:
    count = len(material.training)
    if count < LEAST_CALIBRATION:
        raise UserError(
            f"expected at least {LEAST_CALIBRATION} training faces to find the ranges of eight bits, found {count}; "
            "give a larger source"
        )
    prepared = prepare(material.training, material.preprocessing)
    ours, others = prepared[: count * 2 // 3], prepared[count * 2 // 3 :]
    body, mixed = quantised(material.truth.body, ours, others)
    return _around(material, body), mixed.to_dict()


def _around(material: Material, body: Any) -> Any:
    return assemble(body, material.preprocessing, material.kind, flip_fusion=material.flip_fusion)


def check(path: Path, material: Material, limits: Limits) -> tuple[Agreement | None, str]:
    """Put a file through the gate: run it in its own runtime, alone and in batches, and compare.

    Returns:
        How it agrees with the network, None when it could not be run; and what is wrong with it in words, naming the
        likely fault, or an empty string.
    """
    if path.suffix == ".onnx":
        check_form(path)
    faces = material.truth.faces
    try:
        found = _embed_every_way(path, faces)
    except UserError as error:
        fault = batch_fault(path, faces, _asked(error)) if path.suffix == ".onnx" else None
        return None, f"{error}" + (f"; most likely {fault}" if fault else "")
    result = agreement(material.truth.reference, found, limits, material.pairs)
    wrong = [*result.complaints(), *_lengths(found)]
    if not wrong:
        return result, ""
    fault = likely_fault(path, material.truth) if path.suffix == ".onnx" else None
    guess = f"; most likely {fault}" if fault else "; no single fault was found, it is off everywhere"
    return result, f"found {' and '.join(wrong)}{guess}"


def _embed_every_way(path: Path, faces: Faces) -> npt.NDArray[np.float32]:
    """Embed faces in large batches, and some of them in others, which must give the same."""
    whole = embed_file(path, faces, batch=min(32, len(faces)))
    if open_file(path).batch is not None:
        _check_declared(path)
        return whole
    for batch in BATCHES:
        some = embed_file(path, faces[:8], batch=batch)
        if not np.allclose(some, whole[:8], atol=1e-3, equal_nan=True):
            raise UserError(
                f"the exported file {path} embeds a face otherwise in a batch of {batch} than in one of "
                f"{min(32, len(faces))}: it mixes the images of a batch"
            )
    return whole


def _check_declared(path: Path) -> None:
    """An ONNX file's batch is free; that of other runtimes may be one image."""
    if path.suffix == ".onnx":
        size = open_file(path).batch
        raise UserError(f"the exported file {path} refuses every batch but {size}: its batch dimension is fixed")


def _asked(error: UserError) -> int:
    words = str(error).split("batch of ")
    return int("".join(letter for letter in words[1][:4] if letter.isdigit()) or 0) if len(words) > 1 else 0


def _lengths(found: npt.NDArray[np.float32]) -> list[str]:
    lengths = np.linalg.norm(found, axis=1)
    worst = int(np.abs(lengths - 1).argmax())
    if abs(lengths[worst] - 1) <= LENGTH_TOLERANCE:
        return []
    return [f"length {lengths[worst]:.6f} instead of 1 for face {worst}"]


def _move(path: Path, folder: Path) -> Path:
    final = folder / path.name
    for one in path.parent.iterdir():
        target = folder / one.name
        if target.is_dir():
            shutil.rmtree(target)
        one.replace(target)
    return final


def _size(path: Path) -> int:
    return sum(one.stat().st_size for one in _files(path))


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    for one in _files(path):
        digest.update(one.read_bytes())
    return digest.hexdigest()


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
