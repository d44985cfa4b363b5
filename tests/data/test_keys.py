"""The hash, against SplitMix64 written in Python's integers."""

from __future__ import annotations

import numpy as np
import torch
from scipy import stats

from proxylesskd.data.keys import mix64, sample_keys, uniform

MASK = (1 << 64) - 1


def splitmix(state: int) -> int:
    z = (state + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def test_the_published_sequence() -> None:
    # First outputs of the generator for seed 1234567, as published with its reference implementation.
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    states = [(1234567 + i * 0x9E3779B97F4A7C15) & MASK for i in range(3)]
    assert [splitmix(s) for s in states] == published
    signed = torch.tensor(np.array(states, dtype=np.uint64).view(np.int64))
    assert mix64(signed).numpy().view(np.uint64).tolist() == published


def test_keys_by_hand() -> None:
    seed, step = -5, 7
    expected = [splitmix((splitmix((splitmix(seed & MASK) + step) & MASK) + i) & MASK) for i in (0, 3, 10**12)]
    keys = sample_keys(seed, step, torch.tensor([0, 3, 10**12]))
    assert keys.numpy().view(np.uint64).tolist() == expected


def test_keys_differ_by_seed_step_and_index() -> None:
    indices = torch.arange(1000)
    keys = torch.cat([sample_keys(s, t, indices) for s in (0, 1, 2) for t in (0, 1, 2)])
    assert len(torch.unique(keys)) == 9000


def test_numbers_are_uniform_and_streams_independent() -> None:
    keys = sample_keys(0, 0, torch.arange(20_000))
    one, other = uniform(keys, 1).double().numpy(), uniform(keys, 2).double().numpy()
    assert one.min() >= 0
    assert one.max() < 1
    assert stats.kstest(one, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.03
