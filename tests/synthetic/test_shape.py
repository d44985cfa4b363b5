from __future__ import annotations

import itertools

import numpy as np
import pytest

from proxylesskd.synthetic import shape
from proxylesskd.synthetic.head import Head

PERSON = shape.Phenotype(0.3, 0.75, 0.2, 0.9, np.array([0.2, 0.5, 0.3]))
GRID = itertools.product(
    ("male", "female"),
    ("child", "young", "old"),
    ("minmuscle", "averagemuscle", "maxmuscle"),
    ("minweight", "averageweight", "maxweight"),
)


def test_macro_weights_are_shares() -> None:
    names = np.array(["-".join(("universal", *words)) for words in GRID])
    weights = dict(zip(names, shape.macro_weights(PERSON, names), strict=True))
    assert sum(weights.values()) == pytest.approx(1)
    # age 0.75 lies a quarter of the way from young (2/3) to old (1); muscle 0.2 is 0.6 of the least
    assert weights["universal-male-old-minmuscle-maxweight"] == pytest.approx(0.7 * 0.25 * 0.6 * 0.8, rel=1e-5)
    ancestry = shape.macro_weights(PERSON, np.array(["asian-female-young", "african-male-child"]))
    np.testing.assert_allclose(ancestry, [0.5 * 0.3 * 0.75, 0], atol=1e-6)


def test_blend_adds_offsets(head: Head) -> None:
    macro = np.array([0.5, 0, 0.2, 0, 0], np.float32)
    values = np.zeros(len(head.local_names), np.float32)
    values[[0, 3]] = [0.5, -0.25]
    local = shape.local_weights(values)
    assert (local >= 0).all()
    wanted = head.vertices.astype(np.float64).copy()
    for weight, offset in zip(macro, head.macro, strict=True):
        wanted += weight * offset.astype(np.float64)
    wanted += 0.5 * head.local[0, 0] + 0.25 * head.local[3, 1]
    np.testing.assert_allclose(shape.blend(head, macro, local), shape.settled(head, wanted), atol=1e-5)


def test_size_and_place_are_the_same_for_all(head: Head) -> None:
    moved = shape.settled(head, (head.vertices * 1.3 + np.array([1, -2, 3])).astype(np.float32))
    np.testing.assert_allclose(moved, head.vertices, atol=1e-4)


def test_draws_are_nearly_symmetric_and_differ(head: Head) -> None:
    names = head.local_names.tolist()
    draws = np.stack([shape.draw_local(np.random.default_rng(i), head.local_names) for i in range(200)])
    left, right = draws[:, names.index("l-eye-trans-out")], draws[:, names.index("r-eye-trans-out")]
    assert np.abs(left - right).mean() < 0.12 < left.std()
    assert np.abs(draws).max() <= 0.95
    people = [shape.draw_phenotype(np.random.default_rng(i)) for i in range(300)]
    assert 0.35 < np.mean([p.female > 0.5 for p in people]) < 0.65
    assert all(0.5 <= p.age <= 1 and p.ancestry.sum() == pytest.approx(1) for p in people)
