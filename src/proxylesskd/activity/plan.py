"""What a training of this room depends on: sections like those of a face recipe, laid over in the same way."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from proxylesskd.recipe import MethodRecipe, TrainRecipe

_METHOD = partial(MethodRecipe, "labels", margin="cosface", m=0.0, scale=16.0, smoothing=0.1)
_TRAIN = partial(
    TrainRecipe, 12.0, batch=64, learning_rate=2e-3, warmup=0.05, weight_decay=0.05, log_every=50, checkpoint_every=0
)


@dataclass(frozen=True)
class DataPlan:
    """``windows`` is a location and ``test`` a split, see :mod:`proxylesskd.activity.windows`; 0 ``samples``: as found.

    ``jitter`` is the deviation of Gaussian noise in units of each channel's own, ``flip`` the probability that time
    runs backwards, ``stretch`` the largest share of a window that is cut off at its ends, the rest resampled.
    """

    windows: str = "gaits:0"
    test: str = "official"
    samples: int = 0
    jitter: float = 0.1
    flip: float = 0.0
    stretch: float = 0.0


@dataclass(frozen=True)
class NetworkPlan:
    """``name`` is ``echo``, ``mixer`` or ``conv-lstm``; the others belong to one of them, see their classes.

    ``compand`` is for all of them, see :class:`proxylesskd.models.standardised.Standardised`."""

    name: str = "echo"
    compand: bool = False
    patch: int = 16
    stride: int = 8
    token: int = 32
    hidden: int = 0
    size: int = 400
    leaks: list[float] = field(default_factory=lambda: [1.0, 0.5, 0.2, 0.1])
    radius: float = 0.9
    density: float = 0.1
    scale: float = 0.5
    dim: int = 96
    layers: int = 4
    dropout: float = 0.3
    width: float = 1.0


@dataclass(frozen=True)
class Plan:
    """All sections, and the seed that every random choice derives from."""

    seed: int = 0
    data: DataPlan = field(default_factory=DataPlan)
    model: NetworkPlan = field(default_factory=NetworkPlan)
    method: MethodRecipe = field(default_factory=_METHOD)
    train: TrainRecipe = field(default_factory=_TRAIN)
