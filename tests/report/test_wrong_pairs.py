from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from proxylesskd.data.pairs import Pairs
from proxylesskd.errors import UserError
from proxylesskd.report.wrong_pairs import most_wrong_pairs, save_wrong_pairs
from tests.faces import face


def _pairs(count: int) -> Pairs:
    random = np.random.default_rng(4)
    images = np.stack([face(i, 0).transpose(2, 0, 1) for i in range(8)])
    first, second = random.integers(0, 8, count), random.integers(0, 8, count)
    names = [f"person-{i}/0.jpg" for i in range(8)]
    return Pairs("set", images, first, second, random.random(count) < 0.5, np.zeros(count, np.int64), None, names)


def _scores(count: int) -> npt.NDArray[np.float64]:
    return np.random.default_rng(9).random(count)


def test_the_worst_of_both_kinds_against_sorted_loops() -> None:
    pairs, scores = _pairs(60), _scores(60)
    accepts = sorted((s for s, same in zip(scores, pairs.same, strict=True) if not same and s >= 0.4), reverse=True)
    rejects = sorted(s for s, same in zip(scores, pairs.same, strict=True) if same and s < 0.4)
    found = most_wrong_pairs(pairs, scores, 0.4, count=5)
    assert [pair.score for pair in found] == accepts[:5] + rejects[:5]
    assert [pair.same for pair in found] == [False] * 5 + [True] * 5
    for pair in found:
        k = int(np.flatnonzero(scores == pair.score)[0])
        np.testing.assert_array_equal(pair.first, pairs.images[pairs.first[k]])
        np.testing.assert_array_equal(pair.second, pairs.images[pairs.second[k]])
        assert pair.names == (pairs.image_names[pairs.first[k]], pairs.image_names[pairs.second[k]])


def test_a_score_at_the_threshold_is_accepted() -> None:
    pairs = _pairs(60)
    found = most_wrong_pairs(pairs, np.full(60, 0.4), 0.4, count=99)
    assert len(found) == int((~pairs.same).sum())
    assert not any(pair.same for pair in found)


@pytest.mark.parametrize("scores", [np.zeros(59), np.full(60, np.nan), np.zeros((60, 1))])
def test_scores_of_other_pairs_are_refused(scores: npt.NDArray[np.float64]) -> None:
    with pytest.raises(UserError, match="expected one finite score for each of the 60 pairs"):
        most_wrong_pairs(_pairs(60), scores, 0.4)


def test_saved_pictures_can_be_opened_and_replace_older_ones(tmp_path: Path) -> None:
    pairs, scores = _pairs(60), _scores(60)
    save_wrong_pairs(tmp_path, most_wrong_pairs(pairs, scores, 0.4, count=4), threshold=0.4, model="old")
    wrong = most_wrong_pairs(pairs, scores, 0.4, count=1)
    path = save_wrong_pairs(tmp_path, wrong, threshold=0.4, model="new")
    told = json.loads(path.read_text())
    assert (told["model"], told["threshold"], len(told["pairs"])) == ("new", 0.4, 2)
    assert len(list(path.parent.glob("*.jpg"))) == 4
    for entry, pair in zip(told["pairs"], wrong, strict=True):
        assert (entry["score"], entry["same"]) == (pair.score, pair.same)
        for name, image in zip(entry["files"], (pair.first, pair.second), strict=True):
            opened = np.asarray(Image.open(io.BytesIO((path.parent / name).read_bytes())).convert("RGB"))
            assert np.abs(opened.astype(int) - image.transpose(1, 2, 0)).mean() < 6
