"""Opening a frozen network together with its preprocessing, whatever file it came in."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from proxylesskd.errors import UserError
from proxylesskd.models.checkpoint import load_published, read_state_dict
from proxylesskd.models.embedder import Embedder
from proxylesskd.models.location import split_location
from proxylesskd.models.onnx_graph import detected_scaling, recorded_preprocessing
from proxylesskd.models.onnx_network import OnnxNetwork
from proxylesskd.models.preprocess import Preprocessing
from proxylesskd.models.registry import ModelSpec, create_model
from proxylesskd.models.teacher import Device, Teacher
from proxylesskd.models.torch_network import TorchNetwork
from proxylesskd.models.weights import RUN_WEIGHTS, is_saved_model, load_model

__all__ = ["Teacher", "as_embedder", "load_teacher", "teacher_of"]

Order = Literal["rgb", "bgr"]
Layout = Literal["nchw", "nhwc"]


def load_teacher(
    path: str | Path,
    *,
    architecture: str | None = None,
    dim: int | None = None,
    width: float | None = None,
    order: Order | None = None,
    layout: Layout | None = None,
    mean: float | None = None,
    std: float | None = None,
    size: int | None = None,
    device: Device | None = None,
    threads: int | None = None,
    output: str | None = None,
) -> Teacher:
    """Load a frozen network with its preprocessing.

    Args:
        path: a run folder, a file of :func:`~proxylesskd.models.weights.save_model`, a checkpoint of another
            project (``.pt``, ``.pth``, ``.safetensors``; needs ``architecture``), or an ``.onnx`` file. A
            string may carry the options below as ``PATH:mean=127,std=128``; arguments go before them.
        architecture: name for :func:`~proxylesskd.models.registry.create_model`, for foreign checkpoints.
        dim: length of its embedding; default from the checkpoint, else 512.
        width: its width factor, default 1.
        order: colour order ``"rgb"`` or ``"bgr"``. No file says it; default RGB.
        layout: ``"nchw"`` or ``"nhwc"``; default from the file.
        mean: subtracted from the 0..255 pixels; for ONNX by default
            :func:`~proxylesskd.models.onnx_graph.detected_scaling`.
        std: divided by afterwards.
        size: side of the input in pixels; default from the file, else 112.
        device: where it runs; default CUDA for PyTorch where there is one, the CPU for ONNX.
        threads: CPU threads of an ONNX model; default all cores.
        output: name of the tensor inside an ONNX graph that is the embedding, where the graph goes on to a classifier.

    Raises:
        UserError: nothing usable stands at the path, or the options contradict it.
    """
    plain, riding = split_location(path)
    options: dict[str, Any] = dict(riding)
    arguments = {"architecture": architecture, "dim": dim, "width": width, "order": order, "layout": layout}
    arguments |= {"mean": mean, "std": std, "size": size, "output": output}
    options |= {key: value for key, value in arguments.items() if value is not None}
    return _open(_locate(plain), options, options.pop("device", device), threads)


def as_embedder(model: Embedder | nn.Module | str | Path) -> Embedder:
    """Return an embedder for an embedder, a module, or the path of a model.

    A module is used as it stands: its mode and its gradients are left alone, and it is preprocessed by the
    default :class:`~proxylesskd.models.preprocess.Preprocessing` at the image size of its spec, if it has one.

    Raises:
        UserError: it is none of these, or the module gives no ``[B, D]`` embeddings.
    """
    if isinstance(model, (str, Path)):
        return load_teacher(model)
    if isinstance(model, nn.Module):
        spec = getattr(model, "spec", None)
        size = spec.image_size if isinstance(spec, ModelSpec) else Preprocessing().size
        preprocessing = Preprocessing(size=size)
        return teacher_of(model, preprocessing, notes=dict.fromkeys(preprocessing.to_dict(), "assumed"))
    if hasattr(model, "embed") and hasattr(model, "dim"):
        return model
    raise UserError(f"expected an embedder, a torch module or a path, found {type(model).__name__}")


def teacher_of(
    module: nn.Module, preprocessing: Preprocessing, *, name: str | None = None, notes: Mapping[str, str] | None = None
) -> Teacher:
    """Make a teacher of a module on the module's device; its dimension is found by running it once.

    The fingerprint is that of the weights at the moment of the call.
    """
    network = TorchNetwork(module, preprocessing)
    spec = getattr(module, "spec", None)
    name = name or (spec.name if isinstance(spec, ModelSpec) else type(module).__name__)
    fingerprint = _fingerprint(network.digest(), preprocessing)
    return Teacher(network, preprocessing, network.dim, name, fingerprint, device=network.device, notes=notes)


def _locate(path: Path) -> Path:
    if not path.exists():
        raise UserError(f"expected a model file or a run folder, found nothing at '{path}'")
    if not path.is_dir():
        return path
    for name in RUN_WEIGHTS:
        if (path / name).is_file():
            return path / name
    names = " or ".join(RUN_WEIGHTS)
    raise UserError(f"expected {names} in the run folder '{path}', found neither; is the run finished?")


def _open(file: Path, options: dict[str, Any], device: Device | None, threads: int | None) -> Teacher:
    architecture, dim, width, output = (options.pop(key, None) for key in ("architecture", "dim", "width", "output"))
    if file.suffix.lower() == ".onnx":
        _refuse_for_onnx(architecture=architecture, width=width)
        teacher = _from_onnx(file, options, device=device, threads=threads, output=output)
    elif output is not None:
        raise UserError(f"expected output={output} with an ONNX file only, found '{file}'")
    elif file.suffix == ".safetensors" and is_saved_model(file):
        teacher = _from_saved(file, architecture, options, device)
    else:
        teacher = _from_foreign(file, architecture, (dim, width), options, device)
    if dim not in (None, teacher.dim):
        raise UserError(f"expected embeddings of dim={dim} from '{file}', found {teacher.dim}")
    return teacher


def _from_onnx(path: Path, given: dict[str, Any], **runtime: Any) -> Teacher:
    network = OnnxNetwork(path, size=given.get("size"), **runtime)
    if given.get("layout") not in (None, network.input.layout):
        raise UserError(f"expected layout={network.input.layout} by the input of '{path}', found {given['layout']}")
    mean, std, why = detected_scaling(network.graph)
    found = {"size": network.size, "mean": mean, "std": std, "order": "rgb", "layout": network.input.layout}
    why_size, recorded = "detected" if network.input.size else "assumed", recorded_preprocessing(network.graph)
    notes = {"size": why_size, "mean": why, "std": why, "order": "assumed", "layout": "detected"}
    notes |= dict.fromkeys(recorded, "from the file")
    preprocessing = Preprocessing.from_dict({**found, **recorded, **given})
    return Teacher(
        network,
        preprocessing,
        network.dim,
        path.stem,
        _fingerprint(network.digest, preprocessing),
        batch=network.batch,
        notes={**notes, **dict.fromkeys(given, "given")},
    )


def _from_saved(path: Path, architecture: str | None, given: dict[str, Any], device: Device | None) -> Teacher:
    module, preprocessing = load_model(path, architecture=architecture)
    notes = dict.fromkeys(preprocessing.to_dict(), "from the file")
    preprocessing = dataclasses.replace(preprocessing, **given)
    notes |= dict.fromkeys(given, "given")
    name = path.resolve().parent.name if path.name in RUN_WEIGHTS else path.stem  # a run is called by its folder
    return teacher_of(_frozen(module, device), preprocessing, name=name, notes=notes)


def _from_foreign(
    path: Path,
    architecture: str | None,
    dimensions: tuple[int | None, float | None],
    given: dict[str, Any],
    device: Device | None,
) -> Teacher:
    state = read_state_dict(path)
    if architecture is None:
        raise UserError(f"'{path}' does not say its architecture; name it, such as architecture='iresnet50'")
    dim, width = dimensions
    dim, preprocessing = dim or _dim_of(state), Preprocessing(**given)
    with torch.random.fork_rng(devices=[]):
        module = create_model(architecture, dim=dim, width=width or 1.0, image_size=preprocessing.size)
    load_published(module, state)
    notes = {**dict.fromkeys(preprocessing.to_dict(), "assumed"), **dict.fromkeys(given, "given")}
    return teacher_of(_frozen(module, device), preprocessing, name=path.stem, notes=notes)


def _refuse_for_onnx(**options: object) -> None:
    for name, value in options.items():
        if value is not None:
            raise UserError(f"expected no {name} for an ONNX file, which says its own, found {name}={value}")


def _frozen(module: nn.Module, device: Device | None) -> nn.Module:
    return module.requires_grad_(False).eval().to(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def _dim_of(state: Mapping[str, Tensor]) -> int:
    bias = next((tensor for name, tensor in state.items() if name.endswith("features.bias")), None)
    return 512 if bias is None else bias.numel()


def _fingerprint(weights: str, preprocessing: Preprocessing) -> str:
    # 128 and 128.0 are the same setting.
    fields = {k: v if isinstance(v, str) else float(v) for k, v in preprocessing.to_dict().items()}
    return hashlib.sha256(f"{weights} {json.dumps(fields, sort_keys=True)}".encode()).hexdigest()
