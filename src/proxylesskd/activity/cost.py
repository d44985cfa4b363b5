"""What a recogniser costs where it runs: its multiply-adds with the recurrence, and the paper's energy score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from proxylesskd.activity.echo import PatchEcho
from proxylesskd.models.count import count_parameters, multiply_adds_of
from proxylesskd.models.running_cost import milliseconds, peak_bytes

COSTS, POWER_SAVING = ("multiply_adds", "peak_bytes", "file_bytes"), (0.7, 0.2, 0.1)  # and the paper's weights of them


def multiply_adds(model: nn.Module, channels: int, samples: int, *, recurrent: bool = True) -> int:
    """Return the multiply-adds of a model for one window; ``recurrent=False`` forgets reservoirs, as was published.

    They cost the entries of both their matrices that are not zero, at each patch and each of the two learned tokens.
    """
    counted, rows = multiply_adds_of(model, torch.zeros(1, channels, samples)), getattr(model, "rows", None)
    counted += rows.numel() if isinstance(rows, Tensor) else 0
    for echo in model.modules() if recurrent else ():
        if isinstance(echo, PatchEcho):
            steps = (samples - echo.patches.kernel_size[0]) // echo.patches.stride[0] + 3
            held = echo.reservoir.recurrent.count_nonzero() + echo.reservoir.arriving.count_nonzero()
            counted += steps * int(held)
    return counted


def cost_of(model: nn.Module, channels: int, samples: int, file_bytes: int) -> dict[str, Any]:
    """Return all costs of one window on one thread as plain values; a reservoir's weights are parameters, too."""
    window, buffers = torch.zeros(1, channels, samples), sum(one.numel() for one in model.buffers())
    return {
        "parameters": count_parameters(model) + buffers,
        "trained": count_parameters(model),
        "multiply_adds": multiply_adds(model, channels, samples),
        "without_recurrence": multiply_adds(model, channels, samples, recurrent=False),
        "peak_bytes": peak_bytes(model, window),
        "file_bytes": file_bytes,
        "milliseconds": milliseconds(model, window),
    }


def energy_scores(costs: Sequence[Mapping[str, float]], weights: Sequence[float] = POWER_SAVING) -> list[float]:
    """Return the paper's energy score of each model: ``log(1 + x)`` of three costs, each from 0 to 1 over the models.

    Accuracy divided by the score (and 1e-6) is its "accuracy-energy ratio"; both depend on which models are compared.
    """
    units = np.array([1.0, 1e6, 1e6])  # the paper takes MB
    table = np.log1p(np.array([[one[key] for key in COSTS] for one in costs]) / units)
    span = np.ptp(table, axis=0)
    scaled = (table - table.min(axis=0)) / np.where(span > 0, span, 1.0)
    return [float(one) for one in scaled @ np.asarray(weights)]
