"""What an exported file says about itself: the preprocessing, the alignment and where it came from.

The contract travels inside the ONNX file as the metadata property ``proxylesskd``, in JSON: preprocessing (size, mean,
std, order, layout), dtype, alignment, dim, normalised, flip_fusion, thresholds, hashes and provenance. Whoever holds
the file alone can therefore call it rightly, and the export gate calls it in exactly that way. The property ``card``
holds the model card for people.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from proxylesskd.errors import UserError, require_package
from proxylesskd.models.preprocess import Preprocessing

KEY = "proxylesskd"  # of the metadata property
FORMAT = 1
INPUT = "image"
OUTPUT = "embedding"

# The five points (left eye, right eye, nose, left and right corner of the mouth, as seen in the picture) to
# which faces are aligned in a 112x112 crop: (x, y) in pixels. ArcFace, section 4, and everybody since.
TEMPLATE: tuple[tuple[float, float], ...] = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)
TEMPLATE_SIZE = 112


@dataclass(frozen=True)
class Contract:
    """How an exported file wants to be called and what comes out.

    Attributes:
        preprocessing: from aligned uint8 faces to the file's input.
        dim: length D of an embedding.
        normalised: whether the file itself makes embeddings unit length.
        alignment: five (x, y) points in pixels of a 112x112 crop.
        provenance: where weights and data came from, as text.
        dtype: what the input tensor holds, ``"float32"`` or ``"uint8"``.
        flip_fusion: whether the file adds the embedding of the mirrored face.
        weights: sha256 of the weights it was made from.
        teacher: name and sha256 of the teacher's file, as far as they are known.
        thresholds: by mode (``"single"``, ``"cross"``) and false accept rate (``"1e-3"``), the cosine from which two
            faces count as one person; only rates that the verification set supports.
        calibration: by mode, ``slope`` and ``intercept`` of
            :class:`~proxylesskd.evaluation.calibration.Calibration`, for probabilities.
    """

    preprocessing: Preprocessing
    dim: int
    normalised: bool
    alignment: tuple[tuple[float, float], ...]
    provenance: Mapping[str, str]
    dtype: str = "float32"
    flip_fusion: bool = False
    weights: str | None = None
    teacher: Mapping[str, str] = field(default_factory=dict)
    thresholds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    calibration: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for files."""
        return {
            "format": FORMAT,
            "preprocessing": self.preprocessing.to_dict(),
            "dtype": self.dtype,
            "alignment": [list(point) for point in self.alignment],
            "alignment_size": TEMPLATE_SIZE,
            "dim": self.dim,
            "normalised": self.normalised,
            "flip_fusion": self.flip_fusion,
            "weights": self.weights,
            "teacher": dict(self.teacher),
            "thresholds": _plain(self.thresholds),
            "calibration": _plain(self.calibration),
            "provenance": dict(self.provenance),
        }

    def properties(self) -> dict[str, str]:
        """Return the metadata property of the ONNX file."""
        return {KEY: json.dumps(self.to_dict(), ensure_ascii=False)}


def read_contract(path: Path) -> Contract:
    """Read the contract out of an exported ONNX file.

    Raises:
        UserError: the file is no ONNX file, or does not carry the property in the right form.
    """
    return contract_of(open_session(path), path)


def contract_of(session: Any, path: Path) -> Contract:
    """Return the contract of an opened file.

    Raises:
        UserError: it carries none, or a malformed one.
    """
    properties = session.get_modelmeta().custom_metadata_map
    try:
        return contract_from(json.loads(properties[KEY]))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(
            f"expected ONNX metadata '{KEY}' as JSON in {path}, found {error!r}; "
            "export the model again with proxylesskd export"
        ) from error


def contract_from(told: dict[str, Any]) -> Contract:
    """Return the contract that plain values hold, as :meth:`Contract.to_dict` gives them; raises where they do not."""
    if told["format"] != FORMAT:
        raise ValueError(f"format {told['format']!r} instead of {FORMAT}")
    if told["dtype"] not in ("float32", "uint8"):
        raise ValueError(f"dtype {told['dtype']!r}")
    return Contract(
        preprocessing=Preprocessing.from_dict(told["preprocessing"]),
        dim=int(told["dim"]),
        normalised=bool(told["normalised"]),
        alignment=tuple((float(x), float(y)) for x, y in told["alignment"]),
        provenance={str(key): str(value) for key, value in told["provenance"].items()},
        dtype=told["dtype"],
        flip_fusion=bool(told["flip_fusion"]),
        weights=None if told["weights"] is None else str(told["weights"]),
        teacher={str(key): str(value) for key, value in told["teacher"].items()},
        thresholds=_plain(told["thresholds"]),
        calibration=_plain(told.get("calibration", {})),  # files of before it was kept have none
    )


def _plain(by_mode: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    return {str(mode): {str(key): float(value) for key, value in told.items()} for mode, told in by_mode.items()}


def open_session(path: Path, *, threads: int = 1, content: bytes | None = None) -> Any:
    """Open an ONNX file in onnxruntime on the CPU.

    Args:
        path: the file.
        threads: for one call.
        content: what is run in place of the file's own content.

    Raises:
        UserError: onnxruntime is not installed, or it cannot read the file.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise require_package("onnxruntime", "running an ONNX file") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    if threads > (os.cpu_count() or 1):  # more threads than cores that wait busily keep each other from working
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # its warnings go to the terminal and concern no user
    try:
        return onnxruntime.InferenceSession(content or str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        raise UserError(f"expected an ONNX file that onnxruntime can run, found {path}: {_first(error)}") from error


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def prepare(
    images: npt.NDArray[np.uint8], preprocessing: Preprocessing, dtype: str = "float32"
) -> npt.NDArray[Any]:  # [M, 3, H, W] -> [M, 3, S, S] or [M, S, S, 3]
    """Turn uint8 RGB faces into the file's input with numpy alone, as a user without PyTorch would."""
    pixels = _resize(images.astype(np.float32), preprocessing.size)
    if preprocessing.order == "bgr":
        pixels = pixels[:, ::-1]
    pixels = (pixels - np.float32(preprocessing.mean)) / np.float32(preprocessing.std)
    if preprocessing.layout == "nhwc":
        pixels = pixels.transpose(0, 2, 3, 1)
    if dtype == "uint8":
        pixels = np.rint(pixels).clip(0, 255)
    return np.ascontiguousarray(pixels, dtype=np.dtype(dtype))


def _resize(pixels: npt.NDArray[np.float32], size: int) -> npt.NDArray[np.float32]:
    """Average the source pixels under every target pixel: whole pixels, any overlap counts fully."""
    height, width = pixels.shape[2:]
    if height == size and width == size:
        return pixels
    return _average(_average(pixels, size, axis=2), size, axis=3)


def _average(pixels: npt.NDArray[np.float32], size: int, axis: int) -> npt.NDArray[np.float32]:
    length = pixels.shape[axis]
    bins = [(i * length // size, -(-(i + 1) * length // size)) for i in range(size)]
    parts = [pixels.take(range(start, stop), axis=axis).mean(axis=axis) for start, stop in bins]
    return np.stack(parts, axis=axis)


def embed_with(
    path: Path, images: npt.NDArray[np.uint8], *, batch: int, threads: int = 1
) -> npt.NDArray[np.float32]:  # [M, D]
    """Embed uint8 faces with the file alone, called as its own contract says, ``batch`` images at a time.

    When ``batch`` does not divide M the last call wraps around to the first images, so that the file sees
    no other batch size than the one asked for.

    Raises:
        UserError: the file refuses the batch size or has no input and output of the agreed names.
    """
    session = open_session(path, threads=threads)
    contract = contract_of(session, path)
    inputs = prepare(images, contract.preprocessing, contract.dtype)
    count = len(inputs)
    starts = range(0, count, batch)
    outputs = [_call(session, path, inputs.take(range(i, i + batch), axis=0, mode="wrap")) for i in starts]
    return np.concatenate(outputs)[:count]


def _call(session: Any, path: Path, inputs: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    try:
        answer = np.asarray(session.run([OUTPUT], {INPUT: inputs})[0], dtype=np.float32)
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        raise UserError(f"the exported file {path} refuses a batch of {len(inputs)}: {_first(error)}") from error
    if answer.ndim != 2 or len(answer) != len(inputs):
        raise UserError(
            f"expected {path} to answer a batch of {len(inputs)} with [{len(inputs)}, D], found {answer.shape}"
        )
    return answer
