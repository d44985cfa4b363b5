"""Any module as an ONNX file with a free batch dimension, that stands only where it agrees with PyTorch."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from proxylesskd.errors import UserError, require_extra
from proxylesskd.models.modes import evaluating

LIMIT = 1e-4  # largest difference of a number between PyTorch and the file


def write_onnx(
    path: Path, network: nn.Module, given: Sequence[Tensor], names: Sequence[str], said: Sequence[str]
) -> Path:
    """Export a module, compare the file on three inputs, and only then give it its name; return its path.

    Args:
        path: the file.
        network: takes tensors ``[B, …]``, returns one or a tuple of them.
        given: inputs of a batch of two.
        names: of the inputs.
        said: names of the outputs.

    Raises:
        UserError: a package is missing, the exporter fails, or a number is off by more than ``LIMIT``.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise require_extra(str(error.name), "onnx", "exporting to ONNX") from error
    content = _exported(network, given, names, said)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    probe = [torch.cat([one, 0.5 * one[:1]]) for one in given]
    found = session.run(list(said), {name: one.numpy() for name, one in zip(names, probe, strict=True)})
    with evaluating(network):
        wanted = network(*probe)
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    worst = max(float((w - torch.from_numpy(f)).abs().max()) for w, f in zip(wanted, found, strict=True))
    if not worst <= LIMIT:
        raise UserError(f"expected an ONNX file within {LIMIT} of PyTorch, found {worst:.2g}; it was not written")
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    return part.replace(path)


def _exported(network: nn.Module, given: Sequence[Tensor], names: Sequence[str], said: Sequence[str]) -> bytes:
    shapes = tuple({0: torch.export.Dim("batch")} for _ in given)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with evaluating(network), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            program = torch.onnx.export(
                network,
                tuple(given),
                dynamo=True,
                input_names=list(names),
                output_names=list(said),
                dynamic_shapes=shapes,
                verbose=False,
            )
    except Exception as error:  # whatever a network provokes inside the exporter
        raise UserError(f"expected a network that ONNX can hold, found: {str(error).splitlines()[0]}") from error
    if program is None:
        raise UserError("expected a network that ONNX can hold, found that the exporter returned nothing")
    content: bytes = program.model_proto.SerializeToString()
    return content
