from __future__ import annotations

import numpy as np
import pytest

from proxylesskd.export.grids import eight_bit_slopes, eight_bit_weights, grid, whole_bias


def test_weights_come_back_within_half_a_step_by_channel() -> None:
    weight = np.random.default_rng(0).normal(size=(5, 3, 2, 2)).astype(np.float32)
    weight[2] *= 100
    weight[4] = 0
    eight, scale = eight_bit_weights(weight)
    assert eight.dtype == np.int8
    assert np.abs(eight).max() <= 63
    for channel in range(5):
        assert np.abs(eight[channel] * scale[channel] - weight[channel]).max() <= scale[channel] * 0.5001
        least = max(np.abs(weight[channel]).max() / 63, 1e-12)
        assert 1 - 1e-6 <= scale[channel] / least <= 1 + 2**-10


@pytest.mark.parametrize("largest", [1e-9, 1e-3, 0.01, 1.0, 1234.5, 1e7])
def test_scales_are_numbers_of_half_precision_where_that_has_them(largest: float) -> None:
    weight = np.random.default_rng(1).uniform(-largest, largest, (50, 4)).astype(np.float32)
    eight, scale = eight_bit_weights(weight)
    assert np.abs(eight).max() <= 63
    exact = np.abs(weight).max(1) / np.float32(63)
    normal = (exact >= 2**-14) & (exact <= 65504)
    with np.errstate(over="ignore"):
        assert (scale.astype(np.float16)[normal] == scale[normal]).all()
    np.testing.assert_array_equal(scale[~normal], exact[~normal])


def test_slopes_share_one_scale_and_use_all_its_levels() -> None:
    slopes = np.array([0.25, -0.5, 0.1, 0.0], np.float32).reshape(4, 1, 1, 1)
    eight, scale = eight_bit_slopes(slopes)
    assert eight.dtype == np.int8
    assert eight.reshape(-1).tolist() == [64, -127, 25, 0]
    assert scale.shape == ()
    assert float(scale) == pytest.approx(0.5 / 127, rel=1e-6)
    none, scale = eight_bit_slopes(np.zeros((2, 1, 1, 1), np.float32))
    assert not none.any()
    assert scale > 0


def test_biases_are_multiples_and_never_overflow() -> None:
    bias, scale = np.array([1.0, -2.0, 1e9], np.float32), np.array([0.25, 0.5, 1e-9], np.float32)
    assert whole_bias(bias, scale).tolist() == [4, -4, 2**31 - 1]


@pytest.mark.parametrize(("low", "high"), [(-1.0, 3.0), (0.0, 5.0), (-2.0, 0.0), (0.0, 0.0)])
def test_a_grid_covers_its_range_and_holds_zero(low: float, high: float) -> None:
    scale, zero = grid(low, high)
    assert 0 <= zero <= 255
    assert scale > 0
    assert (0 - zero) * scale <= low + scale / 2
    assert (255 - zero) * scale >= high - scale / 2
