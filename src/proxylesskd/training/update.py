"""One update: loaded images become a batch, batches become a gradient, a sane gradient moves the student."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from proxylesskd.errors import UserError, nearest
from proxylesskd.methods.learner import Course
from proxylesskd.methods.method import NEEDS, TEACHER_NEEDS, Batch
from proxylesskd.processes import gather
from proxylesskd.teaching.taught import Teach
from proxylesskd.training.average import average_gradients, averaged
from proxylesskd.training.state import TrainState

# (images on the device, indices on the device, step) -> images
Transform = Callable[[Tensor, Tensor, int], Tensor]
Loaded = tuple[int, Tensor, Tensor, Tensor]

_AUTOCAST = ("auto", "bf16", "off")


@dataclass(frozen=True)
class Outcome:
    """What one update did.

    Attributes:
        values: the method's scalars averaged over micro-batches and processes, and ``grad_norm`` before clipping.
        finite: whether loss and gradient were; if not, the step was skipped by every process.
        indices: positions in the source of this process's images; of a step that is not finite, of the images of
            every process whose own loss is not, or of all where that holds for none.
        images: seen by all processes together.
    """

    values: dict[str, float]
    finite: bool
    indices: list[int]
    images: int


def require_needs(method: Course, teach: Teach | None) -> None:
    """Refuse a method whose needs the loop cannot meet.

    Raises:
        UserError: a need that nobody provides, or one of the teacher's without a teacher.
    """
    for need in sorted(method.needs):
        if need not in NEEDS:
            known = ", ".join(sorted(NEEDS))
            raise UserError(f"expected a method with needs among {known}, found '{need}'{nearest(need, NEEDS)}")
    heard = sorted(method.needs & TEACHER_NEEDS)
    if heard and teach is None:
        raise UserError(f"this method needs {' and '.join(heard)}, found no teacher; give one as teach=…")


def to_batch(
    loaded: Loaded,
    *,
    step: int,
    steps: int,
    device: torch.device,
    channels_last: bool,
    prepare: Transform,
    augment: Transform | None = None,
    teach: Teach | None = None,
    general: int | None = None,
) -> Batch:
    """Turn loaded ``[B, 3, H, W] uint8`` images into what the method sees.

    The images move to the device as bytes, are augmented there, shown to the teacher if there is one, and
    normalised for the student.
    """
    _, images, labels, asked = loaded
    images, labels, indices = (_move(tensor, device) for tensor in (images, labels, asked))
    images = images.contiguous()  # decoded with the channels last
    if augment is not None:
        images = augment(images, indices, step)
    said: dict[str, Any] = {}
    if teach is not None:
        with torch.no_grad():
            taught = teach(images, asked, step)  # as they were loaded: a look-up needs no transfer from the device
        said = {"teacher_embeddings": taught.embeddings, "teacher_norms": taught.norms}
        said["teacher_maps"] = taught.maps or None
    inputs = prepare(images, indices, step)
    if channels_last:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    return Batch(inputs, labels, indices, step, step / steps, general, **said)


def update(
    state: TrainState,
    batches: Iterable[Batch],
    *,
    lr: float,
    clip: float,
    accumulate: int,
    autocast: Callable[[], AbstractContextManager[Any]],
) -> Outcome:
    """Take the gradient over ``accumulate`` batches and, if it is finite, move the student by it.

    The gradient is that of the mean of the batches' losses over all processes, clipped to a global norm of
    ``clip`` (0: not at all). A step whose loss or gradient is not finite, on whichever process, leaves no trace in
    parameters, momentum and running statistics. Costs one transfer of a few scalars from the device.
    """
    statistics = running_statistics(state.method.student)
    before = [tensor.clone() for tensor in statistics]
    state.optimiser.zero_grad(set_to_none=True)
    totals: dict[str, Tensor] = {}
    indices: list[Tensor] = []
    for batch in batches:
        with autocast():
            parts = state.method.step(batch)
        (parts["loss"] / accumulate).backward()  # type: ignore[no-untyped-call]
        for name, value in parts.items():
            share = value.detach() / accumulate
            totals[name] = totals[name] + share if name in totals else share
        indices.append(batch.indices)
    if state.world > 1:
        average_gradients(state.parameters)
    totals["grad_norm"] = nn.utils.clip_grad_norm_(state.parameters, clip or math.inf)
    seen: list[int] = torch.cat(indices).tolist()
    values, own_loss, images = _numbers(totals, len(seen), state.world)
    finite = math.isfinite(values["loss"]) and math.isfinite(values["grad_norm"])
    if finite:
        set_rate(state.optimiser, lr)
        state.optimiser.step()
    else:
        for tensor, value in zip(statistics, before, strict=True):
            tensor.copy_(value)
    return Outcome(values, finite, seen if finite else _suspects(own_loss, seen), images)


def running_statistics(network: nn.Module) -> list[Tensor]:
    """Return the buffers that a forward pass in training mode moves: those of batch normalisation."""
    norms = (module for module in network.modules() if getattr(module, "running_mean", None) is not None)
    return [buffer for module in norms for buffer in module.buffers(recurse=False)]


def set_rate(optimiser: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every group."""
    for group in optimiser.param_groups:
        group["lr"] = lr


def make_autocast(choice: str, device: torch.device) -> Callable[[], AbstractContextManager[Any]]:
    """Return a factory of contexts in which the method runs: bfloat16 autocast or none.

    Args:
        choice: ``"auto"`` (bfloat16 on a CUDA device that has it, else none), ``"bf16"`` or ``"off"``.
        device: where the student is.

    Raises:
        UserError: an unknown choice.
    """
    if choice not in _AUTOCAST:
        known = ", ".join(_AUTOCAST)
        raise UserError(f"expected autocast among {known}, found '{choice}'{nearest(choice, _AUTOCAST)}")
    capable = device.type == "cuda" and torch.cuda.is_bf16_supported()
    enabled = choice == "bf16" or (choice == "auto" and capable)
    return functools.partial(torch.autocast, device.type, dtype=torch.bfloat16, enabled=enabled)


def _move(tensor: Tensor, device: torch.device) -> Tensor:
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def _numbers(scalars: Mapping[str, Tensor], images: int, world: int) -> tuple[dict[str, float], float, int]:
    """Return the means over all processes, this one's own loss, and all images, in one transfer from the device."""
    own = torch.stack([value.detach().float().reshape(()) for value in scalars.values()])
    own = torch.cat((own, own.new_tensor([images])))
    means = averaged(own) if world > 1 else own
    *numbers, share, own_loss = torch.cat((means, own[list(scalars).index("loss")].reshape(1))).tolist()
    if share != images:
        raise UserError(
            f"expected every process to bring equally many images, found {images} here and {share:g} on average; "
            "let batches(start, stop) share them out evenly"
        )
    return dict(zip(scalars, numbers, strict=True)), own_loss, world * images


def _suspects(own_loss: float, seen: list[int]) -> list[int]:
    """Return the images behind a step that is not finite: of the processes whose own loss is not, else of all."""
    every = gather((math.isfinite(own_loss), seen))
    guilty = [images for sane, images in every if not sane] or [images for _, images in every]
    return [index for images in guilty for index in images]
