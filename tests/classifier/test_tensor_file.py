from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
import safetensors.torch
import torch

from proxylesskd.classifier.tensor_file import TensorWriter, _header, map_tensors
from proxylesskd.errors import UserError
from proxylesskd.machine import own_memory

TENSORS = {
    "bytes": torch.arange(7, dtype=torch.uint8),
    "half": torch.randn(3, 5).to(torch.bfloat16),
    "rows": torch.randn(4, 3),
    "ends": torch.tensor([3, 1 << 40]),
    "none": torch.empty(0, 3),
    "double": torch.randn(2, dtype=torch.float64),
}
LAYOUT = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in TENSORS.items()}


def write(path: Path) -> None:
    with TensorWriter(path, LAYOUT, {"said": "ü"}) as file:
        for name, tensor in TENSORS.items():
            for row in reversed(range(len(tensor))):  # in any order, in pieces
                file.put(name, row, tensor[row : row + 1])


def test_the_safetensors_library_reads_what_is_written_in_pieces(tmp_path: Path) -> None:
    write(tmp_path / "deep" / "f.safetensors")
    found = safetensors.torch.load_file(tmp_path / "deep" / "f.safetensors")
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["f.safetensors"]


def test_what_the_library_writes_is_mapped(tmp_path: Path) -> None:
    safetensors.torch.save_file(TENSORS, tmp_path / "f.safetensors", {"said": "ü"})
    found, metadata = map_tensors(tmp_path / "f.safetensors")
    assert metadata == {"said": "ü"}
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in TENSORS.items())
    write(tmp_path / "g.safetensors")
    again, _ = map_tensors(tmp_path / "g.safetensors")
    assert all(torch.equal(again[name], tensor) for name, tensor in TENSORS.items())
    assert again["rows"].data_ptr() % 16 == 0


def test_a_file_far_larger_than_memory_is_mapped_and_reading_takes_no_memory_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "large.safetensors"
    layout = {"rows": (torch.float32, (1 << 18, 64)), "codes": (torch.int8, (1 << 31, 512))}
    try:
        with path.open("wb") as sparse:
            sparse.truncate(1 << 40)
    except OSError:
        pytest.skip("the disk has no sparse files of this size")
    header = _header(layout, {})
    with path.open("r+b") as raw:
        raw.write(header)
        raw.truncate(len(header) + (1 << 26) + (1 << 40))
    found, _ = map_tensors(path)
    before = own_memory()["anonymous"]
    assert float(found["rows"].sum()) == 0.0
    assert int(found["codes"][-1].sum()) == 0
    assert own_memory()["anonymous"] - before < 16 << 20


@pytest.mark.parametrize("damage", [b"", b"hello", b"\xff" * 64, None])
def test_damaged_files_are_refused(tmp_path: Path, damage: bytes | None) -> None:
    path = tmp_path / "f.safetensors"
    write(path)
    path.write_bytes(path.read_bytes()[:-1] if damage is None else damage)
    with pytest.raises(UserError, match="damaged or foreign"):
        map_tensors(path)


def test_types_that_are_not_known_are_refused(tmp_path: Path) -> None:
    safetensors.torch.save_file({"yes": torch.tensor([True])}, tmp_path / "f.safetensors")
    with pytest.raises(UserError, match="found BOOL"):
        map_tensors(tmp_path / "f.safetensors")


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    write(path)
    old = path.read_bytes()
    with pytest.raises(RuntimeError):
        _fail(path)
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["f.safetensors"]
    with TensorWriter(path, LAYOUT, {}) as file, pytest.raises(AssertionError):
        file.put("rows", 2, TENSORS["rows"])


def _fail(path: Path) -> None:
    with TensorWriter(path, LAYOUT, {}) as file:
        file.put("rows", 0, TENSORS["rows"])
        raise RuntimeError


class _Usage(NamedTuple):
    free: int


def test_a_full_disk_is_told_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="able to write"):
        TensorWriter(tmp_path / "file" / "f.safetensors", LAYOUT, {})
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: _Usage(100))
    with pytest.raises(UserError, match="free disk"):
        TensorWriter(tmp_path / "f.safetensors", LAYOUT, {})


def test_a_disk_that_refuses_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = TensorWriter(tmp_path / "f.safetensors", LAYOUT, {})
    file._file.close()
    file._file = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115
    with pytest.raises(UserError, match="able to write"):
        file.put("rows", 0, TENSORS["rows"])
    file._file.close()
    monkeypatch.setattr("os.fsync", _refuse)
    with pytest.raises(UserError, match="able to write"), TensorWriter(tmp_path / "f.safetensors", LAYOUT, {}):
        pass
    assert list(tmp_path.iterdir()) == []


def _refuse(_descriptor: int) -> None:
    raise OSError(28, "No space left on device")
