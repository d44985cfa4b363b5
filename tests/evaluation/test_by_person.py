from __future__ import annotations

import numpy as np
import pytest
import torch

from proxylesskd.errors import UserError
from proxylesskd.evaluation.by_person import difference, estimate, logits_of, read_score, score

LABELS = torch.tensor([0, 0, 1, 1, 2, 2, 2, 0])
PEOPLE = torch.tensor([5, 5, 5, 8, 8, 8, 9, 9])


def guesses(seed: int, right: float) -> torch.Tensor:
    random = np.random.default_rng(seed)
    said = np.where(random.random(len(LABELS)) < right, LABELS.numpy(), random.integers(0, 3, len(LABELS)))
    return torch.eye(3)[torch.from_numpy(said)]


def test_a_score_counts() -> None:
    logits = guesses(1, 0.5)
    found, said = score(logits, LABELS, PEOPLE), logits.argmax(dim=1).tolist()
    for was in range(3):
        for called in range(3):
            pairs = zip(LABELS.tolist(), said, strict=True)
            assert found.confusion[was, called] == sum(one == (was, called) for one in pairs)
    for who in (5, 8, 9):
        mine = [(a, b) for a, b, c in zip(LABELS.tolist(), said, PEOPLE.tolist(), strict=True) if c == who]
        assert (found.right[who], found.asked[who]) == (sum(a == b for a, b in mine), len(mine))
    metrics = pytest.importorskip("sklearn.metrics")
    assert found.accuracy == pytest.approx(metrics.accuracy_score(LABELS, said))
    assert found.macro_f1 == pytest.approx(metrics.f1_score(LABELS, said, average="macro"))
    again = read_score(found.to_dict())
    assert np.array_equal(again.confusion, found.confusion)
    assert (again.right, again.asked) == (found.right, found.asked)


def test_intervals_draw_people_and_trainings() -> None:
    ours = [score(guesses(seed, 0.9), LABELS, PEOPLE) for seed in range(3)]
    theirs = [score(guesses(seed + 9, 0.3), LABELS, PEOPLE) for seed in range(3)]
    one = estimate(ours, replicates=400, seed=2)
    assert one.value == pytest.approx(np.mean([s.accuracy for s in ours]))
    random = np.random.default_rng(2)  # the same draws, by loops
    people = random.multinomial(3, [1 / 3] * 3, 400)
    runs = random.multinomial(3, [1 / 3] * 3, 400)
    values: dict[str, list[float]] = {"ours": [], "both": []}
    for drawn, times in zip(people, runs, strict=True):
        means = []
        for scores in (ours, theirs):
            asked = sum(n * scores[0].asked[who] for n, who in zip(drawn, (5, 8, 9), strict=True))
            total = 0.0
            for k, one_score in zip(times, scores, strict=True):
                total += k * sum(n * one_score.right[who] for n, who in zip(drawn, (5, 8, 9), strict=True)) / asked
            means.append(total / 3)
        values["ours"].append(means[0])
        values["both"].append(means[0] - means[1])
    assert [one.lower, one.upper] == pytest.approx(np.percentile(values["ours"], [2.5, 97.5]))
    apart = difference(ours, theirs, replicates=400, seed=2)
    assert [apart.lower, apart.upper] == pytest.approx(np.percentile(values["both"], [2.5, 97.5]))


def test_logits_come_in_parts_and_leave_the_mode() -> None:
    model = torch.nn.Sequential(torch.nn.Dropout(0.9), torch.nn.Linear(3, 2)).train()
    values = torch.randn(7, 3)
    assert torch.allclose(logits_of(model, values, batch=3), model[1](values), atol=1e-6)
    assert model.training


def test_what_is_no_score_is_refused() -> None:
    for told in ({}, {"people": {"a": [1, 2]}, "confusion": []}, {"people": 3, "confusion": []}):
        with pytest.raises(UserError, match="evaluate again"):
            read_score(told)
