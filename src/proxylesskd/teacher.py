"""Room 3: a frozen network together with its preprocessing, whatever file it came in."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proxylesskd.errors import UserError
from proxylesskd.models.checkpoint import load_published, read_state_dict
from proxylesskd.models.embedder import Embedder
from proxylesskd.models.location import split_location
from proxylesskd.models.onnx_graph import detected_scaling, recorded_preprocessing
from proxylesskd.models.onnx_network import OnnxNetwork
from proxylesskd.models.preprocess import Preprocessing
from proxylesskd.models.registry import ModelSpec, create_model
from proxylesskd.models.torch_network import TorchNetwork
from proxylesskd.models.weights import RUN_WEIGHTS, is_saved_model, load_model

Order = Literal["rgb", "bgr"]
Layout = Literal["nchw", "nhwc"]
Device = str | torch.device


class Teacher:
    """An :class:`~proxylesskd.models.embedder.Embedder` that never trains and has no parameters of its own.

    Attributes:
        network: preprocessed images to un-normalised embeddings.
        preprocessing: what stands between pixels and the network.
        dim: length D of an embedding.
        name: for tables.
        fingerprint: sha256 over weights and preprocessing.
        batch: the batch size the network insists on, or None for any.
    """

    def __init__(
        self,
        network: Callable[[Tensor], Tensor],
        preprocessing: Preprocessing,
        dim: int,
        name: str,
        fingerprint: str,
        *,
        batch: int | None = None,
        chunk: int | None = None,
        device: Device = "cpu",
        notes: Mapping[str, str] | None = None,
    ) -> None:
        """Put a network and its preprocessing together.

        Args:
            network: preprocessed images to ``[B, dim]``.
            preprocessing: for ``[B, 3, H, W] uint8`` RGB.
            dim: length of an embedding.
            name: for tables.
            fingerprint: hash of weights and preprocessing.
            batch: the only batch size that the network takes, or None for any.
            chunk: the largest batch that is run at once where any is taken; 16 on a CPU, where larger ones leave the
                caches and are no faster, and 256 elsewhere, unless given.
            device: where the network runs.
            notes: where each property of the preprocessing comes from, for :meth:`describe`.
        """
        self.network = network
        self.preprocessing = preprocessing
        self.dim = dim
        self.name = name
        self.fingerprint = fingerprint
        self.batch = batch
        self._chunk = batch or chunk or (16 if torch.device(device).type == "cpu" else 256)
        self._device = torch.device(device)
        self._notes = dict(notes or {})

    def embed(self, images: Tensor) -> Tensor:
        """Turn ``[B, 3, H, W] uint8`` RGB faces into ``[B, dim] float32`` unit embeddings on their device.

        Any number of images goes in; they are run in chunks, without gradients.

        Raises:
            UserError: the images are of another shape or type, or an embedding is zero or not finite.
        """
        if images.ndim != 4 or images.shape[1] != 3 or images.dtype != torch.uint8:
            raise UserError(f"expected faces [B, 3, H, W] uint8, found {list(images.shape)} {images.dtype}")
        if not len(images):
            return torch.empty(0, self.dim, device=images.device)
        starts = range(0, len(images), self._chunk)
        with torch.no_grad():
            embeddings = torch.cat([self._run(images[i : i + self._chunk]) for i in starts])
        norms = embeddings.norm(dim=1)
        if not bool((norms.isfinite() & (norms > 0)).all()):
            raise UserError(
                f"expected finite embeddings from '{self.name}', found zero or non-finite ones; "
                "check its weights and its preprocessing"
            )
        return F.normalize(embeddings).to(images.device)

    def describe(self) -> str:
        """Return one paragraph: dimension, input, preprocessing, and what was given, detected or assumed."""
        fields = self.preprocessing.to_dict()
        # A property without a note was passed by whoever made this object.
        properties = [f"{key} {_plain(value)} ({self._notes.get(key, 'given')})" for key, value in fields.items()]
        batch = "any" if self.batch is None else f"{self.batch} (fixed)"
        return f"{self.name}: {self.dim}-d; {', '.join(properties)}; batch {batch}"

    def _run(self, images: Tensor) -> Tensor:
        pixels = self.preprocessing(images.to(self._device))
        missing = (self.batch or len(images)) - len(images)
        if missing:
            pixels = torch.cat([pixels, pixels[-1:].expand(missing, *pixels.shape[1:])])
        return self.network(pixels)[: len(images)].float()


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


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
