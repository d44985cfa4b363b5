from pathlib import Path

import numpy as np
import pytest

from proxylesskd.comparison.estimates import Sample
from proxylesskd.comparison.gather import Measured, number_of, read_scores, student_rows
from proxylesskd.comparison.plan import Cell
from proxylesskd.errors import UserError
from proxylesskd.recipe import Recipe
from tests.evaluation.samples import people, scores_of


def made(value: float, shift: float = 0.0) -> Sample:
    return Sample(np.array([value]), np.linspace(value - 0.1, value + 0.1, 41) + shift)


def test_the_best_other_is_found_by_value_and_differences_are_paired() -> None:
    samples = {"a": made(0.5), "b": made(0.7), "c": made(0.6)}
    first = number_of("a", samples, "a", "identities")
    assert (first.minus_baseline, first.best_other) == (None, "b")
    best = number_of("b", samples, "a", "identities")
    assert best.best_other == "c"
    assert best.minus_best is not None
    assert best.minus_baseline is not None
    # all replicates move together, so the paired interval has no width however wide the intervals are
    assert (best.minus_best.value, best.minus_best.lower, best.minus_best.upper) == pytest.approx((0.1, 0.1, 0.1))
    assert best.minus_baseline.lower == pytest.approx(0.2)
    assert best.estimate.lower == pytest.approx(0.605)


def test_without_baseline_or_others_there_is_no_difference() -> None:
    lone = number_of("b", {"b": made(0.7)}, "a", "pairs")
    assert (lone.minus_baseline, lone.best_other, lone.minus_best) == (None, None, None)


def test_a_mode_needs_all_seeds_and_costs_are_medians(tmp_path: Path) -> None:
    pairs = people(8, 3, 40)
    cells = [Cell("m", "s", seed, tmp_path / str(seed), Recipe()) for seed in (4, 5, 6)]
    scores = np.stack([scores_of(pairs, seed) for seed in (1, 2, 3)])
    told = [
        {"steps": 9, "images_per_second": rate, "seconds_per_step": 1 / rate, "peak_memory": peak, "device": "cpu"}
        for rate, peak in ((1.0, 7), (4.0, None), (2.0, 9))
    ]
    found = student_rows({"m": Measured(cells, {"single": scores}, told)}, pairs, ["accuracy"], "m", 5, 0)
    (row,) = found
    assert (row.seeds, row.steps, row.images_per_second, row.seconds_per_step) == ((4, 5, 6), 9, 2.0, 0.5)
    assert (row.peak_memory, row.device) == (9, "cpu")
    assert row.number("cross", "accuracy") is None


def test_scores_are_read_and_checked(tmp_path: Path) -> None:
    pairs = people(6, 2, 10)
    np.savez(tmp_path / "scores.npz", same=pairs.same, single=np.zeros(len(pairs.same)))
    assert set(read_scores(tmp_path, pairs)) == {"single"}
    np.savez(tmp_path / "scores.npz", same=~pairs.same, single=np.zeros(len(pairs.same)))
    with pytest.raises(UserError, match="found others"):
        read_scores(tmp_path, pairs)
    np.savez(tmp_path / "scores.npz", same=pairs.same)
    with pytest.raises(UserError, match="single"):
        read_scores(tmp_path, pairs)
    np.save(tmp_path / "scores.npy", pairs.same)
    (tmp_path / "scores.npy").rename(tmp_path / "scores.npz")
    with pytest.raises(UserError, match="expected same, single in"):
        read_scores(tmp_path, pairs)
