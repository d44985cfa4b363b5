"""A trained network with everything it needs to name activities, in one file that runs no code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from proxylesskd.activity.conv_lstm import DeepConvLSTM
from proxylesskd.activity.echo import PatchEcho
from proxylesskd.activity.plan import NetworkPlan
from proxylesskd.atomic import write_atomically
from proxylesskd.errors import UserError, nearest
from proxylesskd.methods.logits import cosine_logits
from proxylesskd.models.mixer import PatchMixer
from proxylesskd.models.standardised import Standardised
from proxylesskd.models.weights import check_fit, existing_file, read_tensors

NETWORKS, _KEY, _LARGEST = ("echo", "mixer", "conv-lstm"), "proxylesskd.activity", 1 << 14


class Recogniser(nn.Module):
    """Windows ``[B, C, T]`` to logits ``[B, classes]``.

    The body says logits, of one head or of several side by side; or, where there are unit ``rows [classes, D]``, an
    embedding, whose logits are its cosines with them times ``scale``.
    """

    rows: Tensor | None

    def __init__(self, body: Standardised, classes: int, rows: Tensor | None = None, scale: float = 1.0) -> None:
        super().__init__()
        self.body, self.classes, self.scale = body, classes, scale
        self.register_buffer("rows", rows)

    def forward(self, windows: Tensor) -> Tensor:
        """Return the mean of the logits of all heads."""
        return self.read(self.body(windows))

    def read(self, said: Tensor) -> Tensor:
        """Return logits of what the body says."""
        if self.rows is None:
            return said.reshape(said.shape[0], -1, self.classes).mean(dim=1)
        return cosine_logits(said, self.rows, self.scale)


def make_network(
    plan: NetworkPlan, channels: int, samples: int, out: int, *, apart: bool = False, seed: int | None = 0
) -> nn.Module:
    """Make a network for windows ``[channels, samples]`` with first values from torch's global random state.

    It says ``out`` numbers, of each head where an echo's two stand ``apart``; a mixer, an embedding of its own
    dimension. The seed is that of a reservoir; None leaves its matrices to be loaded.
    """
    if plan.name not in NETWORKS:
        hint = nearest(plan.name, NETWORKS)
        raise UserError(f"expected a model among {', '.join(NETWORKS)}, found '{plan.name}'{hint}")
    channels *= 1 + plan.compand
    sizes = (
        channels,
        samples,
        out,
        plan.patch,
        plan.size,
        plan.dim,
        plan.layers,
        plan.stride + 1,
        plan.token + 1,
        plan.hidden + 1,
    )
    if not all(0 < one <= _LARGEST for one in sizes) or plan.patch > samples or not 0 < plan.width <= 16:
        raise UserError(
            f"expected sizes in 1..{_LARGEST}, a patch within {samples} samples, a width <= 16, found {plan}"
        )
    if plan.name == "mixer":
        return PatchMixer(channels, samples, dim=plan.dim, layers=plan.layers, patch=plan.patch, dropout=plan.dropout)
    if plan.name == "conv-lstm":
        return DeepConvLSTM(channels, out, width=plan.width, dropout=plan.dropout)
    taken = ("patch", "stride", "token", "hidden", "size", "leaks", "radius", "density", "scale")
    return PatchEcho(channels, out, apart=apart, seed=seed, **{name: getattr(plan, name) for name in taken})


def save_recogniser(path: Path, model: Recogniser, plan: NetworkPlan, told: Mapping[str, Any]) -> None:
    """Write a safetensors file; ``told`` are ``channels, samples, out, apart, activities`` and whatever JSON holds."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    header = {"model": asdict(plan), "scale": model.scale, **told}
    write_atomically(path, save(tensors, {_KEY: json.dumps(header)}))


def load_recogniser(path: Path) -> tuple[Recogniser, dict[str, Any]]:
    """Read what :func:`save_recogniser` wrote; return it in evaluation mode, and what was told of it."""
    try:
        with safe_open(existing_file(path), framework="pt") as file:
            told = json.loads((file.metadata() or {})[_KEY])
        plan, tensors = NetworkPlan(**told["model"]), read_tensors(path)
        with torch.device("meta"):  # a made-up header must not make us allocate what the file does not hold
            check_fit(_empty(plan, told, tensors), tensors, str(path))
        with torch.random.fork_rng(devices=[]):
            model = _empty(plan, told, tensors)
        model.load_state_dict(tensors)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise UserError(f"expected a model of 'activity train' or 'distill' at '{path}', found: {error}") from error
    return model.eval(), told


def _empty(plan: NetworkPlan, told: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Recogniser:
    channels, samples, out = (int(told[name]) for name in ("channels", "samples", "out"))
    network = make_network(plan, channels, samples, out, apart=told["apart"] is True, seed=None)
    rows = torch.empty_like(tensors["rows"]) if "rows" in tensors else None
    ones = torch.ones(channels)
    body = Standardised(network, ones, ones, ones if plan.compand else None)
    return Recogniser(body, len(told["activities"]), rows, float(told["scale"]))
