from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from proxylesskd.activity.windows import Windows, open_windows
from proxylesskd.errors import UserError


def some(count: int = 12, people: int = 4) -> Windows:
    values = torch.arange(count * 2 * 5, dtype=torch.float32).view(count, 2, 5)
    return Windows(values, torch.arange(count) % 3, torch.arange(count) % people, ("a", "b", "c"), 10.0, (1, 3))


def saved(path: Path, **changed: object) -> Path:
    random = np.random.default_rng(0)
    held = {
        "x": random.normal(size=(6, 5, 2)).astype(np.float16),
        "y": np.array([0, 1, 0, 1, 0, 1], np.int8),
        "subject": np.array([7, 7, 8, 8, 9, 9], np.int8),
        "split": np.array([0, 0, 0, 0, 1, 1], np.int8),
        "activity_names": np.array(["sit", "walk"]),
        "rate_hz": np.int16(50),
    }
    np.savez(path, **{name: value for name, value in (held | changed).items() if value is not None})
    return path


def test_npz_is_read_with_channels_first(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npz")
    read = open_windows(f"npz:{path}")
    raw = np.load(path)
    for n in range(6):
        for t in range(5):
            for c in range(2):
                assert read.values[n, c, t] == float(raw["x"][n, t, c])
    assert (read.activities, read.rate, read.tested) == (("sit", "walk"), 50.0, (9,))
    assert read.labels.tolist() == raw["y"].tolist()
    assert read.subjects.tolist() == raw["subject"].tolist()


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"y": None}, "y"),
        ({"x": np.array([object()] * 6)}, "allow_pickle"),
        ({"x": np.zeros((6, 5), np.float32)}, "found"),
        ({"x": np.full((6, 5, 2), np.nan)}, "finite"),
        ({"y": np.array([0, 1, 2, 1, 0, 1])}, "labels"),
        ({"subject": np.array([1, 2])}, "subject"),
    ],
)
def test_a_wrong_npz_is_refused(tmp_path: Path, changed: dict[str, object], found: str) -> None:
    with pytest.raises(UserError, match=found):
        open_windows(f"npz:{saved(tmp_path / 'a.npz', **changed)}")


def test_other_files_and_schemes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK no archive")
    for location, found in (
        (f"npz:{tmp_path / 'a.npz'}", "x"),
        ("npz:", "npz:FILE"),
        ("wisd:x", "did you mean 'wisdm'"),
    ):
        with pytest.raises(UserError, match=found):
            open_windows(location)


def test_a_file_that_unpacks_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxylesskd.activity.windows.LARGEST", 10)
    with pytest.raises(UserError, match="at most 10 bytes"):
        open_windows(f"npz:{saved(tmp_path / 'a.npz')}")


@pytest.mark.parametrize("test", ["official", "0,2", "1/2", "2/2", "3/4"])
def test_no_subject_is_on_both_sides(test: str) -> None:
    train, held = some().split(test)
    assert not set(train.subjects.tolist()) & set(held.subjects.tolist())
    assert len(train.values) + len(held.values) == 12
    for row, subject in zip(held.values, held.subjects, strict=True):
        assert int(row[0, 0]) // 10 % 4 == subject  # the row is still that of its subject


def test_folds_test_everybody_once() -> None:
    met = [one for k in range(1, 4) for one in some(people=4).split(f"{k}/3")[1].people()]
    assert sorted(met) == [0, 1, 2, 3]


@pytest.mark.parametrize("test", ["offical", "1/x", "5/2", "9", "0,1,2,3"])
def test_a_split_that_cannot_be_is_refused(test: str) -> None:
    with pytest.raises(UserError, match="expected"):
        some().split(test)


def test_resampling_goes_by_straight_lines() -> None:
    windows = some()
    fine = windows.resampled(9)
    assert fine.rate == 18.0
    for n in range(12):
        for c in range(2):
            wanted = np.interp(np.linspace(0, 4, 9), np.arange(5), windows.values[n, c].numpy())
            assert np.allclose(fine.values[n, c].numpy(), wanted, atol=1e-4)
    assert windows.resampled(0) is windows
