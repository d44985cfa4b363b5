from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from proxylesskd.errors import UserError
from proxylesskd.losses.rows import CompactRows, Rows, block, gather, quantise, split

STORES = [lambda rows: rows, quantise, split]


def unit_rows(count: int = 50, dim: int = 24) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(1)), dim=1)


def test_a_byte_is_the_nearest_of_255_steps_of_its_row() -> None:
    rows = unit_rows(6, 9)
    stored = quantise(rows)
    for row, codes, scale in zip(rows.numpy(), stored.codes.numpy(), stored.steps.numpy(), strict=True):
        assert scale == pytest.approx(np.abs(row).max() / 127)
        np.testing.assert_array_equal(codes, np.round(row / scale))


def test_a_bfloat16_row_is_the_rounded_one() -> None:
    rows = unit_rows()
    assert torch.equal(split(rows).codes, rows.to(torch.bfloat16))


@pytest.mark.parametrize(("store", "coarse", "fine"), [(quantise, 4e-3, 2e-5), (split, 2e-3, 1e-5)])
def test_own_rows_are_a_hundred_times_more_exact_than_the_pass_over_all(
    store: object, coarse: float, fine: float
) -> None:
    rows = unit_rows(200, 64)
    stored: Rows = store(rows)  # type: ignore[operator]
    met = block(stored, 0, 200, torch.float64)
    own = gather(stored, torch.arange(200), torch.float64)
    for found, bound in ((met, coarse), (own, fine)):
        worst = float((found - rows).abs().max())
        assert bound / 100 < worst < bound
    assert float((own - rows).norm()) < 0.01 * float((met - rows).norm())


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_block_is_the_same_in_a_buffer(store: object, dtype: torch.dtype) -> None:
    stored: Rows = store(unit_rows())  # type: ignore[operator]
    buffer = torch.full((40, 24), float("nan"), dtype=dtype)
    plain = block(stored, 7, 31, dtype)
    assert plain.shape == (24, 24)
    assert plain.dtype == dtype
    assert torch.equal(block(stored, 7, 31, dtype, buffer), plain)


def test_rows_of_the_right_dtype_are_not_copied() -> None:
    rows = unit_rows()
    assert block(rows, 3, 9, torch.float32).data_ptr() == rows[3:].data_ptr()


@pytest.mark.parametrize("store", [quantise, split])
def test_stored_rows_look_like_a_tensor(store: object) -> None:
    stored: CompactRows = store(unit_rows())  # type: ignore[operator]
    assert stored.shape == (50, 24)
    assert len(stored) == 50
    assert stored.dtype == stored.codes.dtype
    assert stored.device.type == "cpu"
    assert not stored.requires_grad
    assert stored.detach() is stored
    assert torch.equal(stored.to("cpu").codes, stored.codes)


def test_a_row_of_zeros_stays_one() -> None:
    rows = torch.zeros(2, 3)
    rows[1] = 1.0
    for stored in (quantise(rows), split(rows)):
        assert torch.equal(gather(stored, torch.arange(2), torch.float32), rows)


@pytest.mark.parametrize("store", [quantise, split])
def test_wrong_rows_are_named(store: object) -> None:
    with pytest.raises(UserError, match=r"floating-point rows \[C, D\]"):
        store(torch.zeros(3, 3, dtype=torch.int64))  # type: ignore[operator]
