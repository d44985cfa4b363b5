import json
from pathlib import Path

import pytest

from proxylesskd.comparison.speed import read_speed
from proxylesskd.errors import UserError


def log(folder: Path, rows: list[tuple[int, float, float]]) -> None:
    lines = [{"step": s, "images_per_second": r, "seconds": t} for s, r, t in rows]
    lines.append({"step": 1, "note": "a warning"})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_medians_leave_out_the_first_row(tmp_path: Path) -> None:
    log(tmp_path, [(10, 1.0, 100.0), (20, 50.0, 101.0), (30, 70.0, 104.0), (35, 60.0, 105.0)])
    speed = read_speed(tmp_path)
    assert speed.images_per_second == 60.0
    assert speed.seconds_per_step == pytest.approx(0.2)  # of 0.1, 0.3 and 0.2


def test_a_single_row_is_better_than_nothing(tmp_path: Path) -> None:
    log(tmp_path, [(4, 8.0, 2.0)])
    assert (read_speed(tmp_path).images_per_second, read_speed(tmp_path).seconds_per_step) == (8.0, 0.5)
    log(tmp_path, [])
    assert read_speed(tmp_path).images_per_second == 0.0


def test_no_log_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected the metrics of a run"):
        read_speed(tmp_path)
