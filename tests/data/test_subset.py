from __future__ import annotations

import numpy as np
import pytest

from proxylesskd.data.subset import Subset, first_images
from proxylesskd.errors import UserError
from tests.faces import MemorySource


def shuffled() -> MemorySource:
    source = MemorySource(5, 4)
    order = np.random.default_rng(0).permutation(len(source))
    source.labels = source.labels[order]
    source._data = [source._data[i] for i in order]
    return source


def test_a_subset_reads_what_it_chose() -> None:
    source = shuffled()
    subset = Subset(source, np.array([7, 2, 11]))
    assert len(subset) == 3
    assert [subset.read(i) for i in range(3)] == [source.read(i) for i in (7, 2, 11)]
    assert subset.name(1) == source.name(2)
    assert subset.identities == source.identities
    assert subset.labels.tolist() == source.labels[[7, 2, 11]].tolist()


@pytest.mark.parametrize("count", [1, 3, 9])
def test_the_first_images_of_every_identity_against_a_loop(count: int) -> None:
    source = shuffled()
    seen = dict.fromkeys(range(5), 0)
    expected = []
    for index, label in enumerate(source.labels.tolist()):
        seen[label] += 1
        if seen[label] <= count:
            expected.append(source.read(index))
    subset = first_images(source, count)
    assert [subset.read(i) for i in range(len(subset))] == expected


def test_none_is_too_few() -> None:
    with pytest.raises(UserError, match="at least one image"):
        first_images(shuffled(), 0)
