"""A model as recognition sees it: faces in, unit embeddings out, what they mean, and whose gallery they may search."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from proxylesskd.errors import UserError, needing_training
from proxylesskd.recognition.thresholds import CROSS, SINGLE, UNKNOWN, Scale, read_scales, scale_of

if TYPE_CHECKING:
    from proxylesskd.export.contract import Contract
    from proxylesskd.models.teacher import Teacher

Faces = npt.NDArray[np.uint8]  # [M, 3, 112, 112] RGB
Embeddings = npt.NDArray[np.float32]  # [M, D]
CHUNK = 16  # faces at a time: larger batches leave a CPU's caches and are no faster
PAIR_LISTS = (".bin", ".txt", ".csv")


@dataclass(frozen=True)
class RecognitionModel:
    """A model and what is known of it.

    Attributes:
        name: what a person calls it.
        dim: length D of an embedding.
        identity: hash by which a gallery knows it again: of the weights, or of weights and preprocessing. The files
            that one export writes in several precisions share it.
        hashes: all hashes it is known by, ``identity`` and that of its file among them.
        teacher: what the model says of its teacher: name and hashes.
        scales: what its similarities mean, by mode.
        run: ``[M, 3, 112, 112] uint8`` RGB to ``[M, D]`` of any length.
        source: where it was opened, for the projection that may lie there.
        fingerprint: hash of weights and preprocessing; None of exported files, where the preprocessing is part of the
            weights' hash or of the file.
    """

    name: str
    dim: int
    identity: str
    hashes: frozenset[str]
    teacher: Mapping[str, str]
    scales: Mapping[str, Scale]
    run: Callable[[Faces], npt.NDArray[Any]] = field(repr=False)
    source: Path | None = None
    fingerprint: str | None = None

    def embed(self, faces: Faces) -> Embeddings:
        """Turn aligned faces ``[M, 3, 112, 112] uint8`` RGB into ``[M, D] float32`` of unit length.

        Raises:
            UserError: an embedding is zero or not finite.
        """
        parts = [self.run(faces[start : start + CHUNK]) for start in range(0, len(faces), CHUNK)]
        found = np.concatenate([np.empty((0, self.dim), np.float32), *parts])
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        if not (np.isfinite(lengths) & (lengths > 0)).all():
            raise UserError(
                f"expected finite embeddings from '{self.name}', found zero or non-finite ones; check the model"
            )
        unit: Embeddings = (found / lengths).astype(np.float32)
        return unit

    def scale(self, mode: str) -> Scale:
        """Return what similarities mean in a mode; one that knows nothing where the model does not say."""
        return self.scales.get(mode, UNKNOWN)

    def taught_by(self, hashes: frozenset[str] | set[str]) -> bool:
        """Say whether a model of one of these hashes is the teacher that this one names."""
        return any(value in hashes for key, value in self.teacher.items() if key != "name")


def check_model(path: str | Path) -> Path:
    """Return where a model stands, without opening it.

    Raises:
        UserError: nothing stands there.
    """
    from proxylesskd.models.location import split_location

    plain, _ = split_location(path)
    if not plain.exists():
        raise UserError(
            f"expected a model (an exported .onnx file, a run folder, or what load_teacher takes) at '{plain}', "
            "found nothing"
        )
    return plain


def open_model(path: str | Path, *, calibration: str | Path | None = None) -> RecognitionModel:
    """Open a model: an exported file says all that is needed; anything that ``load_teacher`` takes will do.

    Args:
        path: of the exported file, a run folder (whose evaluation gives the thresholds), or a foreign model with its
            options, ``PATH:mean=0,std=1``.
        calibration: says what similarities mean, in place of the model: the folder of an evaluation, its
            ``evaluation.json``, or a verification set that :func:`proxylesskd.read_pairs` reads, on which the model is
            then evaluated.

    Raises:
        UserError: nothing usable stands there.
    """
    plain = check_model(path)
    session = _session(plain)
    found = _network(path, plain) if session is None else _artefact(session, plain)
    if calibration is None:
        return found
    if Path(calibration).suffix.lower() in PAIR_LISTS:
        return replace(found, scales=_measured(path, calibration))
    return replace(found, scales=read_scales(calibration, found))


def _session(path: Path) -> Any:
    """Return the session of an exported file, None of everything else."""
    from proxylesskd.export.contract import KEY, open_session

    if path.suffix.lower() != ".onnx" or path.is_dir():
        return None
    session = open_session(path)
    return session if KEY in session.get_modelmeta().custom_metadata_map else None


def _artefact(session: Any, path: Path) -> RecognitionModel:
    from proxylesskd.export.contract import INPUT, OUTPUT, contract_of, prepare

    contract = contract_of(session, path)
    _check_alignment(contract, path)

    def run(faces: Faces) -> npt.NDArray[Any]:
        inputs = prepare(faces, contract.preprocessing, contract.dtype)
        try:
            found = np.asarray(session.run([OUTPUT], {INPUT: inputs})[0])
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            raise UserError(f"'{path}' refuses a batch of {len(faces)}: {str(error)[:200]}; export it again") from error
        if found.shape != (len(faces), contract.dim):
            raise UserError(f"expected [{len(faces)}, {contract.dim}] from '{path}', found {list(found.shape)}")
        return found

    file = hashlib.sha256(path.read_bytes()).hexdigest()
    identity = contract.weights or file
    scales = _scales(contract, path)
    return RecognitionModel(
        path.stem, contract.dim, identity, frozenset({identity, file}), contract.teacher, scales, run, path
    )


def _check_alignment(contract: Contract, path: Path) -> None:
    from proxylesskd.photos.transform import TEMPLATE

    if np.shape(contract.alignment) != TEMPLATE.shape or np.abs(np.array(contract.alignment) - TEMPLATE).max() > 0.01:
        raise UserError(f"expected '{path}' to want faces aligned to the usual five points, found other ones")


def _scales(contract: Contract, path: Path) -> dict[str, Scale]:
    modes = contract.thresholds.keys() | contract.calibration.keys()
    try:
        return {mode: scale_of(contract.thresholds.get(mode, {}), contract.calibration.get(mode)) for mode in modes}
    except (KeyError, ValueError) as error:
        raise UserError(f"expected thresholds by FAR in the contract of '{path}', found {error!r}") from error


def _network(path: str | Path, plain: Path) -> RecognitionModel:
    """Open what is no exported file, by PyTorch's side of the house."""
    with needing_training(f"a model that is no exported file, such as '{plain.name}',"):
        from proxylesskd.export.lineage import teacher_of_run
        from proxylesskd.teacher import load_teacher

    teacher = load_teacher(path)
    file = hashlib.sha256(_weights_of(plain).read_bytes()).hexdigest()
    # A run's weights say how they want their images, so that their hash is enough; what is exported from them names it.
    whole = Path(path) == plain and _weights_of(plain).name in _run_weights()
    identity = file if whole else teacher.fingerprint
    scales, taught = {}, {}
    if plain.is_dir():
        taught = teacher_of_run(plain)
        scales = read_scales(plain) if whole and (plain / "evaluation.json").is_file() else {}
    known = frozenset({identity, file, teacher.fingerprint})
    run, mark = _by_torch(teacher), teacher.fingerprint
    return RecognitionModel(teacher.name, teacher.dim, identity, known, taught, scales, run, plain, mark)


def _run_weights() -> tuple[str, ...]:
    from proxylesskd.models.weights import RUN_WEIGHTS

    return RUN_WEIGHTS


def _weights_of(path: Path) -> Path:
    return path if path.is_file() else next(path / name for name in _run_weights() if (path / name).is_file())


def _by_torch(teacher: Teacher) -> Callable[[Faces], npt.NDArray[Any]]:
    def run(faces: Faces) -> npt.NDArray[Any]:
        import torch

        found: npt.NDArray[Any] = teacher.embed(torch.tensor(faces)).cpu().numpy()
        return found

    return run


def _measured(path: str | Path, pairs: str | Path) -> dict[str, Scale]:
    """Evaluate the model on pairs of aligned faces."""
    with needing_training("calibrating on pairs"):
        from proxylesskd.evaluation.evaluation import evaluate

    found = evaluate(path, pairs, replicates=0).single.to_dict()
    rates = {str(rate["far"]): rate["threshold"] for rate in found["tar"] if rate["threshold"] is not None}
    return {SINGLE: scale_of(rates, found["calibration"])}


__all__ = ["CROSS", "SINGLE", "Embeddings", "Faces", "RecognitionModel", "check_model", "open_model"]
