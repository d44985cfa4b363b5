from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from proxylesskd.evaluation.exact_quantiles import BINS, Scores, SortedScores, Stream, bins_of, count_on_grid, edges


def drawn(kind: str, count: int, seed: int) -> Scores:
    random = np.random.default_rng(seed)
    spread = random.normal(size=count)
    made = {
        "usual": 0.1 * spread,
        "around zero": 1e-6 * spread,
        "tied": np.round(0.2 * spread, 2),
        "one": np.full(count, 0.5),
        "both zeros": np.where(spread > 0, 0.0, -0.0),
        "beyond one": 3 * spread,
        "neighbours": 0.3 + 3e-8 * np.round(spread),
    }
    return made[kind].astype(np.float32)


def stream_of(scores: Scores, calls: list[int]) -> Stream:
    def stream() -> Iterator[Scores]:
        calls.append(len(scores))
        return iter(np.array_split(scores, 3))

    return stream


@pytest.mark.parametrize("count", [1, 2, 7, 3000])
@pytest.mark.parametrize("kind", ["usual", "around zero", "tied", "one", "both zeros", "beyond one", "neighbours"])
def test_every_rank_is_that_of_sorting(kind: str, count: int) -> None:
    scores = drawn(kind, count, seed=count)
    calls: list[int] = []
    found = SortedScores(stream_of(scores, calls))
    falling = sorted(scores.tolist(), reverse=True)
    ranks = {0, count - 1, *np.random.default_rng(1).integers(count, size=6).tolist()}
    found.prepare(ranks)
    assert len(calls) <= 3
    for rank in ranks:
        place = found.at(rank)
        assert place.score == falling[rank]
        assert place.higher == sum(score > falling[rank] for score in falling)
        assert place.reaching == sum(score >= falling[rank] for score in falling)
    assert len(calls) <= 3, "what was prepared is not looked for again"
    assert len(found) == count


def test_the_grid_counts_between_its_edges() -> None:
    scores = np.random.default_rng(0).uniform(-1, 1, 20_000).astype(np.float32)
    counts = count_on_grid(stream_of(scores, []))
    expected = np.histogram(scores.astype(np.float64), edges())[0]
    assert counts.sum() == 20_000
    assert np.abs(np.cumsum(counts) - np.cumsum(expected)).max() <= 2  # float32 may round up to an edge


def test_bins_never_fall() -> None:
    rising = np.sort(np.random.default_rng(0).normal(size=100_000).astype(np.float32))
    bins = bins_of(np.concatenate([np.float32([-5.0]), rising, np.float32([5.0])]))
    assert (np.diff(bins) >= 0).all()
    assert (bins[0], bins[-1]) == (0, BINS - 1)
