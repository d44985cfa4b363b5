from __future__ import annotations

import os
from pathlib import Path

import pytest

from proxylesskd.estimation import disk
from proxylesskd.estimation.disk import read_rate


def test_a_large_file_has_a_rate_and_a_small_one_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(bytes(1 << 20))
    assert read_rate(tmp_path / "file") == 0.0
    monkeypatch.setattr(disk, "_READ", 1 << 18)
    assert 1e5 < read_rate(tmp_path / "file") < 1e12
    monkeypatch.delattr(os, "posix_fadvise")
    assert read_rate(tmp_path / "file") == 0.0
