"""Whole numbers for weights, biases and ranges."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

LEVELS = 63  # of a weight on each side of zero
SMALLEST = float(np.finfo(np.float16).smallest_normal)


def eight_bit_weights(weight: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Return weights ``[C, ...]`` as whole numbers of :data:`LEVELS` on each side of zero, and ``[C]`` scales.

    Scales are rounded up to numbers that float16 holds too, unless they are very small or large.
    """
    scale = np.abs(weight).reshape(len(weight), -1).max(1).astype(np.float32) / np.float32(LEVELS)
    scale = _rounded_up(np.maximum(scale, np.float32(1e-12)))
    return np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.int8), scale


def _rounded_up(scale: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):
        half = scale.astype(np.float16)
        up = np.where(half < scale, np.nextafter(half, np.float16(np.inf)), half).astype(np.float32)
    return np.where((scale >= SMALLEST) & np.isfinite(up), up, scale).astype(np.float32)


def eight_bit_slopes(slopes: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Return slopes of PReLUs as whole numbers to 127 and one scale: a product that nothing is added to has room."""
    scale = np.maximum(np.abs(slopes).max().astype(np.float32) / np.float32(127), np.float32(1e-12))
    return np.rint(slopes / scale).astype(np.int8), scale


def whole_bias(bias: npt.NDArray[Any], scale: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """Return biases ``[C]`` as multiples of the scales ``[C]`` of inputs times weights."""
    limits = np.iinfo(np.int32)
    whole: npt.NDArray[np.int32] = (
        np.rint(bias / scale.astype(np.float64)).clip(limits.min, limits.max).astype(np.int32)
    )
    return whole


def grid(low: float, high: float) -> tuple[float, int]:
    """Return scale and zero point of uint8 numbers between ``low <= 0`` and ``high >= 0``."""
    scale = max(float(np.float32((high - low) / 255)), 1e-12)
    return scale, round(min(255.0, max(0.0, -low / scale)))
