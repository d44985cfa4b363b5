import numpy as np
import pytest

from proxylesskd.errors import UserError
from proxylesskd.inspection import duplicates
from proxylesskd.inspection.duplicates import Twins, equal_twins, near_twins


def test_equal_bytes_count_under_another_identity_alone() -> None:
    labels = np.array([0, 0, 1, 2, 1])
    digests = {0: b"a", 1: b"a", 2: b"a", 3: b"b", 4: b"a"}
    assert equal_twins(digests, labels) == [Twins(0, 2), Twins(0, 4)]


@pytest.mark.parametrize("block", [3, 100])
def test_near_twins_against_loops(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "BLOCK", block)
    random = np.random.default_rng(3)
    embeddings = random.normal(size=(20, 3)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    labels = random.integers(0, 4, 20)
    indices = [100 + 2 * i for i in range(20)]
    expected = {
        (indices[i], indices[j]): float(embeddings[i] @ embeddings[j])
        for i in range(20)
        for j in range(i + 1, 20)
        if labels[i] != labels[j] and embeddings[i] @ embeddings[j] >= 0.6
    }
    found, total = near_twins(embeddings, indices, labels, 0.6)
    assert total == len(expected) > 5
    assert {(one.first, one.second): one.cosine for one in found} == pytest.approx(expected)
    assert [one.cosine for one in found] == sorted((one.cosine for one in found), reverse=True)
    monkeypatch.setattr(duplicates, "SHOWN", 4)
    few, all_of_them = near_twins(embeddings, indices, labels, 0.6)
    assert (few, all_of_them) == (found[:4], total)


def test_thresholds() -> None:
    for threshold in (0.0, 1.1, float("nan")):
        with pytest.raises(UserError, match=r"\(0, 1\]"):
            near_twins(np.eye(2, dtype=np.float32), [0, 1], np.array([0, 1]), threshold)
