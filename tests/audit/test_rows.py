from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from proxylesskd.audit import rows as module
from proxylesskd.audit.finding import Finding
from proxylesskd.audit.rows import check_copies, check_duplicates, check_norms, check_rows, check_spread
from tests.audit.worlds import world

TRUE = world(60, 32).true
NAMES = [f"p{number}" for number in range(60)]


def by_check(findings: list[Finding]) -> dict[str, Finding]:
    json.dumps([dict(finding.details) for finding in findings])
    return {finding.check: finding for finding in findings}


def mixed(first: int, second: int, cosine: float) -> torch.Tensor:
    """Rows in which ``second`` has exactly this cosine to ``first``."""
    rows = TRUE.clone().double()
    across = rows[second] - (rows[second] @ rows[first]) * rows[first]
    rows[second] = cosine * rows[first] + np.sqrt(1 - cosine**2) * across / across.norm()
    return rows.float()


def test_clean_rows_pass_with_any_norm() -> None:
    random = np.random.default_rng(0)
    scale = torch.from_numpy(random.uniform(0.7, 2.0, (60, 1))).float()
    for rows in (TRUE, TRUE * scale, (TRUE * scale).half()):
        assert {finding.level for finding in check_rows(rows, NAMES)} == {"passed"}


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "found 2 zero, first row 4 ('p4')"), (torch.nan, "found 2 not finite, first row 4")]
)
def test_zero_and_broken_rows_fail_and_the_rest_is_still_judged(value: float, text: str) -> None:
    rows = mixed(10, 11, 0.97)
    rows[[4, 7]] = value
    found = by_check(check_rows(rows, NAMES))
    assert found["norms"].level == "failed"
    assert text in found["norms"].message
    assert found["duplicates"].details["pairs"] == [{"first": "p10", "second": "p11", "similarity": 0.97}]


def test_all_rows_broken_leave_only_the_norms() -> None:
    assert [finding.level for finding in check_rows(torch.zeros(5, 4), list("abcde"))] == ["failed"]


def test_untrained_rows_among_trained_ones() -> None:
    rows = TRUE * 1.5
    rows[20:30] = 0.01 * torch.randn(10, 32, generator=torch.Generator().manual_seed(0))
    found = check_norms(rows, NAMES)
    assert found.level == "failed"
    assert "found 10 below 0.25 of the median, first row 20" in found.message
    assert "untrained" in found.message
    many = torch.cat([TRUE] * 4)
    many[3] *= 0.05
    assert check_norms(many, NAMES * 4).level == "warning"


def test_a_head_that_was_never_trained() -> None:
    head = 0.01 * torch.randn(300, 64, generator=torch.Generator().manual_seed(0))
    found = check_norms(head, [str(row) for row in range(300)])
    assert found.level == "failed"
    assert "standard deviation 0.01 in all directions" in found.message
    unit = torch.nn.functional.normalize(head)
    assert check_norms(unit, [str(row) for row in range(300)]).level == "passed"


def test_padding_by_copies_is_told_from_a_person_under_two_labels() -> None:
    padded = torch.cat([TRUE, TRUE[-1:].repeat(3, 1)])
    found = check_copies(padded, [*NAMES, "x", "y", "z"], identities=NAMES)
    assert found.level == "failed"
    assert "found 3 surplus ones that only repeat others ('p59' = 'x'): they look like padding" in found.message
    twice = TRUE.clone()
    twice[8] = twice[2]
    found = check_copies(twice, NAMES, identities=NAMES)
    assert found.level == "failed"
    assert "found 2 that stand more than once ('p2' = 'p8')" in found.message
    assert by_check(check_rows(twice, NAMES))["duplicates"].level == "passed"


@pytest.mark.parametrize(("cosine", "copies", "level"), [(0.94, 1, "passed"), (0.96, 5, "warning"), (0.96, 1, "failed"),
                                                         (0.9998, 5, "failed")])  # fmt: skip
def test_the_level_of_duplicates(cosine: float, copies: int, level: str) -> None:
    """Two of 60 rows are more than one percent of the identities, two of 300 are not."""
    clean = [world(60, 32, seed=seed).true for seed in range(1, copies)]
    rows = torch.cat([mixed(3, 50, cosine), *clean])
    found = check_duplicates(rows, [f"p{number}" for number in range(len(rows))])
    assert found.level == level
    if level != "passed":
        assert "found 2 rows that are closer than 0.95 to another, closest 'p3' and 'p50'" in found.message
        assert found.details["pairs"][0]["similarity"] == pytest.approx(cosine, abs=2e-4)


def test_a_lower_threshold_warns_but_does_not_fail() -> None:
    found = check_duplicates(mixed(3, 50, 0.85), NAMES, similar=0.8)
    assert found.level == "warning"
    assert found.details["involved"] == 2


def test_many_duplicates_are_listed_strongest_first() -> None:
    found = check_duplicates(torch.cat([TRUE, TRUE + 0.002 * TRUE.flip(0)]), NAMES + [f"q{i}" for i in range(60)])
    similarity = [pair["similarity"] for pair in found.details["pairs"]]
    assert len(similarity) == 50
    assert similarity == sorted(similarity, reverse=True)
    assert found.details["involved"] == 120


def test_very_many_rows_are_sampled_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ALL_PAIRS", 50)
    monkeypatch.setattr(module, "BUDGET", 60 * 59)
    found = check_duplicates(mixed(3, 50, 0.97), NAMES)
    assert found.details["compared"] == 59
    assert "(a sample of 59 rows against all 60)" in found.message


def test_rows_that_all_point_the_same_way() -> None:
    def level(pull: float) -> Finding:
        return check_spread(torch.nn.functional.normalize(TRUE + pull * TRUE[0]))

    assert level(0.0).level == "passed"
    assert level(1.6).level == "warning"
    broken = level(4.0)
    assert broken.level == "failed"
    assert "nearly all point the same way" in broken.message
    line = torch.nn.functional.normalize(TRUE[0] + 0.02 * TRUE) * torch.tensor([[1.0], [-1.0]]).repeat(30, 1)
    assert check_spread(line).level == "failed"
