"""Randomness without state: every random number is a hash of what it belongs to.

A generator's stream depends on how often it was asked; a hash of (seed, step, sample) does not. So results are the
same whatever the batch, the worker, the device or the point at which a run was resumed, and whatever the version of
the library that would have supplied the generator.
"""

from __future__ import annotations

import torch

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def _signed(value: int) -> int:
    value &= _MASK
    return value - (1 << 64) if value >> 63 else value


def _shift_right(x: torch.Tensor, bits: int) -> torch.Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)  # logical: torch's shift of int64 keeps the sign


def mix64(x: torch.Tensor) -> torch.Tensor:
    """Hash int64 to int64, one to one: SplitMix64 (Steele, Lea, Flood 2014), a step and its finaliser."""
    x = x + _signed(_GOLDEN)
    x = (x ^ _shift_right(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift_right(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shift_right(x, 31)


def sample_keys(seed: int, step: int, indices: torch.Tensor) -> torch.Tensor:
    """Return one key per sample, ``[B] int64``, distinct for distinct indices.

    Args:
        seed: any integer (its low 64 bits count).
        step: step or epoch, so that a sample is treated differently each time it is met.
        indices: ``[B] int64``, the samples' indices in their source.
    """
    stream = torch.full((), _signed(seed), dtype=torch.int64, device=indices.device)
    return mix64(mix64(mix64(stream) + _signed(step)) + indices)


def uniform(keys: torch.Tensor, stream: int) -> torch.Tensor:
    """Return ``[B] float32`` in [0, 1), one number per key; other streams give independent numbers."""
    bits = _shift_right(mix64(keys ^ mix64(torch.full_like(keys, stream))), 40)
    return bits.to(torch.float32) / (1 << 24)
