from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import measured_run
import pytest
import stand_in
import torch

from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.data.source import open_source


@pytest.mark.parametrize("store", ["float32", "bfloat16", "int8"])
def test_rows_and_faces_fit_together(tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stand_in, "BLOCK", 7)
    stand_in.write_rows(tmp_path / "rows.safetensors", 30, 16, store)
    found = InheritedClassifier.load(tmp_path / "rows.safetensors")
    assert (found.store, tuple(found.stored.shape)) == (store, (30, 16))
    assert found.identities == [str(number) for number in range(30)]
    torch.testing.assert_close(found.rows.norm(dim=1), torch.ones(30), atol=1e-4, rtol=0)
    assert len({tuple(row) for row in found.rows.tolist()}) == 30
    stand_in.write_faces(tmp_path / "faces", 5, 2, among=30)
    source = open_source(str(tmp_path / "faces"))
    assert len(source) == 10
    assert len(set(found.rows_of(source.identities).tolist())) == 5


def test_a_disk_without_room_ends_it(tmp_path: Path) -> None:
    stand_in.require_room(tmp_path / "new", 1)
    with pytest.raises(SystemExit, match="--folder"):
        stand_in.require_room(tmp_path, 1 << 60)


def test_the_peak_of_a_process_is_seen() -> None:
    code = "import time; held = bytearray(b'x') * (80 << 20); time.sleep(0.2); del held; time.sleep(0.1)"
    private, mapped = measured_run.watch(subprocess.Popen([sys.executable, "-c", code]))
    assert 80 << 20 < private < 110 << 20
    assert 0 < mapped < 60 << 20
