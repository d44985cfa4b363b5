from __future__ import annotations

from pathlib import Path

import pytest

from proxylesskd.errors import UserError
from proxylesskd.report.run import read_run


def test_the_folder_of_a_comparison_of_methods_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "comparison.json").write_text('{"kind": "comparison of methods", "rows": []}')
    with pytest.raises(UserError, match="--no-train"):
        read_run(tmp_path)
