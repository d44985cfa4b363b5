from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from proxylesskd.evaluation import resample
from proxylesskd.evaluation.resample import Resampling
from tests.evaluation.samples import people, set_of, tied_scores


def test_identities_are_drawn_where_all_are_known() -> None:
    pairs = people(6, 3, 40)
    resampling = Resampling.of(pairs)
    assert (resampling.unit, resampling.units) == ("identities", 6)
    assert pairs.identities is not None
    np.testing.assert_array_equal(resampling.first, pairs.identities[pairs.first])
    np.testing.assert_array_equal(resampling.second, pairs.identities[pairs.second])


def test_pairs_are_drawn_where_an_identity_is_unknown() -> None:
    pairs = people(6, 3, 40)
    assert pairs.identities is not None
    holed = pairs.identities.copy()
    holed[pairs.first[0]] = -1
    for identities in (None, holed):
        resampling = Resampling.of(replace(pairs, identities=identities))
        assert (resampling.unit, resampling.units) == ("pairs", len(pairs))
        assert resampling.first.tolist() == resampling.second.tolist() == list(range(len(pairs)))


def test_images_in_no_pair_do_not_count() -> None:
    """Neither as people to draw nor as people unknown."""
    same = np.array([True, False])
    first, second = np.array([0, 0]), np.array([1, 2])
    identities = np.array([40, 40, 7, 99, -1])
    images = np.zeros((5, 3, 4, 4), dtype=np.uint8)
    resampling = Resampling.of(set_of(same, first=first, second=second, identities=identities, images=images))
    assert (resampling.unit, resampling.units) == ("identities", 2)


def test_weights_are_what_repeating_people_would_give() -> None:
    """Draw people one by one, list every pair of a copy with itself or another person's copy, and count."""
    pairs = people(5, 3, 30)
    resampling = Resampling.of(pairs)
    (drawn,) = resampling.draw(20, seed=4)
    weights = resampling.weights(drawn, np.arange(len(pairs)))
    assert pairs.identities is not None
    one, other = pairs.identities[pairs.first].tolist(), pairs.identities[pairs.second].tolist()
    for replicate in range(20):
        team = [person for person in range(5) for _ in range(int(drawn[replicate, person]))]
        assert len(team) == 5
        for pair in range(len(pairs)):
            if pairs.same[pair]:
                count = sum(person == one[pair] for person in team)
            else:
                count = sum(a == one[pair] and b == other[pair] for a in team for b in team)
            assert weights[replicate, pair] == count


def test_weights_of_pairs_are_how_often_they_were_drawn() -> None:
    _, same = tied_scores(10, 15)
    resampling = Resampling.of(set_of(same))
    (drawn,) = resampling.draw(7, seed=1)
    assert drawn.shape == (7, 25)
    assert drawn.sum(axis=1).tolist() == [25.0] * 7
    chosen = np.array([3, 0, 24])
    np.testing.assert_array_equal(resampling.weights(drawn, chosen), drawn[:, chosen])


def test_draws_are_those_of_numpy_with_replacement() -> None:
    resampling = Resampling.of(people(8, 2, 10))
    (drawn,) = resampling.draw(3, seed=9)
    random = np.random.default_rng(9)
    for row in drawn:
        team = random.integers(8, size=8).tolist()
        assert row.tolist() == [team.count(person) for person in range(8)]


def test_draws_do_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    resampling = Resampling.of(people(8, 2, 10))
    whole = list(resampling.draw(11, seed=2))
    assert len(whole) == 1
    monkeypatch.setattr(resample, "BLOCK", 3 * 18)
    parts = list(resampling.draw(11, seed=2))
    assert [len(part) for part in parts] == [3, 3, 3, 2]
    np.testing.assert_array_equal(np.concatenate(parts), whole[0])
    monkeypatch.setattr(resample, "BLOCK", 1)
    assert [len(part) for part in resampling.draw(2, seed=2)] == [1, 1]
    assert list(resampling.draw(0, seed=2)) == []


def test_a_pair_within_a_person_counts_once_even_when_called_an_impostor() -> None:
    """Kinds come from the list, people from the folders: where both ends are one person the weight is that person's."""
    resampling = Resampling("identities", np.array([0, 0]), np.array([0, 1]), 2)
    weights = resampling.weights(np.array([[3.0, 2.0]]), np.array([0, 1]))
    assert weights.tolist() == [[3.0, 6.0]]
