from __future__ import annotations

import json
from dataclasses import replace

import pytest

from proxylesskd.audit.suspects import Mislabelled, suspect_findings
from tests.audit.samples import NONE, SUSPECTS


def test_each_kind_is_a_warning_that_names_the_first_and_the_way_out() -> None:
    labels, inconsistent, merged, split = suspect_findings(SUSPECTS, 20)
    assert [finding.level for finding in (labels, inconsistent, merged, split)] == ["warning"] * 4
    for words in (
        "found 2 of 20 (10.0 %)", "1 like another identity here, 1 like nobody here",
        "first image 1 of 'id-000' (-0.05 to its own, 0.81 to 'id-002')", "train on the cleaned list",
    ):  # fmt: skip
        assert words in labels.message
    assert labels.details == {"suspected": 2, "images": 20, "belong_elsewhere": 1}
    assert "1 of 4 identities" in inconsistent.message
    assert "'id-001' (0.03 among its images)" in inconsistent.message
    assert "'id-003' (3 and 2 images, 0.04 between the two groups)" in merged.message
    assert "'id-000' and 'id-002' (0.91)" in split.message
    assert split.details == {"pairs": [["id-000", "id-002", 0.9111]]}
    assert all("\n" not in finding.message for finding in (labels, inconsistent, merged, split))


def test_nothing_suspected_passes() -> None:
    findings = suspect_findings(NONE, 20)
    assert [finding.level for finding in findings] == ["passed"] * 4
    assert findings[0].message == "none of 20 images looks wrongly labelled"


@pytest.mark.parametrize(("total", "level"), [(9, "failed"), (10, "warning"), (1000, "warning")])
def test_more_than_a_fifth_fails(total: int, level: str) -> None:
    found = replace(SUSPECTS, mislabelled=(Mislabelled(0, "a", 0.0, "b", 0.9, True),) * 2)
    finding = suspect_findings(found, total)[0]
    assert finding.level == level
    assert ("labels or the teacher belong to other images" in finding.message) == (level == "failed")


def test_everything_is_plain_json() -> None:
    told = json.loads(json.dumps(SUSPECTS.to_dict()))
    assert told["mislabelled"][0] == {
        "image": 1, "identity": "id-000", "own": -0.0512, "other": "id-002", "similarity": 0.8123, "belongs": True
    }  # fmt: skip
    assert told["merged"][0]["sizes"] == [3, 2]
    assert told["levels"]["stranger"] == 0.15
