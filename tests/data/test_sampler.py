"""The order of samples, against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxylesskd.data.sampler import batch_indices, permutation
from proxylesskd.errors import UserError


def stream(length: int, seed: int, count: int) -> list[int]:
    """Concatenate the epochs, one index after the other."""
    out: list[int] = []
    epoch = 0
    while len(out) < count:
        out.extend(permutation(length, seed, epoch).tolist())
        epoch += 1
    return out[:count]


@settings(max_examples=60, deadline=None)
@given(length=st.integers(1, 40), batch=st.integers(1, 50), world=st.integers(1, 4), seed=st.integers(-(2**63), 2**63))
def test_steps_and_ranks_cut_the_stream_in_turn(length: int, batch: int, world: int, seed: int) -> None:
    steps = 4
    expected = stream(length, seed, steps * world * batch)
    found: list[int] = []
    for step in range(steps):
        for rank in range(world):
            part = batch_indices(step, length=length, batch=batch, seed=seed, rank=rank, world=world)
            assert part.dtype == np.int64
            assert len(part) == batch
            found.extend(part.tolist())
    assert found == expected


def test_each_epoch_holds_everything_once_and_in_its_own_order() -> None:
    orders = [permutation(1000, 3, epoch).tolist() for epoch in range(3)]
    assert all(sorted(order) == list(range(1000)) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    assert permutation(1000, 4, 0).tolist() != orders[0]


def test_orders_look_random() -> None:
    # Mean displacement of a uniform permutation of n is n/3.
    order = permutation(3000, 0, 0)
    assert abs(np.abs(order - np.arange(3000)).mean() - 1000) < 60
    # Every index falls into the first half about as often as not.
    first_half = sum(np.isin(np.arange(20), permutation(20, seed, 0)[:10]).astype(int) for seed in range(400))
    assert np.abs(first_half - 200).max() < 50


def test_the_order_is_that_of_the_first_release() -> None:
    # A change here makes every run irreproducible and every resumed run wrong.
    assert permutation(10, 0, 0).tolist() == [2, 5, 3, 9, 4, 8, 0, 1, 7, 6]


def test_the_order_is_shared_and_read_only() -> None:
    order = permutation(10, 0, 0)
    assert permutation(10, 0, 0) is order
    with pytest.raises(ValueError, match="read-only"):
        order[0] = 1


@pytest.mark.parametrize(
    "wrong",
    [{"length": 0}, {"batch": 0}, {"world": 0}, {"rank": 2, "world": 2}, {"rank": -1}, {"step": -1}],
)
def test_senseless_sizes_are_refused(wrong: dict[str, int]) -> None:
    given_ = {"step": 0, "length": 5, "batch": 2, "seed": 0, **wrong}
    with pytest.raises(UserError, match="expected length, batch, world >= 1"):
        batch_indices(given_.pop("step"), **given_)
