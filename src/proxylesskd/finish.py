"""What is done to a finished run: evaluate it into its folder, and ship it from there."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from proxylesskd.data.decode import decode
from proxylesskd.data.pairs import Pairs, make_pairs
from proxylesskd.data.source import Source, open_source
from proxylesskd.errors import CorruptImageError, UserError
from proxylesskd.evaluation import Evaluation, evaluate
from proxylesskd.export.assemble import input_kind
from proxylesskd.export.deliver import LOSSY, check_format
from proxylesskd.export.package import Delivery, TeacherFile, deliver
from proxylesskd.export.ship import Shipment, ship
from proxylesskd.models.embedder import Embedder
from proxylesskd.models.joined import JoinedEmbedder
from proxylesskd.models.location import split_location
from proxylesskd.models.weights import RUN_WEIGHTS, load_model
from proxylesskd.report.wrong_pairs import most_wrong_pairs, save_wrong_pairs
from proxylesskd.teacher import load_teacher


def evaluate_into(
    folder: str | Path,
    model: Embedder | nn.Module | str | Path,
    pairs: Pairs,
    *,
    gallery: Embedder | nn.Module | str | Path | None = None,
    projection: Tensor | str | Path | None = None,
    flip: bool = False,
    replicates: int = 1000,
    seed: int = 0,
    name: str | None = None,
    progress: bool = False,
) -> Evaluation:
    """Evaluate a model and leave numbers, pictures and the most wrong pairs in a folder.

    Args:
        folder: usually the run folder.
        model: the probe model.
        pairs: the verification set.
        gallery: the model that made the gallery, for the cross-model mode.
        projection: for a gallery of another dimension, see :func:`proxylesskd.evaluation.evaluate`.
        flip: add the embedding of the mirror image.
        replicates: of the bootstrap.
        seed: of the bootstrap.
        name: of the model, for tables.
        progress: draw progress bars.

    Raises:
        UserError: as :func:`proxylesskd.evaluation.evaluate`.
    """
    folder = Path(folder)
    result = evaluate(
        model,
        pairs,
        gallery=gallery,
        projection=projection,
        flip=flip,
        replicates=replicates,
        seed=seed,
        name=name,
        progress=progress,
    )
    result.save(folder)
    threshold = result.single.threshold
    wrong = most_wrong_pairs(pairs, result.single.scores, threshold)
    save_wrong_pairs(folder, wrong, threshold=threshold, model=result.name)
    return result


def gallery_of(models: Sequence[str]) -> Embedder | None:
    """Open the model that made a gallery, or the two whose embeddings stand side by side in it.

    Args:
        models: none, one or two paths that :func:`proxylesskd.load_teacher` takes, in the order in which their
            classifiers were concatenated.

    Raises:
        UserError: there are more than two, or one cannot be opened.
    """
    if len(models) > 2:
        raise UserError(f"expected at most two models of one gallery, found {len(models)}")
    opened = [load_teacher(path) for path in models]
    if len(opened) == 2:
        return JoinedEmbedder(opened[0], opened[1])
    return opened[0] if opened else None


def export_run(run: str | Path, images: Source | str, *, count: int = 64, architecture: str | None = None) -> Shipment:
    """Export the network of a run folder as ONNX, checked on ``count`` faces spread over a source.

    Args:
        run: the run folder.
        images: faces, or the URI of their source.
        count: how many are tried.
        architecture: ``package.module:factory`` of a run with a network of one's own.

    Raises:
        UserError: the folder holds no finished run, the source no readable face, or the file fails its check.
    """
    run = Path(run)
    weights = _weights_of(run)
    model, preprocessing = load_model(weights, architecture=architecture)
    source = open_source(images) if isinstance(images, str) else images
    return ship(run, model, preprocessing, images=_faces(source, count), name=weights.stem)


def _weights_of(run: Path) -> Path:
    weights = next((run / name for name in RUN_WEIGHTS if (run / name).is_file()), None)
    if weights is None:
        raise UserError(f"expected {' or '.join(RUN_WEIGHTS)} in '{run}', found neither; is the run finished?")
    return weights


def export_files(
    run: str | Path,
    images: Source | str,
    *,
    formats: Sequence[str] = ("onnx",),
    pairs: Pairs | None = None,
    taking: str = "float",
    flip_fusion: bool = False,
    teacher: str | Path | None = None,
    licence: str | None = None,
    count: int = 192,
    architecture: str | None = None,
    force: bool = False,
) -> Delivery:
    """Export the network of a run folder in several formats, each through the gate.

    Args:
        run: the run folder.
        images: training faces, or the URI of their source: eight bits are calibrated on them.
        formats: among ``onnx``, ``fp16``, ``int8``, ``litert``, ``executorch`` and ``coreml``.
        pairs: the verification set of the gate. Without one, fp16 and int8 are held against 300 genuine and 3,000
            impostor pairs drawn from ``images``, and other formats against the cosine of faces alone.
        taking: what the files take, see :data:`proxylesskd.export.assemble.KINDS`.
        flip_fusion: add the embedding of the mirrored face inside the files.
        teacher: path of the teacher, for the first row of the table.
        licence: recorded as it is.
        count: training faces for calibration.
        architecture: ``package.module:factory`` of a run with a network of one's own.
        force: keep also what the gate refuses.

    Raises:
        UserError: the folder holds no finished run, a format or kind of input is unknown, a package is missing, the
            faces do not do, or the gate refuses a file.
    """
    run = Path(run)
    kind, weights = input_kind(taking), _weights_of(run)
    for name in formats:
        check_format(name)
    model, preprocessing = load_model(weights, architecture=architecture)
    source = open_source(images) if isinstance(images, str) else images
    if pairs is None and any(name in LOSSY for name in formats):
        pairs = make_pairs(source, genuine=300, impostor=3000)
    opened = None if teacher is None else TeacherFile(load_teacher(teacher), Path(split_location(teacher)[0]))
    return deliver(
        run,
        model,
        preprocessing,
        training=_faces(source, count),
        pairs=pairs,
        formats=formats,
        kind=kind,
        flip_fusion=flip_fusion,
        teacher=opened,
        weights=hashlib.sha256(weights.read_bytes()).hexdigest(),
        metadata={} if licence is None else {"licence": licence},
        stem=weights.stem,
        force=force,
    )


def _faces(source: Source, count: int) -> np.ndarray:
    """Return ``[M <= count, 3, 112, 112] uint8`` faces, spread evenly over the source."""
    faces = []
    for index in np.linspace(0, len(source) - 1, min(count, len(source))).astype(int).tolist():
        try:
            faces.append(decode(source.read(index)[0]))
        except CorruptImageError:  # a check needs faces, not all faces; training counts the corrupt ones
            continue
    if not faces:
        raise UserError("expected readable faces to check the export on, found none; give another source")
    return np.stack(faces)
