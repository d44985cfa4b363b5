from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from proxylesskd.audit.evidence import gather
from proxylesskd.audit.finding import Finding
from proxylesskd.audit.names import current_rows
from proxylesskd.audit.order import check_order, mend_order
from proxylesskd.errors import UserError
from tests.audit.worlds import World, world

PLACE = world(60, 64)


def judge(place: World, rows: torch.Tensor, *, low: bool, names: list[str] | None = None) -> Finding:
    evidence = gather(place.embedded)
    names = names or place.names
    found = check_order(evidence, rows, names, current_rows(names, place.names), low=low)
    json.dumps(dict(found.details))
    return found


def assert_mends(place: World, rows: torch.Tensor, found: Finding, truth: torch.Tensor) -> None:
    """After mending, the row of every name is the one that truly belongs to it."""
    mended = mend_order(place.classifier(rows), found.details["mapping"])
    torch.testing.assert_close(mended.rows[mended.rows_of(place.names)], truth)
    assert mended.provenance["was"] == place.classifier(rows).fingerprint


@pytest.mark.parametrize("by", [1, 7, -2])
def test_a_constant_shift_is_named_and_mended(by: int) -> None:
    rows = PLACE.centres().roll(by, 0)
    found = judge(PLACE, rows, low=True)
    assert found.level == "failed"
    assert f"shifted by {by:+d}" in found.message
    assert "mend it with --mend" in found.message
    assert_mends(PLACE, rows, found, PLACE.centres())


def test_a_shift_among_more_rows_than_identities() -> None:
    more = torch.cat([world(4, 64, seed=5).true, PLACE.true])
    found = judge(PLACE, more, low=True, names=[*PLACE.names, "a", "b", "c", "d"])
    assert "shifted by +4" in found.message
    mended = mend_order(PLACE.classifier(more, [*PLACE.names, "a", "b", "c", "d"]), found.details["mapping"])
    torch.testing.assert_close(mended.rows[mended.rows_of(PLACE.names)], PLACE.true)


@pytest.mark.parametrize(
    ("order", "text"),
    [
        (sorted(range(60), key=lambda number: f"p{number}"), "in the lexicographic order of the names ('10' before"),
        (list(range(60))[::-1], "in reverse"),
    ],
)
def test_a_usual_order_is_named_and_mended(order: list[int], text: str) -> None:
    rows = PLACE.centres()[order]
    found = judge(PLACE, rows, low=True)
    assert text in found.message
    assert_mends(PLACE, rows, found, PLACE.centres())


def test_numeric_order_under_lexicographic_names() -> None:
    names = sorted(PLACE.names)
    found = judge(PLACE, PLACE.true, low=True, names=names)
    assert "in the numeric order of the names ('2' before '10')" in found.message
    mended = mend_order(PLACE.classifier(PLACE.true, names), found.details["mapping"])
    torch.testing.assert_close(mended.rows[mended.rows_of(PLACE.names)], PLACE.true)


def test_numbered_rows_are_mended_under_the_names_of_the_data() -> None:
    numbers = [str(row) for row in range(60)]
    found = judge(PLACE, PLACE.true.roll(3, 0), low=True, names=numbers)
    mended = mend_order(PLACE.classifier(PLACE.true.roll(3, 0), numbers), found.details["mapping"])
    torch.testing.assert_close(mended.rows[mended.rows_of(PLACE.names)], PLACE.true)


@pytest.mark.parametrize("noise", [0.5, 1.0])
def test_a_general_permutation_is_found_and_mended(noise: float) -> None:
    place = world(60, 64, noise=noise)
    order = torch.from_numpy(np.random.default_rng(2).permutation(60))
    found = judge(place, place.centres()[order], low=True)
    assert "in a general permutation: 60 class centres" in found.message
    assert_mends(place, place.centres()[order], found, place.centres())


def test_a_permutation_of_which_only_a_part_is_seen_cannot_be_mended() -> None:
    labels = np.where(PLACE.embedded.labels < 50, PLACE.embedded.labels, -1)
    part = World(PLACE.true, dataclasses.replace(PLACE.embedded, labels=labels))
    order = torch.from_numpy(np.random.default_rng(2).permutation(60))
    found = judge(part, PLACE.true[order], low=True)
    assert "(10 identities have no proven row)" in found.message
    with pytest.raises(UserError, match="found none for 10, first 'p50'"):
        mend_order(PLACE.classifier(PLACE.true[order]), found.details["mapping"])


@pytest.mark.parametrize("dim", [16, 64])
def test_rows_of_another_teacher_or_of_other_people_belong_nowhere(dim: int) -> None:
    place = world(60, dim)
    random = np.random.default_rng(0).standard_normal((dim, dim))
    turned = place.true @ torch.from_numpy(np.linalg.qr(random)[0]).float()
    for rows in (turned, world(60, dim, seed=8).centres()):
        found = judge(place, rows, low=True)
        assert found.level == "failed"
        assert found.details["kind"] == "foreign"
        assert "another teacher or from other images" in found.message
        assert "mapping" not in found.details


@pytest.mark.parametrize(("people", "level"), [(60, "failed"), (300, "warning")])
@pytest.mark.parametrize("noise", [0.5, 2.0])
def test_a_swap_among_right_rows_is_found_and_mended(people: int, level: str, noise: float) -> None:
    place = world(people, 64, noise=noise, images=8)
    rows = place.centres()
    swapped = rows.clone()
    swapped[[3, 9]] = rows[[9, 3]]
    found = judge(place, swapped, low=False)
    assert found.level == level
    assert "found 2 of" in found.message
    assert "'p3', 'p9'" in found.message
    assert_mends(place, swapped, found, rows)


def test_a_look_alike_whose_owner_is_at_home_is_no_swap() -> None:
    """All images of p3 show p9: a label error, and no order of rows mends it."""
    labels = PLACE.embedded.labels.copy()
    pictures = np.flatnonzero(labels == 9)
    labels[labels == 3] = -1
    labels[pictures[: len(pictures) // 2]] = 3
    place = World(PLACE.true, dataclasses.replace(PLACE.embedded, labels=labels))
    assert judge(place, PLACE.true, low=False).level == "passed"


def test_one_person_under_two_labels_is_no_swap() -> None:
    """p3 and p9 are one person, and each one's images happen to lie nearer to the other's row."""
    rows = PLACE.centres()
    rows[9] = torch.nn.functional.normalize(rows[3] + 0.3 * rows[9], dim=0)
    labels, twins = PLACE.embedded.labels, rows[[9, 3]].numpy()
    views = PLACE.embedded.views.copy()
    for label, picture in zip((3, 9), twins, strict=True):
        views[labels == label] = picture
    place = World(PLACE.true, dataclasses.replace(PLACE.embedded, views=views))
    found = judge(place, rows, low=False)
    assert found.level == "passed"
    assert found.details["at_home"] == round(58 / 60, 4)


def test_a_row_lost_in_the_middle_shifts_the_rest_and_one_identity_stays_without() -> None:
    rows = torch.cat([PLACE.true[:50], PLACE.true[51:], world(1, 64, seed=3).true])
    found = judge(PLACE, rows, low=False)
    assert found.level == "failed"
    assert found.details["moved"] == 9
    assert found.details["mapping"]["p59"] == 58
    with pytest.raises(UserError, match="found none for 1, first 'p50'"):
        mend_order(PLACE.classifier(rows), found.details["mapping"])


def test_nothing_to_compare_is_said() -> None:
    evidence = gather(PLACE.embedded)
    found = check_order(evidence, PLACE.true, PLACE.names, torch.full((60,), -1), low=True)
    assert found.level == "warning"


def test_mending_keeps_free_names_and_refuses_nonsense() -> None:
    small = world(4, 8).classifier(names=["a", "b", "c", "d"])
    assert mend_order(small, {"c": 0}).identities == ["c", "b", "a", "d"]
    assert mend_order(small, {"x": 1, "a": 0}).identities == ["a", "x", "c", "d"]
    for mapping in ({"a": 0, "b": 0}, {"a": 4}):
        with pytest.raises(UserError, match=r"different rows in \[0, 4\)"):
            mend_order(small, mapping)
