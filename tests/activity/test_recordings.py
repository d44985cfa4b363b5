from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from proxylesskd.activity.recordings import read_pamap2, read_wisdm
from proxylesskd.errors import UserError


def write_pamap2(path: Path, activities: list[int], lost: int | None = None) -> np.ndarray:
    """Write 54 columns at 100 Hz as the data set has them: time, activity, heart rate, then three units of 17."""
    table = np.random.default_rng(0).normal(size=(len(activities), 54)).round(3)
    table[:, 0], table[:, 1] = np.arange(len(activities)) / 100 + 8.38, activities
    table[::9, 2] = np.nan  # the heart rate comes at 9 Hz
    if lost is not None:
        table[lost, 21] = np.nan
    path.write_text("\n".join(" ".join("NaN" if np.isnan(v) else repr(float(v)) for v in row) for row in table) + "\n")
    return table


def test_pamap2_windows_hold_one_activity_of_the_chest(tmp_path: Path) -> None:
    activities = [0] * 10 + [4] * 50 + [1] * 25 + [24] * 40
    table = write_pamap2(tmp_path / "subject101.dat", activities, lost=70)
    read = read_pamap2(tmp_path, seconds=0.2)
    wanted = []  # by a walk over the samples
    for start, stop, name in ((10, 60, "walking"), (60, 85, "lying"), (85, 125, "rope jumping")):
        for at in range(start, stop - 20 + 1, 10):
            if not at <= 70 < at + 20:
                wanted.append((at, name))
    assert [read.activities[k] for k in read.labels] == [name for _, name in wanted]
    for (at, _), window in zip(wanted, read.values, strict=True):
        assert np.allclose(window.numpy(), table[at : at + 20, 21:24].T, atol=1e-6)
    assert set(read.subjects.tolist()) == {101}
    assert read.rate == 100.0


def wisdm_lines(subject: int, codes: str, jump: int = 10**9) -> list[str]:
    """Lines of 20 Hz; time jumps by ``jump`` ns before sample 12."""
    times = [252207666810782 + k * 50_000_000 + (jump if k >= 12 else 0) for k in range(len(codes))]
    rows = zip(codes, times, strict=True)
    return [f"{subject},{code},{time},{k}.5,-{k}.25,0.0;" for k, (code, time) in enumerate(rows)]


def test_wisdm_windows_do_not_cross_a_jump(tmp_path: Path) -> None:
    lines = wisdm_lines(1600, "A" * 20 + "S" * 9)
    (tmp_path / "data_1600_accel_phone.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "data_1601_accel_phone.txt").write_text("\n".join(wisdm_lines(1601, "D" * 8, jump=0)) + "\n")
    read = read_wisdm(tmp_path, seconds=0.4)  # 8 samples
    begins = [0, 4, 12, 20, 0]  # A up to the jump, A from it on, S, then the other person's D
    assert read.values[:, 0, 0].tolist() == [one + 0.5 for one in begins]
    assert [read.activities[k] for k in read.labels] == ["A", "A", "A", "S", "D"]
    assert read.subjects.tolist() == [1600] * 4 + [1601]
    assert read.values[3, 1].tolist() == [-(k + 0.25) for k in range(20, 28)]


@pytest.mark.parametrize("text", ["1600,A,1,2\n", "1600,A,1,x,3,4;\n"])
def test_a_wisdm_file_of_another_layout_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "data_1.txt").write_text(text)
    with pytest.raises(UserError, match="expected a recording"):
        read_wisdm(tmp_path)


def test_a_pamap2_file_of_another_width_is_refused(tmp_path: Path) -> None:
    (tmp_path / "subject101.dat").write_text("1 2 3\n")
    with pytest.raises(UserError, match="expected 54 columns"):
        read_pamap2(tmp_path)


def test_nothing_to_cut_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found none"):
        read_pamap2(tmp_path)
    write_pamap2(tmp_path / "subject102.dat", [1] * 30)
    with pytest.raises(UserError, match="found none"):
        read_pamap2(tmp_path)
