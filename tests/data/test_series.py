from __future__ import annotations

import numpy as np
import torch

from proxylesskd.data.series import augment_series, cut, quiet_levels

ONES = torch.ones(2, 1)


def test_augmentation_is_a_function_of_seed_and_step() -> None:
    values = torch.randn(4, 2, 30)
    how = {"deviation": ONES, "jitter": 0.1, "flip": 0.5, "stretch": 0.3}
    first, again = (augment_series(values, 3, 7, **how) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, augment_series(values, 3, 8, **how))
    assert not torch.equal(first, augment_series(values, 4, 7, **how))
    assert torch.equal(augment_series(values, 3, 7, deviation=ONES), values)


def test_jitter_is_in_units_of_each_channel() -> None:
    deviation = torch.tensor([[1.0], [10.0]])
    noise = augment_series(torch.zeros(64, 2, 200), 0, 0, deviation=deviation, jitter=0.1)
    assert np.allclose(noise.std(dim=(0, 2)).numpy(), [0.1, 1.0], rtol=0.03)


def test_flips_reverse_whole_series() -> None:
    values = torch.randn(40, 2, 9)
    turned = augment_series(values, 0, 0, deviation=ONES, flip=0.5)
    back = [torch.equal(a, b.flip(1)) for a, b in zip(turned, values, strict=True)]
    same = [torch.equal(a, b) for a, b in zip(turned, values, strict=True)]
    assert all(a != b for a, b in zip(back, same, strict=True))
    assert 8 < sum(back) < 32


def test_stretching_keeps_a_line_a_line_within_its_ends() -> None:
    line = torch.linspace(0, 1, 50).expand(3, 2, 50)
    for step in range(20):
        found = augment_series(line, 0, step, deviation=ONES, stretch=0.4).double().numpy()
        assert np.allclose(np.diff(found, n=2, axis=2), 0, atol=1e-6)
        assert found.min() >= 0
        assert found.max() <= 1
        assert 0.57 < found[0, 0, -1] - found[0, 0, 0] <= 1.0


def test_cuts_hold_one_class_and_no_break() -> None:
    values = np.arange(20, dtype=float)[:, None]
    named = np.array(["a"] * 9 + [""] * 3 + ["b"] * 8)
    breaks = np.zeros(20, bool)
    breaks[15] = True
    windows, names = cut(values, named, breaks, 4)
    wanted = [s for s in range(17) if len(set(named[s : s + 4])) == 1 and named[s] and not breaks[s + 1 : s + 4].any()]
    begins = [int(one[0, 0]) for one in windows]
    assert set(begins) <= set(wanted)
    assert begins == [0, 2, 4, 15]
    assert names.tolist() == ["a", "a", "a", "b"]


def test_quiet_levels_are_low_quantiles_of_what_windows_vary_by() -> None:
    values = (
        torch.randn(40, 3, 16, generator=torch.Generator().manual_seed(2)) * torch.linspace(0.1, 2, 40)[:, None, None]
    )
    found = quiet_levels(values, 0.25)
    for channel in range(3):
        deviations = [np.std(window[channel].numpy(), ddof=1) for window in values]
        assert np.isclose(float(found[channel]), np.quantile(deviations, 0.25), rtol=1e-5)
