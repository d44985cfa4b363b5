from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import KMeans

from proxylesskd.audit.leave_one_out import centres, space_of
from proxylesskd.audit.one_or_two import half_levels, two_groups
from tests.audit.worlds import unit, world


@pytest.mark.parametrize("seed", range(5))
def test_two_groups_are_those_of_k_means(seed: int) -> None:
    random = np.random.default_rng(seed)
    people = unit(random.standard_normal((2, 32)))
    truth = np.arange(14) < 5
    images = unit(people[truth.astype(int)] + 0.1 * random.standard_normal((14, 32))).astype(np.float32)
    found = two_groups(images)
    assert found.tolist() == truth.tolist()
    other = KMeans(2, n_init=10, random_state=0).fit_predict(images).astype(bool)
    assert found.tolist() in (other.tolist(), (~other).tolist())


def test_the_smaller_group_is_the_second() -> None:
    images = np.eye(4, dtype=np.float32)[[0, 1, 1, 1, 1]]
    assert two_groups(images).tolist() == [True, False, False, False, False]


def test_equal_images_are_one_group() -> None:
    assert not two_groups(np.eye(3, dtype=np.float32)[[0, 0, 0, 0]]).any()


def test_halves_of_identities_say_what_one_person_reaches() -> None:
    known = world(400, 32, images=12, seed=2)
    embedded = known.embedded
    space = space_of(known.classifier(), embedded)
    levels = half_levels(space, centres(space, embedded.labels >= 0))
    views = unit(unit(embedded.views.astype(np.float64)).sum(axis=1))
    cosines: list[list[float]] = [[], []]
    for label in range(400):
        images = np.flatnonzero(embedded.labels == label)
        if len(images) >= 4:
            size = 0 if len(images) < 8 else 1  # halves of two and three images, or of four and more
            halves = [unit(views[images[side::2]].sum(axis=0)) for side in (0, 1)]
            cosines[size].append(float(halves[0] @ halves[1]))
    # which half an image falls into is arbitrary, so the quantiles agree up to chance
    assert levels[0] == pytest.approx(np.quantile(cosines[0], 0.1), abs=0.05)
    assert levels[1] == pytest.approx(np.quantile(cosines[1], 0.1), abs=0.05)
    assert levels[1] > levels[0] + 0.05
    assert np.isinf(levels[-1])


def test_too_few_identities_say_nothing() -> None:
    known = world(10, 16, images=6)
    space = space_of(known.classifier(), known.embedded)
    assert np.isinf(half_levels(space, centres(space, known.embedded.labels >= 0))).all()
