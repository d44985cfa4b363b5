"""Running an exported file in the runtime it was made for, whatever that is."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from proxylesskd.errors import UserError, require_extra
from proxylesskd.export.contract import INPUT, OUTPUT, Contract, contract_from, contract_of, open_session, prepare
from proxylesskd.export.mobile import LARGEST_BATCH

Array = npt.NDArray[Any]


class Runner(Protocol):
    """An opened file.

    Attributes:
        contract: how it wants to be called.
        batch: the only batch size it takes, or None for any.
        most: the largest batch it takes, or None for any.
    """

    contract: Contract
    batch: int | None
    most: int | None

    def run(self, inputs: Array) -> Array:
        """Turn prepared images ``[B, ...]`` into ``[B, D]``."""
        ...


class OnnxRunner:
    """An ONNX file in onnxruntime."""

    most: int | None = None

    def __init__(self, path: Path, threads: int) -> None:
        self._session = open_session(path, threads=threads)
        self.contract = contract_of(self._session, path)
        first = self._session.get_inputs()[0].shape[0]
        self.batch = first if isinstance(first, int) else None

    def run(self, inputs: Array) -> Array:
        """Run it."""
        return np.asarray(self._session.run([OUTPUT], {INPUT: inputs})[0])


class LitertRunner:
    """A ``.tflite`` in LiteRT, one image at a time."""

    batch: int | None = 1
    most: int | None = 1

    def __init__(self, path: Path, threads: int) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise require_extra("ai-edge-litert", "litert", "running a LiteRT file") from error
        self._interpreter = Interpreter(str(path), num_threads=threads)
        self._interpreter.allocate_tensors()
        self._input, self._output = (
            self._interpreter.get_input_details()[0],
            self._interpreter.get_output_details()[0],
        )
        self.contract = read_beside(path)

    def run(self, inputs: Array) -> Array:
        """Run it."""
        self._interpreter.set_tensor(self._input["index"], inputs)
        self._interpreter.invoke()
        return np.array(self._interpreter.get_tensor(self._output["index"]))


class ExecutorchRunner:
    """A ``.pte`` in ExecuTorch's runtime, with as many threads as the process has."""

    batch: int | None = None

    def __init__(self, path: Path, threads: int) -> None:  # noqa: ARG002  its pool is the process's own
        try:
            from executorch.runtime import Runtime
        except ImportError as error:
            raise require_extra("executorch", "executorch", "running an ExecuTorch file") from error
        self._program = Runtime.get().load_program(str(path))  # the method does not keep it alive
        self._method = self._program.load_method("forward")
        # what its memory was planned for, which may be less than what was asked for
        self.most: int | None = int(self._method.metadata.input_tensor_meta(0).sizes()[0])
        self.contract = read_beside(path)

    def run(self, inputs: Array) -> Array:
        """Run it."""
        answer: Array = self._method.execute([torch.from_numpy(np.ascontiguousarray(inputs))])[0].numpy().copy()
        return answer


class CoremlRunner:
    """An ``.mlpackage`` in Core ML, which there is on macOS only."""

    batch: int | None = None
    most: int | None = LARGEST_BATCH

    def __init__(self, path: Path, threads: int) -> None:  # noqa: ARG002  Core ML chooses for itself
        if sys.platform != "darwin":
            raise UserError(
                f"expected macOS to run '{path.name}' and to check it, found {sys.platform}; export there, or give "
                "--force to keep a file that nobody has checked"
            )
        import coremltools

        self._model: Any = coremltools.models.MLModel(str(path))
        self.contract = read_beside(path)

    def run(self, inputs: Array) -> Array:
        """Run it."""
        return np.asarray(self._model.predict({INPUT: inputs.astype(np.float32)})[OUTPUT])


RUNNERS: dict[str, Callable[[Path, int], Runner]] = {
    ".onnx": OnnxRunner,
    ".tflite": LitertRunner,
    ".pte": ExecutorchRunner,
    ".mlpackage": CoremlRunner,
}


def open_file(path: Path, *, threads: int = 1) -> Runner:
    """Open an exported file in its own runtime.

    Raises:
        UserError: its ending is unknown, its runtime is not here, or it cannot be read.
    """
    if path.suffix not in RUNNERS:
        raise UserError(f"expected an exported file ({', '.join(RUNNERS)}), found '{path}'")
    try:
        return RUNNERS[path.suffix](path, threads)
    except UserError:
        raise
    except Exception as error:  # the runtimes share no class of exceptions
        raise UserError(f"expected a file that its runtime can open, found {path}: {_first(error)}") from error


def embed_file(
    path: Path, images: npt.NDArray[np.uint8], *, batch: int, threads: int = 1
) -> npt.NDArray[np.float32]:  # [M, D]
    """Embed uint8 RGB faces ``[M, 3, H, W]`` with a file, called as its contract says, ``batch`` at a time.

    A file made for one batch size is called with that, one with a largest batch with no more. The last call wraps
    around to the first images.

    Raises:
        UserError: the file cannot be opened or refuses the batch.
    """
    runner = open_file(path, threads=threads)
    size = runner.batch or min(batch, runner.most or batch)
    parts = []
    for start in range(0, len(images), size):
        block = images.take(range(start, start + size), axis=0, mode="wrap")
        parts.append(call(runner, path, prepare(block, runner.contract.preprocessing, runner.contract.dtype)))
    whole: npt.NDArray[np.float32] = np.concatenate(parts)[: len(images)].astype(np.float32)
    return whole


def call(runner: Runner, path: Path, inputs: Array) -> Array:
    """Run prepared images, or raise a UserError that names the file and the batch size."""
    try:
        answer = runner.run(inputs)
    except Exception as error:  # the runtimes share no class of exceptions
        raise UserError(f"the exported file {path} refuses a batch of {len(inputs)}: {_first(error)}") from error
    if answer.ndim != 2 or len(answer) != len(inputs):
        raise UserError(
            f"expected {path} to answer a batch of {len(inputs)} with [{len(inputs)}, D], found {answer.shape}"
        )
    return answer


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def write_beside(path: Path, contract: Contract) -> None:
    """Write the contract of a file that has no room for it."""
    _beside(path).write_text(json.dumps(contract.to_dict(), indent=1, ensure_ascii=False), encoding="utf-8")


def read_beside(path: Path) -> Contract:
    """Read it back.

    Raises:
        UserError: it is missing or malformed.
    """
    beside = _beside(path)
    try:
        return contract_from(json.loads(beside.read_text(encoding="utf-8")))
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(
            f"expected the contract of '{path.name}' in '{beside}', found {error!r}; export again"
        ) from error


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")
