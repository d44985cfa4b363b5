"""An ONNX face-recognition model as a function from tensors to tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from proxylesskd.errors import UserError, require_extra
from proxylesskd.models.onnx_cut import cut_at
from proxylesskd.models.onnx_graph import (
    ImageInput,
    freed_batch,
    image_input,
    output_operators,
    output_shapes,
    read_graph,
    shown,
)

_DEFAULT_SIZE = 112
_FATAL_ONLY = 4  # errors reach the caller as exceptions
_CLASSIFYING = ("Softmax", "LogSoftmax", "Sigmoid")


class OnnxNetwork:
    """``[B, …] float32 -> [B, dim] float32``, run by onnxruntime.

    Attributes:
        dim: length of an embedding.
        batch: the batch size every call must have, or None for any.
        size: side of the input in pixels.
        input: what the graph says of its input.
        graph: the ONNX model that is run.
        digest: sha256 of the file, and the name of the output if one is given.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        size: int | None = None,
        device: str | torch.device | None = None,
        threads: int | None = None,
        output: str | None = None,
    ) -> None:
        """Load a file.

        Args:
            path: the ``.onnx`` file.
            size: side of the input where the graph leaves it free (default 112).
            device: ``"cuda"`` runs on the GPU if onnxruntime can; default is the CPU.
            threads: of the CPU for one call; default all cores.
            output: name of the tensor inside the graph that is the embedding; default what the graph returns.

        Raises:
            UserError: no ONNX file, no face-recognition model, no tensor ``output``, or ``size`` is not what the graph
                takes.
        """
        self.graph, self.digest = read_graph(Path(path))
        if output is not None:
            self.graph, self.digest = cut_at(self.graph, output), f"{self.digest} {output}"
        self.input: ImageInput = image_input(self.graph)
        self.size = _chosen_size(self.input, size, path)
        _refuse_other_outputs(self.graph, path)
        self._options = _Runtime(_providers(device), threads)
        self.batch = self.input.batch
        self._run = self._options.session(self.graph)
        self._output, self.dim = self._find_embedding(path)
        if self.batch is not None:
            self._try_to_free_the_batch(self.batch)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Run ``[B, …] float32`` preprocessed images; returns ``[B, dim] float32`` on their device."""
        array = self._array(pixels)
        (output,) = self._run.run([self._output], {self.input.name: array})
        return torch.from_numpy(np.asarray(output, np.float32).reshape(len(array), self.dim)).to(pixels.device)

    def _array(self, pixels: Tensor) -> Any:
        array = np.ascontiguousarray(pixels.detach().cpu().numpy())
        if self.input.dtype == np.uint8:
            array = array.round().clip(0, 255)
        return array.astype(self.input.dtype, copy=False)

    def _find_embedding(self, path: str | Path) -> tuple[str, int]:
        probe = self._noise(self.batch or 2)
        names = [output.name for output in self._run.get_outputs()]
        try:
            outputs = self._run.run(names, {self.input.name: self._array(probe)})
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"expected '{path}' to take images of shape {list(probe.shape)}: {reason}") from error
        shapes = {name: list(np.shape(output)) for name, output in zip(names, outputs, strict=True)}
        found = [(name, shape[1]) for name, shape in shapes.items() if _is_embedding(shape, len(probe))]
        if len(found) != 1:
            raise _no_embedding(shapes, path)
        return found[0]

    def _try_to_free_the_batch(self, batch: int) -> None:
        probe = self._noise(2 * batch)
        expected = torch.cat([self(probe[:batch]), self(probe[batch:])])
        fixed = self._run
        try:
            graph = freed_batch(self.graph, batch)
            self._run = self._options.session(graph)
            # Two full batches, a part of one, and another order: a graph that mixes images shows itself.
            agrees = _close(self(probe), expected) and _close(self(probe[-1:]), expected[-1:])
            agrees = agrees and _close(self(probe.flip(0)), expected.flip(0))
        except Exception:
            # Whatever a graph does not like about another batch size, the fixed one is known to work.
            agrees = False
        if agrees:
            self.batch, self.graph = None, graph
        else:
            self._run = fixed

    def _noise(self, batch: int) -> Tensor:
        # Over the range of pixels, so that graphs with and without normalisation inside are driven hard.
        shape = (3, self.size, self.size) if self.input.layout == "nchw" else (self.size, self.size, 3)
        generator = torch.Generator().manual_seed(0)
        return torch.randint(0, 256, (batch, *shape), generator=generator).float()


class _Runtime:
    """How sessions are made."""

    def __init__(self, providers: list[tuple[str, dict[str, int]]], threads: int | None) -> None:
        self.providers = providers
        self.threads = threads

    def session(self, graph: Any) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = _FATAL_ONLY
        options.intra_op_num_threads = self.threads or 0  # 0: all cores
        if not any(node.op_type == "QuantizeLinear" for node in graph.graph.node):
            # Only the weights are quantised: unfold them once instead of at every call.
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        try:
            return onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=self.providers)
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"expected an ONNX model that onnxruntime can run, found: {reason}") from error


def _providers(device: str | torch.device | None) -> list[tuple[str, dict[str, int]]]:
    """Return what onnxruntime is to run on, with the number of the GPU."""
    try:
        import onnxruntime
    except ImportError as error:
        raise require_extra("onnxruntime", "onnx", "Running an ONNX model") from error
    if torch.device(device or "cpu").type == "cpu":
        return [("CPUExecutionProvider", {})]
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise UserError(
            f"expected onnxruntime to support device '{device}', found its CPU build; "
            "install onnxruntime-gpu or leave the device out"
        )
    wanted = torch.device(device or "cuda")
    # Without a number the GPU is that of this process, one of several under `torchrun`.
    number = torch.cuda.current_device() if wanted.index is None and torch.cuda.is_available() else wanted.index or 0
    return [("CUDAExecutionProvider", {"device_id": number}), ("CPUExecutionProvider", {})]


def _chosen_size(found: ImageInput, given: int | None, path: str | Path) -> int:
    if found.size is not None and given not in (None, found.size):
        raise UserError(f"expected size={found.size} as the graph of '{path}' fixes it, found size={given}")
    return found.size or given or _DEFAULT_SIZE


def _refuse_other_outputs(graph: Any, path: str | Path) -> None:
    for name, operator in output_operators(graph).items():
        if operator in _CLASSIFYING:
            raise UserError(
                "no face-recognition model: expected one output [B, D] of embeddings, "
                f"found probabilities from {operator} in '{path}': {name}; name the embedding's tensor with "
                ":output=NAME after the path if the network has one"
            )
    # What declares its outputs, such as a detector, is recognised before it is run.
    shapes = output_shapes(graph)
    declared = [shape for shape in shapes.values() if shape]
    if len(declared) == len(shapes) and not any(_may_be_embedding(shape) for shape in declared):
        raise _no_embedding(shapes, path)


def _no_embedding(shapes: Mapping[str, Sequence[int | None]], path: str | Path) -> UserError:
    listed = ", ".join(f"{name} {shown(shape)}" for name, shape in list(shapes.items())[:4])
    return UserError(
        "no face-recognition model: expected one output [B, D] of embeddings, "
        f"found {len(shapes)} output(s) in '{path}': {listed}"
    )


def _may_be_embedding(shape: Sequence[int | None]) -> bool:
    return len(shape) in (2, 4) and (shape[1] is None or shape[1] >= 8) and all(d in (1, None) for d in shape[2:])


def _is_embedding(shape: list[int], batch: int) -> bool:
    # Some graphs keep [B, D, 1, 1]; a [B, 1] beside the embedding is its norm or a quality score.
    return len(shape) in (2, 4) and shape[0] == batch and shape[1] >= 8 and all(dim == 1 for dim in shape[2:])


def _close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool(torch.allclose(a, b, rtol=1e-3, atol=1e-4 * float(b.abs().max())))
