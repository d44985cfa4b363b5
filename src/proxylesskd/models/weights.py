"""A network in one safetensors file: weights, how to build it, and how it wants its images."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from proxylesskd.atomic import write_atomically
from proxylesskd.errors import UserError
from proxylesskd.models.preprocess import Preprocessing
from proxylesskd.models.registry import ModelSpec, build, create_model, registered_factory, spec_of

# What a run folder holds: `distill` leaves a student, `train` a model with its own classifier.
RUN_WEIGHTS = ("student.safetensors", "model.safetensors")
_KEY = "proxylesskd.model"
_FORMAT = 1


def save_model(
    path: str | Path, model: nn.Module, preprocessing: Preprocessing, extra: Mapping[str, Any] | None = None
) -> None:
    """Write a model from :func:`create_model` atomically as one safetensors file.

    Args:
        path: the file; an existing one is replaced in one move, never half written.
        model: the network, also inside a data-parallel wrapper.
        preprocessing: how it wants its images.
        extra: anything JSON can hold, to be read by :func:`read_metadata`.

    Raises:
        UserError: the model has no spec, or the file cannot be written.
    """
    inner = model.module if isinstance(getattr(model, "module", None), nn.Module) else model
    assert isinstance(inner, nn.Module)
    header = {
        "format": _FORMAT,
        "spec": dataclasses.asdict(spec_of(model)),
        "preprocessing": preprocessing.to_dict(),
        "extra": dict(extra or {}),
    }
    # A copy per tensor: safetensors refuses shared or strided storage, such as channels-last weights.
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in inner.state_dict().items()
    }
    write_atomically(Path(path), safetensors.torch.save(tensors, {_KEY: json.dumps(header)}))


def load_model(path: str | Path, *, architecture: str | None = None) -> tuple[nn.Module, Preprocessing]:
    """Read a file of :func:`save_model`; the random state and the caller's settings stay as they are.

    Args:
        path: the file.
        architecture: ``package.module:factory`` where the file was made with a module of one's own. A file
            alone never makes code run, so the name in the file is not enough.

    Returns:
        The module on the CPU in evaluation mode, and its preprocessing.

    Raises:
        UserError: no such file, not a file of :func:`save_model`, or weights that do not fit its spec.
    """
    file = existing_file(Path(path))
    header = read_metadata(file)
    spec, preprocessing = _parse(header, file)
    if ":" in spec.name and architecture != spec.name:
        raise UserError(
            f"'{file}' was made with the module '{spec.name}'; give '{file}:architecture={spec.name}' to run that code"
        )
    tensors = read_tensors(file)
    if ":" not in spec.name:
        # On the meta device nothing is allocated, whatever sizes an untrusted file names.
        with torch.device("meta"):
            check_fit(build(spec, registered_factory(spec.name)), tensors, str(file))
    with torch.random.fork_rng(devices=[]):
        model = create_model(**dataclasses.asdict(spec))
    check_fit(model, tensors, str(file))
    model.load_state_dict(tensors)
    return model.eval(), preprocessing


def is_saved_model(path: Path) -> bool:
    """Say whether a safetensors file was written by :func:`save_model`."""
    return _KEY in _raw_metadata(path)


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Return ``{"format", "spec", "preprocessing", "extra"}`` of a file of :func:`save_model`."""
    raw = _raw_metadata(existing_file(Path(path)))
    if _KEY not in raw:
        raise UserError(
            f"expected a model file of proxylesskd, found a safetensors file without a spec: '{path}'; "
            "name its architecture to load it as a foreign checkpoint"
        )
    try:
        header = json.loads(raw[_KEY])
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"expected a JSON header in '{path}', found: {error}") from error
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise UserError(f"expected a model file of format {_FORMAT}, found another in '{path}'")
    return header


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return every tensor of a safetensors file, or raise a UserError."""
    try:
        return safetensors.torch.load_file(existing_file(path))
    except (SafetensorError, OSError) as error:
        raise UserError(f"expected a safetensors file at '{path}', found: {error}") from error


def check_fit(model: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Raise a UserError that lists the first few missing, unexpected and misshapen tensors, if there are any."""
    wanted = model.state_dict()
    problems = [f"missing {name}" for name in wanted if name not in tensors]
    problems += [f"unexpected {name}" for name in tensors if name not in wanted]
    problems += [
        f"{name} is {list(tensors[name].shape)} instead of {list(wanted[name].shape)}"
        for name in wanted
        if name in tensors and tensors[name].shape != wanted[name].shape
    ]
    if problems:
        more = f" and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise UserError(
            f"expected weights of {_describe(model)}, found others in {source}: {'; '.join(problems[:4])}{more}"
        )


def existing_file(path: Path) -> Path:
    """Return the path if a file stands there, else raise a UserError."""
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        raise UserError(f"expected a file at '{path}', found {found}")
    return path


def _raw_metadata(path: Path) -> dict[str, str]:
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(f"expected a safetensors file at '{path}', found: {error}") from error


def _parse(header: dict[str, Any], path: Path) -> tuple[ModelSpec, Preprocessing]:
    try:
        return ModelSpec(**header["spec"]), Preprocessing.from_dict(header["preprocessing"])
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"expected spec and preprocessing in the header of '{path}', found: {error!r}") from error


def _describe(model: nn.Module) -> str:
    spec = getattr(model, "spec", None)
    if not isinstance(spec, ModelSpec):
        return type(model).__name__
    projector = ", projector" if spec.projector else ""
    return f"{spec.name} (dim={spec.dim}, width={spec.width}, image_size={spec.image_size}{projector})"
