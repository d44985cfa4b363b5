"""A PyTorch network as one ONNX file with a free batch dimension, checked on real faces before it stands."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proxylesskd.errors import UserError, require_extra
from proxylesskd.export.assemble import FLOAT, InputKind, assemble, calling_of
from proxylesskd.export.contract import INPUT, OUTPUT, TEMPLATE, Contract
from proxylesskd.export.gate import GateReport, check_file
from proxylesskd.export.graph import as_sum, copy_of, expand_prelus, fold_norms, tidy
from proxylesskd.export.steep import flatten_steep_prelus
from proxylesskd.models.preprocess import Preprocessing

# Batch 1 is what devices run, 7 is no number that an exporter could have met by chance.
BATCHES = (1, 7)
LARGEST_BATCH = 64


@dataclass(frozen=True)
class ExportReport:
    """What was written and what its check showed.

    Attributes:
        path: the file.
        size: its length in bytes.
        sha256: its hash.
        opset: version of the ONNX operator set.
        contract: how the file wants to be called.
        gate: agreement with PyTorch by batch size.
    """

    path: Path
    size: int
    sha256: str
    opset: int
    contract: Contract
    gate: Mapping[int, GateReport] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for ``export.json``."""
        calling = {**self.contract.preprocessing.to_dict(), "alignment": [list(p) for p in self.contract.alignment]}
        return {
            "file": self.path.name,
            "bytes": self.size,
            "sha256": self.sha256,
            "opset": self.opset,
            "dim": self.contract.dim,
            "normalised": self.contract.normalised,
            "preprocessing": calling,
            "provenance": dict(self.contract.provenance),
            "gate": {str(batch): report.to_dict() for batch, report in self.gate.items()},
        }


def export_onnx(
    model: nn.Module,
    preprocessing: Preprocessing,
    path: Path,
    *,
    images: npt.NDArray[np.uint8] | Tensor,
    normalise: bool = True,
    opset: int | None = None,
    limit: float = 0.9999,
    metadata: Mapping[str, str] | None = None,
    kind: InputKind = FLOAT,
    flip_fusion: bool = False,
) -> ExportReport:
    """Write ``model`` as ONNX: ``image [B, 3, S, S] float32`` in, ``embedding [B, D] float32`` out, B free.

    The file is written beside ``path``, run on ``images`` at batch sizes 1, 7 and M (at most 64), and moved there only
    when every embedding agrees with PyTorch's; whatever stood at ``path`` stays when the check fails. The input
    is already normalised as the preprocessing says, unless ``kind`` takes pixels; what is left to do for the caller is
    recorded in the file's metadata. The model itself is not touched: a copy in evaluation mode on the CPU in float32 is
    exported.

    Args:
        model: ``[B, 3, S, S] float -> [B, D]`` un-normalised embedding.
        preprocessing: how the model wants its images.
        path: where the file shall stand.
        images: ``[M, 3, H, W] uint8`` RGB aligned real faces for the check.
        normalise: make embeddings unit length inside the file.
        opset: ONNX operator set; the exporter's default when None.
        limit: cosine to PyTorch that every image must reach.
        metadata: provenance, recorded as text.
        kind: what the file takes.
        flip_fusion: add the embedding of the mirrored face inside the file.

    Raises:
        UserError: a package is missing, the images are unusable, the network cannot be exported, or the
            exported file fails its check.
    """
    faces = as_faces(images)
    network = frozen_copy(model)
    reference = embed_reference(network, preprocessing, faces, flip=flip_fusion)
    body = network_graph(network, preprocessing, opset)
    proto = float_file(body, preprocessing, kind, normalise=normalise, flip_fusion=flip_fusion)
    contract = Contract(
        calling_of(preprocessing, kind),
        reference.shape[1],
        normalise,
        TEMPLATE,
        dict(metadata or {}),
        dtype=kind.dtype,
        flip_fusion=flip_fusion,
    )
    describe(proto, contract)
    with beside(path) as temporary:
        temporary.write_bytes(proto.SerializeToString())
        batches = sorted({*BATCHES, min(len(faces), LARGEST_BATCH)})
        reports = check_file(temporary, faces, reference, batches=batches, limit=limit)
        temporary.replace(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return ExportReport(path, path.stat().st_size, digest, opset_of(proto), contract, reports)


def frozen_copy(model: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode on the CPU in float32."""
    return copy.deepcopy(model).cpu().float().eval()


def network_graph(network: nn.Module, preprocessing: Preprocessing, opset: int | None = None) -> Any:
    """Return the network alone as an ONNX graph: ``image`` in, un-normalised ``embedding`` out, norms folded.

    No PReLU between convolutions has a slope above one; see :mod:`proxylesskd.export.steep`.

    Raises:
        UserError: a package is missing, or the network cannot be exported.
    """
    body = _to_proto(network, preprocessing, opset)
    fold_norms(body)
    flatten_steep_prelus(body)
    return body


def float_file(
    body: Any, preprocessing: Preprocessing, kind: InputKind, *, normalise: bool = True, flip_fusion: bool = False
) -> Any:
    """Return the whole graph of a float32 file."""
    fast = copy_of(body)
    expand_prelus(fast, as_sum)
    return assemble(fast, preprocessing, kind, normalise=normalise, flip_fusion=flip_fusion)


def as_faces(images: npt.NDArray[np.uint8] | Tensor) -> npt.NDArray[np.uint8]:
    """Return ``[M, 3, H, W] uint8`` faces that can show a difference, or raise a UserError."""
    faces = images.cpu().numpy() if isinstance(images, Tensor) else np.asarray(images)
    if faces.dtype != np.uint8 or faces.ndim != 4 or faces.shape[1] != 3 or len(faces) == 0:
        raise UserError(
            f"expected real faces [M, 3, H, W] uint8 with M >= 1 for the export's check, "
            f"found {faces.dtype} {faces.shape}"
        )
    if (faces == faces[:, :1, :1, :1]).all():
        raise UserError("expected real faces for the export's check, found images of a single colour")
    return faces


@torch.no_grad()
def embed_reference(
    network: nn.Module, preprocessing: Preprocessing, faces: npt.NDArray[np.uint8], *, flip: bool = False
) -> npt.NDArray[np.float32]:  # [M, D]
    """Embed ``[M, 3, H, W] uint8`` faces with PyTorch, 32 at a time, un-normalised.

    With ``flip`` the unit embeddings of a face and of its mirror image are added, as in the evaluation.

    Raises:
        UserError: the network does not answer with one vector per image.
    """
    whole = torch.cat(_embed_parts(network, preprocessing, faces)).float()
    if flip:
        mirrored = torch.cat(_embed_parts(network, preprocessing, faces[..., ::-1])).float()
        whole = F.normalize(whole, dim=1) + F.normalize(mirrored, dim=1)
    embeddings: npt.NDArray[np.float32] = whole.numpy()
    return embeddings


def _embed_parts(network: nn.Module, preprocessing: Preprocessing, faces: npt.NDArray[np.uint8]) -> list[Tensor]:
    blocks = (torch.from_numpy(np.ascontiguousarray(faces[i : i + 32])) for i in range(0, len(faces), 32))
    parts = [network(preprocessing(block)) for block in blocks]
    if any(part.ndim != 2 for part in parts):
        raise UserError(f"expected a network that answers [B, D], found {tuple(parts[0].shape)}")
    return parts


def _to_proto(network: nn.Module, preprocessing: Preprocessing, opset: int | None) -> Any:
    try:
        import onnx  # noqa: F401  the exporter's own message about these two is a traceback
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise require_extra(error.name or "onnx", "onnx", "exporting to ONNX") from error
    size = preprocessing.size
    example = torch.zeros((2, 3, size, size) if preprocessing.layout == "nchw" else (2, size, size, 3))
    try:
        with _quiet():
            program = torch.onnx.export(
                network.eval(),
                (example,),
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT],
                opset_version=opset,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
    except Exception as error:  # whatever a user's network provokes inside the exporter
        raise UserError(f"this network cannot be exported to ONNX: {_gist(error)}") from error
    if program is None:
        raise UserError("this network cannot be exported to ONNX: the exporter returned nothing")
    return program.model_proto


def _gist(error: BaseException) -> str:
    """The innermost cause in one line: the exporter wraps it into pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300] if lines else 'no message'}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence an exporter that prints, warns and logs; errors still rise as exceptions."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    sink = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def describe(proto: Any, contract: Contract, card: str = "") -> None:
    """Write contract and card into the file and take out what tells of the machine that made it."""
    import onnx

    tidy(proto)
    onnx.helper.set_model_props(proto, {**contract.properties(), **({"card": card} if card else {})})


@contextlib.contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Give a temporary name in the folder of ``path`` (so that the move is atomic), gone afterwards."""
    if not path.parent.is_dir():
        raise UserError(f"expected a folder to write to, found nothing at '{path.parent}'; create it first")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.unchecked")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def opset_of(proto: Any) -> int:
    """Return the version of the ONNX operator set."""
    return next(int(entry.version) for entry in proto.opset_import if entry.domain == "")
