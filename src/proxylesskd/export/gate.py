"""The gate: no exported file leaves that embeds faces differently from the network it came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from proxylesskd.errors import UserError, require_extra
from proxylesskd.export.contract import embed_with, read_contract

# A file that promises unit length must keep it to this much: float32 leaves errors of 1e-6.
LENGTH_TOLERANCE = 1e-3


@dataclass(frozen=True)
class GateReport:
    """How closely two embeddings of the same images agree.

    Attributes:
        images: number M of compared images.
        limit: the cosine every image had to reach.
        worst_cosine: the lowest cosine over all images; nan counts as lower than anything.
        worst_image: position of the image that has it.
        mean_cosine: mean over all images.
        failed: number of images below the limit.
    """

    images: int
    limit: float
    worst_cosine: float
    worst_image: int
    mean_cosine: float
    failed: int

    @property
    def passed(self) -> bool:
        """Whether every image reached the limit."""
        return self.failed == 0

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, for files."""
        return asdict(self)


def gate(reference: npt.NDArray[Any], candidate: npt.NDArray[Any], limit: float) -> GateReport:
    """Compare embeddings ``[M, D]`` image by image by their cosine, in float64.

    Raises:
        UserError: there are no images or the shapes differ.
    """
    if reference.ndim != 2 or len(reference) == 0 or reference.shape != candidate.shape:
        raise UserError(
            f"expected two equal [M, D] arrays of embeddings with M >= 1, found {reference.shape} "
            f"and {candidate.shape}; give the images of real faces and a file of the same dimension"
        )
    cosines = _cosines(reference.astype(np.float64), candidate.astype(np.float64))  # [M]
    failed = int((~(cosines >= limit)).sum())
    # argmin takes the first nan as the lowest, which is what is wanted: nan is no agreement at all
    worst = int(cosines.argmin())
    return GateReport(len(cosines), limit, float(cosines[worst]), worst, float(cosines.mean()), failed)


def _cosines(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        cosines: npt.NDArray[np.float64] = (first * second).sum(axis=1) / lengths
    return cosines


def check_file(
    path: Path,
    images: npt.NDArray[np.uint8],  # [M, 3, H, W] RGB
    reference: npt.NDArray[np.float32],  # [M, D]
    *,
    batches: Sequence[int],
    limit: float,
) -> dict[int, GateReport]:
    """Run an exported file on real images, called as its own metadata says, and compare every embedding.

    Args:
        path: the ONNX file.
        images: ``[M, 3, H, W] uint8`` RGB aligned faces.
        reference: ``[M, D]`` what the PyTorch network makes of them.
        batches: batch sizes to run; every image is run at each.
        limit: cosine that every image must reach.

    Returns:
        One report per batch size, all passed.

    Raises:
        UserError: the file is malformed, refuses a batch size, breaks its promise of unit length, or any
            image's cosine is below the limit; the message names batch size, image and cosine.
    """
    check_form(path)
    normalised = read_contract(path).normalised
    reports = {}
    for batch in batches:
        candidate = embed_with(path, images, batch=batch)
        reports[batch] = _require(gate(reference, candidate, limit), batch)
        if normalised:
            _require_unit(candidate, batch)
    return reports


def check_form(path: Path) -> None:
    """Raise a UserError unless a file is a well-formed ONNX model."""
    try:
        import onnx
    except ImportError as error:
        raise require_extra("onnx", "onnx", "checking an ONNX file") from error
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:  # the checker raises several unrelated types, some of C++ origin
        raise UserError(f"the exported file is malformed, onnx.checker says: {str(error)[:300]}") from error


def _require(report: GateReport, batch: int) -> GateReport:
    if not report.passed:
        raise UserError(
            f"the exported file does not agree with the PyTorch network: expected a cosine of at least "
            f"{report.limit:g} for every image, found {report.worst_cosine:.6f} for image {report.worst_image} "
            f"at batch size {batch} ({report.failed} of {report.images} images fail); nothing was written"
        )
    return report


def _require_unit(candidate: npt.NDArray[np.float32], batch: int) -> None:
    lengths = np.linalg.norm(candidate, axis=1)
    worst = int(np.abs(lengths - 1).argmax())
    if abs(lengths[worst] - 1) > LENGTH_TOLERANCE:
        raise UserError(
            f"expected embeddings of unit length from the exported file, found length {lengths[worst]:.6f} for "
            f"image {worst} at batch size {batch}; nothing was written"
        )
