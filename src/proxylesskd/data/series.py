"""Series of samples: cut into windows, and augmented as a function of (seed, step)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from proxylesskd.data.keys import sample_keys

Array = npt.NDArray[Any]


def augment_series(
    values: Tensor,
    seed: int,
    step: int,
    *,
    deviation: Tensor,
    jitter: float = 0.0,
    flip: float = 0.0,
    stretch: float = 0.0,
) -> Tensor:
    """Resample, turn and jitter ``[B, C, T] float32`` series; of one seed and step always in the same way.

    Args:
        values: the series.
        seed: any integer.
        step: of the training.
        deviation: ``[C, 1]``, what the jitter of each channel is measured in.
        jitter: standard deviation of the noise.
        flip: probability that a series runs backwards.
        stretch: largest share that is cut off at the ends, for the whole batch alike; the rest is resampled to T.
    """
    key = int(sample_keys(seed, step, torch.zeros(1, dtype=torch.int64)))
    random, samples = torch.Generator().manual_seed(key & (2**62 - 1)), values.shape[2]
    share, place = torch.rand(2, generator=random).tolist()
    kept = samples - int(stretch * share * samples)
    first = int((samples - kept + 1) * place)
    if kept < samples:
        part = values[:, :, first : first + kept]
        values = F.interpolate(part, size=samples, mode="linear", align_corners=True)
    backwards = torch.rand(len(values), generator=random) < flip
    values = torch.where(backwards[:, None, None], values.flip(2), values)
    return values + jitter * deviation * torch.randn(values.shape, generator=random)


def quiet_levels(values: Tensor, share: float = 0.1) -> Tensor:
    """Return ``[C]``: how far a channel departs from its mean in the quietest ``share`` of ``[N, C, T]`` windows."""
    return values.std(dim=2).quantile(share, dim=0)


def cut(values: Array, named: Array, breaks: Array, length: int) -> tuple[Array, Array]:
    """Return ``[N, C, length]`` windows, overlapping by half, that hold one class and no break, and ``[N]`` its name.

    Args:
        values: ``[S, C]`` samples; windows with one that is not finite are left out.
        named: ``[S]`` class of each of them; those with an empty name are left out.
        breaks: ``[S]``, whether a new recording begins at a sample.
        length: samples of a window.
    """
    starts = np.flatnonzero(breaks | np.append(True, named[1:] != named[:-1]))
    ends = np.append(starts[1:], len(named))
    spans = [np.arange(a, b - length + 1, max(1, length // 2)) for a, b in zip(starts, ends, strict=True) if named[a]]
    begin = np.concatenate([*spans, np.empty(0, np.int64)]).astype(np.int64)
    taken = values[begin[:, None] + np.arange(length)]  # [N, length, C]
    whole = np.isfinite(taken).all(axis=(1, 2))
    return taken[whole].transpose(0, 2, 1), named[begin[whole]]
