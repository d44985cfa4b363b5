from __future__ import annotations

import math

import numpy as np
import pytest

from proxylesskd.errors import UserError
from proxylesskd.export.gate import check_file, gate
from tests.export.conftest import Exported


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    dot = sum(float(x) * float(y) for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(float(x) ** 2 for x in a) * sum(float(y) ** 2 for y in b))


def test_gate_against_loops() -> None:
    random = np.random.default_rng(0)
    reference = random.normal(size=(11, 5)).astype(np.float32)
    candidate = (3 * reference + random.normal(size=(11, 5)) * 0.4).astype(np.float32)
    cosines = [_cosine(a, b) for a, b in zip(reference, candidate, strict=True)]
    limit = sorted(cosines)[4]
    report = gate(reference, candidate, limit + 1e-9)
    assert report.failed == 5
    assert not report.passed
    assert report.worst_image == int(np.argmin(cosines))
    assert report.worst_cosine == pytest.approx(min(cosines), abs=1e-12)
    assert report.mean_cosine == pytest.approx(sum(cosines) / 11, abs=1e-12)
    assert gate(reference, candidate, min(cosines) - 1e-9).passed
    assert report.to_dict()["images"] == 11


@pytest.mark.parametrize("broken", [np.nan, 0.0, np.inf])
def test_an_image_without_a_direction_fails(broken: float) -> None:
    reference = np.random.default_rng(1).normal(size=(4, 3))
    candidate = reference.copy()
    candidate[2] = broken
    report = gate(reference, candidate, 0.5)
    assert report.failed == 1
    assert report.worst_image == 2
    assert not report.passed


@pytest.mark.parametrize("shape", [(3, 4), (4, 2), (0, 3), (4, 3, 1)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="expected two equal"):
        gate(np.ones((4, 3)), np.ones(shape), 0.9)


def test_no_images_are_no_agreement() -> None:
    with pytest.raises(UserError, match="M >= 1"):
        gate(np.ones((0, 3)), np.ones((0, 3)), 0.9)


def test_the_message_names_image_cosine_and_batch(exported: Exported) -> None:
    reference = np.random.default_rng(2).normal(size=(9, 6)).astype(np.float32)
    with pytest.raises(UserError, match=r"at least 0\.9999 .* found -?0\.\d{6} for image \d at batch size 7 \(9 of 9"):
        check_file(exported.path, exported.faces, reference, batches=[7], limit=0.9999)
