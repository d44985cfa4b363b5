from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from proxylesskd.errors import UserError
from proxylesskd.evaluation.all_pairs import AllPairs

Pair = tuple[float, int, int]


def images(seed: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    random = np.random.default_rng(seed)
    drawn = random.normal(size=(int(random.integers(20, 50)), 5)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True), random.integers(7, size=len(drawn)) * 3


def loops(gallery: npt.NDArray[np.float32], probes: npt.NDArray[np.float32], ids: npt.NDArray[np.int64], once: bool):  # type: ignore[no-untyped-def] # noqa: ANN201
    """Return the genuine scores and the impostor scores, in order."""
    numbers = np.unique(ids).tolist()
    genuine: list[tuple[float, int]] = []
    impostor: list[float] = []
    for i in range(len(ids)):
        for j in range(i + 1 if once else 0, len(ids)):
            score = sum(float(a) * float(b) for a, b in zip(gallery[i], probes[j], strict=True))
            if i != j and ids[i] == ids[j]:
                genuine.append((score, numbers.index(ids[i])))
            elif i != j:
                impostor.append(score)
    return sorted(genuine), sorted(impostor)


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_compares_what_loops_compare(seed: int, cross: bool) -> None:
    probes, ids = images(seed)
    gallery = np.roll(probes, 1, axis=1) if cross else None
    pairs = AllPairs.of(probes, ids, gallery, block=[1, 4, 7, 16, 64, 1024][seed])
    genuine, impostor = loops(probes if gallery is None else gallery, probes, ids, once=not cross)
    found, passed = pairs.genuine(), np.concatenate([scores.copy() for scores in pairs.impostors()])
    assert (pairs.genuine_count, pairs.impostor_count) == (len(genuine), len(impostor))
    assert np.allclose(np.sort(found.scores), [score for score, _ in genuine], atol=1e-6)
    assert (found.first == found.second).all()
    assert sorted(found.first.tolist()) == sorted(label for _, label in genuine)
    assert np.allclose(np.sort(passed), impostor, atol=1e-6)
    again = np.concatenate([scores.copy() for scores in pairs.impostors()])
    assert again.tobytes() == passed.tobytes()
    above = pairs.impostors_above(0.2)
    assert np.sort(above.scores).tobytes() == np.sort(passed[passed > np.float32(0.2)]).tobytes()
    assert (above.first != above.second).all()


def test_knows_who_was_compared() -> None:
    """One axis for every probe and a number for every pair, so that a score tells whose it is."""
    numbers = np.arange(16, dtype=np.float32).reshape(4, 4)
    ids = np.array([7, 5, 9, 7])
    above = AllPairs.of(np.eye(4, dtype=np.float32), ids, numbers, block=2).impostors_above(-1)
    names = np.array([5, 7, 9])
    gallery, probe = np.divmod(above.scores.astype(int), 4)
    assert (names[above.first] == ids[gallery]).all()
    assert (names[above.second] == ids[probe]).all()
    assert sorted(above.scores.tolist()) == [4 * i + j for i in range(4) for j in range(4) if ids[i] != ids[j]]


@pytest.mark.parametrize(
    ("probes", "ids", "gallery"),
    [
        (np.zeros((3, 2)), np.arange(3), None),
        (np.zeros((3, 2)), np.zeros(3, int), None),
        (np.zeros((3, 2)), np.zeros(2, int), None),
        (np.full((3, 2), np.nan), np.array([0, 0, 1]), None),
        (np.zeros((3, 2)), np.array([0, 0, 1]), np.zeros((3, 4))),
    ],
)
def test_refuses_what_cannot_be_compared(probes, ids, gallery) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    with pytest.raises(UserError, match=r"expected .* found"):
        AllPairs.of(probes.astype(np.float32), ids, None if gallery is None else gallery.astype(np.float32))
