from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from proxylesskd.errors import UserError
from proxylesskd.protocols.identification import identify

Embeddings = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


def unit(random: np.random.Generator, count: int, dim: int) -> Embeddings:
    drawn = random.normal(size=(count, dim)).astype(np.float32)
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))


def plain(probe: Embeddings, own: int, gallery: Embeddings, ids: Ints) -> tuple[float, float | None, int]:
    """One search by loops: best of the others, mate, rank with the mate behind all that tie."""
    scores: dict[int, float] = {}
    for entry, identity in zip(gallery, ids.tolist(), strict=True):
        product = float(np.dot(probe.astype(np.float64), entry.astype(np.float64)))
        scores[identity] = max(product, scores.get(identity, -np.inf))
    mate = scores.pop(own, None)
    best = max(scores.values(), default=-np.inf)
    return best, mate, 0 if mate is None else 1 + sum(score > mate - 1e-13 for score in scores.values())


@pytest.mark.parametrize("seed", range(60))
def test_searches_as_plain_loops_do(seed: int) -> None:
    """Small dimensions and copied entries, so that ties, identities of several entries and empty sides occur."""
    random = np.random.default_rng(seed)
    probes, gallery = unit(random, random.integers(1, 15), 3), unit(random, random.integers(1, 25), 3)
    gallery[random.integers(len(gallery), size=len(gallery) // 2)] = gallery[0]
    copied = random.integers(min(len(probes), len(gallery)) + 1)
    probes[:copied] = gallery[:copied]
    probe_ids, ids = random.integers(9, size=len(probes)), random.integers(9, size=len(gallery))
    ranked = identify(probes, gallery, probe_ids, ids, block=int(random.integers(1, 60)))
    for number, own in enumerate(probe_ids.tolist()):
        best, mate, rank = plain(probes[number], own, gallery, ids)
        assert ranked.best[number] == pytest.approx(best, abs=1e-14)
        assert ranked.mate[number] == pytest.approx(np.nan if mate is None else mate, abs=1e-14, nan_ok=True)
        assert ranked.rank[number] == rank
    assert (ranked.mated == np.isin(probe_ids, ids)).all()


@pytest.mark.parametrize("above", [0, 1, 2])
def test_tells_apart_what_float32_cannot(above: int) -> None:
    """Another identity differs from the mate by less than a float32 product is off: exact scores decide."""
    random = np.random.default_rng(3)
    probe = unit(random, 1, 512)
    mate = unit(random, 1, 512)[0]
    others = np.repeat(mate[None], 400, axis=0)
    order = np.argsort(np.abs(probe[0]))
    for row, other in enumerate(others):
        sign = np.sign(probe[0, order[row]]) * (1 if row < above else -1)
        other[order[row]] = np.nextafter(other[order[row]], np.float32(sign * np.inf))
    ranked = identify(probe, np.concatenate([others, mate[None]]), np.array([400]), np.arange(401))
    assert ranked.rank.tolist() == [above + 1]
    exact = (others.astype(np.float64) @ probe[0].astype(np.float64)).max()
    assert ranked.best[0] == pytest.approx(exact, abs=1e-15)


def test_the_result_is_the_same_in_any_blocks() -> None:
    random = np.random.default_rng(5)
    probes, gallery = unit(random, 20, 64), unit(random, 90, 64)
    probe_ids, ids = random.integers(30, size=20), random.integers(40, size=90)
    whole = identify(probes, gallery, probe_ids, ids)
    for block in (1, 77, 1000):
        part = identify(probes, gallery, probe_ids, ids, block=block)
        assert part.best.tobytes() == whole.best.tobytes()
        assert part.mate.tobytes() == whole.mate.tobytes()
        assert (part.rank == whole.rank).all()


def test_a_collapsed_model_finds_nobody() -> None:
    """All embeddings alike: the mate loses every tie."""
    same = np.full((4, 4), 0.5, dtype=np.float32)
    ranked = identify(same, same, np.arange(4), np.arange(4))
    assert ranked.rank.tolist() == [4, 4, 4, 4]
    assert ranked.best.tolist() == [1.0] * 4
    assert len(ranked) == 4


@pytest.mark.parametrize("probes", [np.zeros((0, 4)), np.zeros(4), np.full((2, 4), np.nan), np.zeros((2, 5))])
def test_refuses_what_cannot_be_searched(probes: npt.NDArray[np.float64]) -> None:
    ids = np.arange(len(probes))
    with pytest.raises(UserError, match=r"expected .* found"):
        identify(probes.astype(np.float32), np.ones((3, 4), np.float32), ids, np.arange(3))
