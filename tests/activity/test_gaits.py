from __future__ import annotations

import numpy as np
import torch

from proxylesskd.activity.gaits import GAITS, RATE, make_gaits
from proxylesskd.activity.windows import open_windows


def test_gaits_depend_on_the_seed_alone() -> None:
    one, same, other = (make_gaits(people=3, windows=2, seed=seed) for seed in (4, 4, 5))
    assert torch.equal(one.values, same.values)
    assert not torch.equal(one.values, other.values)
    assert one.values.shape == (3 * 6 * 2, 3, 128)
    assert one.tested == (2,)


def test_gravity_and_steps_are_those_of_the_model() -> None:
    """What a person asleep and one who walks feel, seen by means and spectra."""
    found = make_gaits(people=12, windows=6, seed=0)
    values, names = found.values.numpy(), np.array(list(GAITS))[found.labels.numpy()]
    for name in GAITS:
        pull = np.linalg.norm(values[names == name].mean(axis=2), axis=1)
        assert abs(np.median(pull) - 1.0) < 0.06  # gravity is 1 g whatever the posture
    up = values[:, 2].mean(axis=1)
    assert np.median(up[names == "standing"]) > 0.9
    assert np.median(up[names == "lying"]) < 0.5
    walking = values[names == "walking"][:, 2]
    spectrum = np.abs(np.fft.rfft(walking - walking.mean(axis=1, keepdims=True), n=1024, axis=1))
    peaks = np.fft.rfftfreq(1024, 1 / RATE)[spectrum.argmax(axis=1)]
    assert 1.3 < np.median(peaks) < 2.3  # steps a second
    spread = [values[names == name].std(axis=2).mean() for name in ("sitting", "walking", "descending stairs")]
    assert spread == sorted(spread)


def test_the_default_is_synthetic() -> None:
    assert torch.equal(open_windows("gaits:1").values, make_gaits(seed=1).values)
