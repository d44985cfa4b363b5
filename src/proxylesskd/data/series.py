"""Augmentation of series, as a function of (seed, step): resampling, time that runs backwards, Gaussian jitter."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from proxylesskd.data.keys import sample_keys


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
    """Change ``[B, C, T] float32`` series; of one seed and step always in the same way.

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
