"""Checkpoints of other projects, read without executing anything they carry."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from proxylesskd.errors import UserError
from proxylesskd.models.weights import check_fit, existing_file, read_tensors

# Where training scripts put the network's weights inside their checkpoint, the most specific name first.
_CONTAINERS = ("state_dict_backbone", "backbone", "state_dict", "model_state_dict", "model", "net", "network")
_DEPTH = 4  # a pickled mapping may contain itself
_FRAMEWORKS = ("pytorch_lightning.", "lightning.", "lightning_fabric.", "omegaconf.", "argparse.Namespace")
_WRAPPERS = ("module.", "_orig_mod.")
_BACKBONES = ("backbone.", "model.", "encoder.", "net.", "student.", "teacher.")


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read the named tensors of a foreign checkpoint.

    Containers (``{"state_dict": …}``, ``{"state_dict_backbone": …}``, …) and the prefixes of data-parallel and
    compiled modules are taken off; names are otherwise as in the file, a classifier's included.

    Args:
        path: ``.pt``, ``.pth`` (read with ``weights_only=True``) or ``.safetensors``.

    Raises:
        UserError: no such file, a pickle that carries code, or no tensors inside.
    """
    file = existing_file(Path(path))
    content = read_content(file)
    state = {k: v for k, v in _unwrap(content).items() if isinstance(k, str) and isinstance(v, Tensor)}
    if not state:
        raise UserError(f"expected named tensors in '{file}', found {_outline(content)}")
    for prefix in _WRAPPERS:
        state = _without_prefix(state, prefix) if all(k.startswith(prefix) for k in state) else state
    return state


def read_content(path: str | Path) -> Any:
    """Return what a foreign checkpoint holds, as it is: a tensor, or mappings of tensors and plain values.

    Files of PyTorch's present format are mapped, not read: of a checkpoint with its optimiser only the tensors that are
    used come into memory.

    Args:
        path: as for :func:`read_state_dict`.

    Raises:
        UserError: no such file, a pickle that carries code, or a damaged file.
    """
    file = existing_file(Path(path))
    return read_tensors(file) if file.suffix.lower() == ".safetensors" else _torch_load(file)


def backbone_part(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under ``backbone.``, ``model.``, … without that prefix, or all if there is none."""
    for prefix in _BACKBONES:
        if any(name.startswith(prefix) for name in state):
            return _without_prefix(state, prefix)
    return dict(state)


def load_published(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a published state dict into a model of the same architecture, strictly.

    The names of InsightFace's IResNet checkpoints are those of :mod:`proxylesskd.models.iresnet`. Only the
    counters ``num_batches_tracked``, which old checkpoints lack and inference does not use, may be missing.

    Raises:
        UserError: tensors are missing, left over or of another shape; the first few are listed.
    """
    tensors = backbone_part(state)
    counters = {k: v for k, v in model.state_dict().items() if k.endswith("num_batches_tracked")}
    complete = {**counters, **tensors}
    check_fit(model, complete, "the checkpoint")
    model.load_state_dict(complete)


def _torch_load(path: Path) -> Any:
    archive = _sound_archive(path)
    try:
        with torch.serialization.safe_globals(_bystanders(path) if archive else []):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except pickle.UnpicklingError as error:
        # torch's message runs over many lines and suggests to switch the protection off.
        raise UserError(
            f"refused '{path}': it is no plain checkpoint of tensors, and other pickles can execute code; "
            "save the state_dict alone with torch.save or as safetensors"
        ) from error
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"expected a PyTorch checkpoint at '{path}', found: {reason}") from error


class _Bystander:
    """Stands for an object of a training framework beside the weights: it takes whatever it is given and does nothing.

    Lightning's checkpoints, AdaFace's among them, name callbacks and settings that a reader of weights does not need.
    """

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


def _bystanders(path: Path) -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """Return stand-ins for the classes of training frameworks that a checkpoint names; their code is never loaded."""
    named = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    return [(_Bystander, name) for name in named if name.startswith(_FRAMEWORKS)]


def _sound_archive(path: Path) -> bool:
    """Say whether the file is an archive of PyTorch's present format, which can be mapped; refuse a bad one."""
    try:
        if not zipfile.is_zipfile(path):
            with path.open("rb") as file:
                if file.read(4) == b"PK\x03\x04":
                    raise UserError(f"expected a PyTorch checkpoint at '{path}', found one cut short; copy it again")
            return False
        # torch.save never compresses; an archive that grows on reading is made to exhaust memory.
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UserError(f"expected a PyTorch checkpoint at '{path}', found a damaged archive: {error}") from error
    content = sum(entry.file_size for entry in entries)
    if content > path.stat().st_size or any(entry.compress_type for entry in entries):
        raise UserError(f"refused '{path}': {content} bytes packed into {path.stat().st_size}")
    return True


def _unwrap(content: Any) -> dict[Any, Any]:
    for _ in range(_DEPTH):
        if not isinstance(content, Mapping):
            return {}
        inner = next((content[key] for key in _CONTAINERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            return dict(content)
        content = inner
    return {}


def _without_prefix(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: tensor for name, tensor in state.items() if name.startswith(prefix)}


def _outline(content: Any) -> str:
    if isinstance(content, Mapping):
        return f"a mapping with {', '.join(repr(k) for k in list(content)[:4]) or 'nothing'}"
    return f"a {type(content).__name__}"
