"""Files for the runtimes of phones, where their packages are installed: LiteRT, ExecuTorch, Core ML.

Such a file has no room for a contract; it stands beside it, as ``NAME.tflite.json`` and so on.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn

from proxylesskd.errors import UserError, require_extra
from proxylesskd.export.contract import INPUT, OUTPUT

LARGEST_BATCH = 64  # these runtimes plan their memory for a largest batch

Write = Callable[[nn.Module, torch.Tensor, Path], None]


def write_litert(whole: nn.Module, example: torch.Tensor, path: Path) -> None:
    """Write a ``.tflite`` for one image at a time.

    Raises:
        UserError: litert-torch is not installed, or cannot convert the network.
    """
    try:
        import litert_torch
    except ImportError as error:
        raise require_extra("litert-torch", "litert", "exporting to LiteRT") from error
    with _converting("LiteRT"):
        litert_torch.convert(whole, (example[:1],)).export(str(path))


def write_executorch(whole: nn.Module, example: torch.Tensor, path: Path) -> None:
    """Write a ``.pte`` for XNNPACK that takes 1 to 64 images.

    Raises:
        UserError: executorch is not installed, or cannot convert the network.
    """
    try:
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower
    except ImportError as error:
        raise require_extra("executorch", "executorch", "exporting to ExecuTorch") from error
    with _converting("ExecuTorch"):
        program = to_edge_transform_and_lower(_traced(whole, example), partitioner=[XnnpackPartitioner()])
        path.write_bytes(program.to_executorch().buffer)


def write_coreml(whole: nn.Module, example: torch.Tensor, path: Path) -> None:
    """Write an ``.mlpackage`` (a folder) that takes 1 to 64 images.

    Raises:
        UserError: coremltools is not installed, the file should take uint8, or the network cannot be converted.
    """
    if example.dtype == torch.uint8:
        raise UserError("expected float pixels for Core ML, which takes no uint8 arrays; give --input pixels")
    try:
        import coremltools
    except ImportError as error:
        raise require_extra("coremltools", "coreml", "exporting to Core ML") from error
    with _converting("Core ML"):
        traced = _traced(whole, example).run_decompositions({})
        model = coremltools.convert(
            traced,
            convert_to="mlprogram",
            minimum_deployment_target=coremltools.target.iOS16,
            outputs=[coremltools.TensorType(name=OUTPUT)],
        )
        model.save(str(path))


WRITERS: dict[str, tuple[str, Write]] = {
    "litert": (".tflite", write_litert),
    "executorch": (".pte", write_executorch),
    "coreml": (".mlpackage", write_coreml),
}


def _traced(whole: nn.Module, example: torch.Tensor) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    return torch.export.export(whole, (example,), dynamic_shapes={INPUT: {0: batch}})


@contextlib.contextmanager
def _converting(runtime: str) -> Iterator[None]:
    """Silence converters, which print pages, and turn what they raise into one line."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    sink = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
            warnings.simplefilter("ignore")
            yield
    except Exception as error:  # whatever a converter raises over a user's network
        first = (str(error).strip().splitlines() or ["no message"])[0][:300]
        raise UserError(
            f"this network cannot be converted to {runtime}: {type(error).__name__}: {first}{os.linesep}".strip()
        ) from error
    finally:
        logging.disable(before)
