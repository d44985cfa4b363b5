from __future__ import annotations

from pathlib import Path

import pytest

from proxylesskd.errors import UserError
from proxylesskd.report.differences import PairedDifference, read_differences, save_differences

BETTER = PairedDifference("ours", "alone", "single-model", "TAR at FAR 1e-2", 0.0512, 0.0101, 0.0904)
UNSURE = PairedDifference("ours", "alone", "cross-model", "accuracy", -0.01, -0.02, 0.003)


def test_differences_come_back(tmp_path: Path) -> None:
    assert read_differences(tmp_path) == []
    save_differences(tmp_path, [BETTER, UNSURE])
    assert read_differences(tmp_path) == [BETTER, UNSURE]


def test_a_sentence_says_whether_zero_is_left_out() -> None:
    assert "+5.12 points, 95 % interval +1.01 to +9.04, which leaves out zero" in BETTER.sentence()
    assert "-1.00 points, 95 % interval -2.00 to +0.30, which does not leave out zero" in UNSURE.sentence()


@pytest.mark.parametrize("content", ["{}", '{"differences": [{"first": "a"}]}', '{"differences": 3}'])
def test_a_malformed_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "differences.json").write_text(content)
    with pytest.raises(UserError, match=r"expected paired differences in .*differences\.json"):
        read_differences(tmp_path)
