"""Balanced batches, against what they promise."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from proxylesskd.data.balanced import balanced_count, balanced_indices, balanced_plan, members_of
from proxylesskd.data.sampler import batch_indices
from proxylesskd.errors import UserError

# ten identities with 1 to 10 images, in no order, and labels with gaps
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(10) * 3, np.arange(1, 11)))


def whole(step: int, batch: int, world: int, **options: float) -> tuple[list[int], list[int]]:
    """The general and the balanced part of all ranks together."""
    general, balanced = list[int](), list[int]()
    for rank in range(world):
        plan = balanced_plan(LABELS, batch=batch // world, seed=5, rank=rank, world=world, **options)  # type: ignore[arg-type]
        part = plan(step)
        assert part.dtype == np.int64
        assert len(part) == batch // world
        count = balanced_count(
            batch // world, world, int(options.get("images_per_identity", 4)), options.get("share", 0.5)
        )
        general += part[: len(part) - count].tolist()
        balanced += part[len(part) - count :].tolist()
    return general, balanced


def test_members_are_the_images_of_each_identity() -> None:
    members = members_of(LABELS)
    assert len(members) == 10
    for identity in range(10):
        assert members.of(identity).tolist() == np.flatnonzero(3 * identity == LABELS).tolist()


@pytest.mark.parametrize("world", [1, 2, 4, 8])
def test_every_number_of_processes_shares_the_same_batch(world: int) -> None:
    for step in range(8):
        assert whole(step, 16, world) == whole(step, 16, 1)


def test_the_general_part_is_the_ordinary_stream() -> None:
    for step in range(6):
        expected = batch_indices(step, length=len(LABELS), batch=8, seed=5)
        assert whole(step, 16, 1)[0] == expected.tolist()


@pytest.mark.parametrize(("images", "share"), [(4, 0.5), (2, 0.5), (3, 0.75), (4, 1.0), (1, 0.25)])
def test_the_balanced_part_is_some_images_of_a_few_identities(images: int, share: float) -> None:
    batch = 16
    for step in range(12):
        general, balanced = whole(step, batch, 1, images_per_identity=images, share=share)
        assert len(general) == batch - batch * share
        for start in range(0, len(balanced), images):
            group = balanced[start : start + images]
            (label,) = set(LABELS[group].tolist())
            have = int((label == LABELS).sum())
            # no image comes again before all of the identity's have come
            assert len(set(group)) == min(images, have)
            assert max(Counter(group).values()) == -(-images // have) if have < images else 1


def test_identities_are_met_equally_often_and_their_images_in_turn() -> None:
    met, images = Counter[int](), Counter[int]()
    for step in range(200):
        _, balanced = whole(step, 16, 1)
        met.update(LABELS[balanced[::4]].tolist())
        images.update(balanced)
    assert set(met.values()) == {40}  # 200 steps of two of ten identities
    assert set(images) == set(range(len(LABELS)))
    # an identity of ten images shows four of them 40 times: each some 16 times, with a deviation of 3
    largest = [images[index] for index in np.flatnonzero(LABELS == 27)]
    assert 4 < min(largest) <= max(largest) < 30


def test_steps_and_seeds_differ_and_nothing_else_matters() -> None:
    members = members_of(LABELS)
    found = [balanced_indices(step, members=members, batch=8, seed=seed).tolist() for step in (0, 1) for seed in (0, 1)]
    assert len({tuple(each) for each in found}) == 4
    assert found[2] == balanced_indices(1, members=members_of(LABELS.copy()), batch=8, seed=0).tolist()


def test_the_order_is_that_of_the_first_release() -> None:
    # A change here makes every run irreproducible and every resumed run wrong.
    labels = np.repeat(np.arange(5), 3)
    assert balanced_indices(2, members=members_of(labels), batch=8, seed=1).tolist() == [2, 14, 4, 12, 1, 0, 2, 1]


def test_more_identities_than_there_are_come_again() -> None:
    labels = np.zeros(3, dtype=np.int64)
    found = balanced_plan(labels, batch=16, seed=0, share=1.0)(0)
    assert Counter(found.tolist()).most_common()[-1][1] >= 4
    assert set(found.tolist()) == {0, 1, 2}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 12}, "found 12 images on each of 1 processes; give a multiple of 8"),
        ({"batch": 4, "world": 3}, "give a multiple of 8"),
        ({"batch": 9, "images_per_identity": 1}, "give a multiple of 2"),
        ({"batch": 8, "share": 0.0}, r"share in \(0, 1\]"),
        ({"batch": 8, "images_per_identity": 0}, "at least 1 image"),
    ],
)
def test_batches_that_cannot_be_shared_out_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        balanced_plan(LABELS, seed=0, **options)
    with pytest.raises(UserError, match="found none"):
        balanced_plan(LABELS[:0], batch=8, seed=0)
