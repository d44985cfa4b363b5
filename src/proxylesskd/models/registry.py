"""Backbones by name: the built-in ones, and whatever module a user names as ``package.module:factory``."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from proxylesskd.errors import UserError, nearest
from proxylesskd.models.modes import evaluating
from proxylesskd.models.projector import WithProjector
from proxylesskd.own import import_own, is_own

Factory = Callable[..., nn.Module]

_FACTORIES: dict[str, Factory] = {}
_BUILT_IN = ("iresnet", "mobilefacenet")  # modules of this room that register names when they are imported


@dataclass(frozen=True)
class ModelSpec:
    """What it takes to build a backbone again.

    Attributes:
        name: a registered name, or ``package.module:factory``.
        dim: length D of the embedding.
        width: factor on the numbers of channels.
        image_size: side of the square input in pixels.
        projector: whether it ends in a projector, see :class:`proxylesskd.models.projector.WithProjector`.
    """

    name: str
    dim: int = 512
    width: float = 1.0
    image_size: int = 112
    projector: bool = False

    def __post_init__(self) -> None:
        # The upper limits keep a made-up spec in an untrusted file from overflowing sizes.
        whole = isinstance(self.dim, int) and isinstance(self.image_size, int)
        if not (whole and 1 <= self.dim <= 65536 and 0 < self.width <= 64 and 16 <= self.image_size <= 4096):
            raise UserError(
                "expected dim in 1..65536, 0 < width <= 64 and image_size in 16..4096, "
                f"found dim={self.dim}, width={self.width}, image_size={self.image_size}"
            )
        if not isinstance(self.projector, bool):
            raise UserError(f"expected projector true or false, found {self.projector!r}")


def register_model(name: str) -> Callable[[Factory], Factory]:
    """Return a decorator that makes a factory known as ``name``.

    The factory is called with those of ``dim``, ``width`` and ``image_size`` that its signature accepts and
    returns a module that maps ``[B, 3, H, W] float`` to un-normalised ``[B, dim]`` embeddings.
    """

    def register(factory: Factory) -> Factory:
        own = factory.__module__.startswith("proxylesskd.models.")
        if name in (_FACTORIES if own else _known()):
            raise ValueError(f"a model named '{name}' is registered already")
        _FACTORIES[name] = factory
        return factory

    return register


def _known() -> dict[str, Factory]:
    """Return the factories by name, those of this room among them."""
    for module in _BUILT_IN:
        importlib.import_module(f"proxylesskd.models.{module}")
    return _FACTORIES


def list_models() -> list[str]:
    """Return the registered names, sorted."""
    return sorted(_known())


def create_model(
    name: str, *, dim: int = 512, width: float = 1.0, image_size: int = 112, projector: bool = False
) -> nn.Module:
    """Build a backbone with fresh weights from torch's global random state.

    Args:
        name: one of :func:`list_models`, or ``package.module:factory`` for a module of one's own.
        dim: length D of the embedding.
        width: factor on the numbers of channels, rounded to multiples of 8.
        image_size: side of the square input in pixels.
        projector: end the backbone in a projector that is kept, see :mod:`proxylesskd.models.projector`.

    Returns:
        A module that maps ``[B, 3, image_size, image_size] float`` to un-normalised ``[B, dim]`` embeddings;
        its attribute ``spec`` is the :class:`ModelSpec`.

    Raises:
        UserError: the name is unknown, or a module of one's own cannot be built or gives another shape.
    """
    spec = ModelSpec(name, dim, width, image_size, projector)
    model = build(spec, import_own(name) if is_own(name) else registered_factory(name))
    if is_own(name):
        _check_output(model, spec)
    return model


def registered_factory(name: str) -> Factory:
    """Return the factory behind a registered name, or raise a UserError that names the nearest one."""
    known = _known()
    if name not in known:
        raise UserError(
            f"expected a model among {', '.join(list_models())} or package.module:factory, "
            f"found '{name}'{nearest(name, known)}"
        )
    return known[name]


def build(spec: ModelSpec, factory: Factory) -> nn.Module:
    """Call a factory with what its signature accepts and attach the spec."""
    arguments = _accepted(factory, {"dim": spec.dim, "width": spec.width, "image_size": spec.image_size})
    try:
        model = factory(**arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        called = ", ".join(f"{key}={value}" for key, value in arguments.items())
        raise UserError(f"expected to build '{spec.name}' by {called or 'no arguments'}, found: {error}") from error
    if not isinstance(model, nn.Module):
        raise UserError(f"expected '{spec.name}' to return a torch.nn.Module, found {type(model).__name__}")
    if spec.projector:
        model = WithProjector(model, spec.dim)
    model.spec = spec  # type: ignore[assignment]  # nn.Module declares attributes as Tensor | Module
    return model


def spec_of(model: nn.Module) -> ModelSpec:
    """Return the spec of a model from :func:`create_model`, also through a data-parallel wrapper."""
    spec = getattr(model, "spec", None) or getattr(getattr(model, "module", None), "spec", None)
    if not isinstance(spec, ModelSpec):
        raise UserError(
            f"expected a model from create_model with a spec, found a bare {type(model).__name__}; "
            "set model.spec = ModelSpec(name, dim, width, image_size)"
        )
    return spec


def memory_format_of(model: nn.Module) -> torch.memory_format:
    """Return the layout in memory in which a model is fastest: channels last for registered models.

    On CPUs MobileFaceNet trains about a quarter faster that way, and tensor cores prefer it. Modules of one's
    own get the contiguous one, because many call ``view``, which fails on channels-last maps.
    """
    spec = getattr(model, "spec", None) or getattr(getattr(model, "module", None), "spec", None)
    registered = isinstance(spec, ModelSpec) and spec.name in _known()
    return torch.channels_last if registered else torch.contiguous_format


def _accepted(factory: Factory, arguments: dict[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(factory).parameters.values()
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        return arguments
    by_keyword = {p.name for p in parameters if p.kind is not inspect.Parameter.POSITIONAL_ONLY}
    return {key: value for key, value in arguments.items() if key in by_keyword}


def _check_output(model: nn.Module, spec: ModelSpec) -> None:
    size = spec.image_size
    try:
        with evaluating(model):
            output = model(torch.zeros(1, 3, size, size))
    except Exception as error:
        raise UserError(f"expected '{spec.name}' to take [1, 3, {size}, {size}], found: {error}") from error
    found = list(getattr(output, "shape", [])) or type(output).__name__
    if found != [1, spec.dim]:
        raise UserError(f"expected '{spec.name}' to give embeddings [1, {spec.dim}], found {found}")
