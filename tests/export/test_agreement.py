from __future__ import annotations

import math

import numpy as np
import pytest

from proxylesskd.data.pairs import Pairs
from proxylesskd.export.agreement import LIMITS, Limits, agreement, supported_far


def _pairs(count: int, people: int = 30) -> Pairs:
    random = np.random.default_rng(4)
    labels = np.repeat(np.arange(people), 4)
    first = random.integers(0, len(labels), 40 * count)
    second = random.integers(0, len(labels), 40 * count)
    keep = np.flatnonzero(first != second)
    same = labels[first] == labels[second]
    chosen = np.concatenate([keep[same[keep]][: count // 4], keep[~same[keep]][:count]])
    first, second, same = first[chosen], second[chosen], same[chosen]
    names = [str(i) for i in range(len(labels))]
    return Pairs("drawn", np.zeros((len(labels), 3, 1, 1), np.uint8), first, second, same, first % 5, labels, names)


def _units(pairs: Pairs, spread: float, seed: int = 0) -> np.ndarray:
    """Four noisy copies of each person's direction."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(int(pairs.identities.max()) + 1, 8))
    return (centres[pairs.identities] + spread * random.normal(size=(len(pairs.identities), 8))).astype(np.float32)


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))


def test_an_equal_file_has_nothing_to_complain_of() -> None:
    pairs = _pairs(1200)
    units = _units(pairs, 0.8)
    found = agreement(units, 3 * units, LIMITS["float32"], pairs)
    assert found.complaints() == []
    assert found.far == 1e-3
    assert found.accuracy is not None
    assert found.accuracy.difference == found.accuracy.lower == found.accuracy.upper == 0
    assert found.to_dict()["tar"]["difference"] == 0


def test_the_numbers_against_loops() -> None:
    pairs = _pairs(150)
    ours, theirs = _units(pairs, 0.8), _units(pairs, 1.1)
    found = agreement(ours, theirs, Limits(-1, -1), pairs)
    assert found.far == 1e-2
    assert found.tar is not None
    for units, value in ((ours, found.tar.network), (theirs, found.tar.file)):
        scores = [_cosine(units[a], units[b]) for a, b in zip(pairs.first, pairs.second, strict=True)]
        impostors = sorted((s for s, same in zip(scores, pairs.same, strict=True) if not same), reverse=True)
        allowed = math.floor(1e-2 * len(impostors))
        threshold = impostors[allowed]  # more than so many lie at or above it
        genuine = [s for s, same in zip(scores, pairs.same, strict=True) if same]
        assert value == pytest.approx(sum(s > threshold for s in genuine) / len(genuine))
    assert found.tar.difference == pytest.approx(found.tar.file - found.tar.network)
    assert found.tar.lower <= found.tar.difference <= found.tar.upper
    assert found.tar.own[0] <= found.tar.network <= found.tar.own[1]


def test_a_worse_file_breaks_every_limit() -> None:
    pairs = _pairs(1200)
    found = agreement(_units(pairs, 0.3), _units(pairs, 3.0), Limits(0.9, 0.97), pairs)
    said = " / ".join(found.complaints())
    for words in ("for face", "a mean cosine of", "an accuracy of", "a TAR of", "below the interval"):
        assert words in said


def test_each_limit_stands_for_itself() -> None:
    pairs = _pairs(1200)
    ours, theirs = _units(pairs, 0.8), _units(pairs, 0.9)
    said = agreement(ours, theirs, Limits(-1, -1, accuracy=1), pairs).complaints()
    assert all("TAR" in one for one in said)
    fall = agreement(ours, theirs, Limits(-1, -1, accuracy=1), pairs).accuracy
    assert fall is not None
    assert fall.difference < 0
    strict = agreement(ours, theirs, Limits(-1, -1, accuracy=-fall.difference - 1e-9), pairs)
    assert any("an accuracy of" in one for one in strict.complaints())


def test_without_pairs_and_without_numbers() -> None:
    pairs = _pairs(150)
    units = _units(pairs, 0.8)
    assert agreement(units, units, LIMITS["int8"]).accuracy is None
    broken = units.copy()
    broken[3] = np.nan
    found = agreement(units, broken, LIMITS["int8"], pairs)
    assert found.accuracy is None
    assert any("mean cosine of nan" in one for one in found.complaints())


def test_few_impostors_support_no_rate() -> None:
    few = _pairs(9)
    assert supported_far(few) is None
    units = _units(few, 0.5)
    assert agreement(units, units, LIMITS["int8"], few).tar is None
    assert supported_far(_pairs(10)) == 1e-1
