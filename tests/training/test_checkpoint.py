"""Checkpoints that are cut, altered, poisoned, half written or of other settings."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from proxylesskd.errors import UserError
from proxylesskd.training import checkpoint as module
from proxylesskd.training.checkpoint import (
    canonical_settings,
    checkpoint_path,
    list_checkpoints,
    load_checkpoint,
    load_latest,
    require_same_settings,
    save_checkpoint,
)


def _payload(step: int) -> dict[str, Any]:
    return {"step": step, "weights": torch.full((1000,), float(step)), "nested": {"list": [1, 2.5, None, "x", (True,)]}}


def _save(folder: Path, *steps: int, keep: int = 9) -> list[Path]:
    return [save_checkpoint(folder, step, _payload(step), keep=keep) for step in steps]


def _flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    position = data.find(torch.full((1000,), 1.0).numpy().tobytes()[:64])
    data[position + 100] ^= 0xFF
    path.write_bytes(bytes(data))


def test_what_is_saved_loads_as_plain_data(tmp_path: Path) -> None:
    (path,) = _save(tmp_path / "new", 1234)
    assert path.name == "step-00001234.pt"
    loaded = torch.load(path, weights_only=True)
    assert torch.equal(loaded["weights"], torch.full((1000,), 1234.0))
    assert loaded["nested"] == {"list": [1, 2.5, None, "x", (True,)]}
    assert load_checkpoint(path).keys() == loaded.keys()


def test_the_newest_are_kept(tmp_path: Path) -> None:
    _save(tmp_path, 5, 10, 200_000_000, 20, keep=2)
    assert [step for step, _ in list_checkpoints(tmp_path)] == [20, 200_000_000]


def test_files_that_are_no_checkpoints_are_left_alone(tmp_path: Path) -> None:
    for name in ("notes.txt", "step-1.pt", "step-00000001.pt.damaged"):
        (tmp_path / name).write_text("mine")
    _save(tmp_path, 1, 2, 3, keep=1)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "notes.txt", "step-00000001.pt.damaged", "step-00000003.pt", "step-1.pt",
    ]  # fmt: skip


def test_a_failed_write_leaves_the_earlier_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _save(tmp_path, 1)

    def half(payload: dict[str, Any], file: Any) -> None:
        file.write(b"PK")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.torch, "save", half)
    with pytest.raises(UserError, match="No space left"):
        _save(tmp_path, 2)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001.pt"]
    assert load_latest(tmp_path, pytest.fail)["step"] == 1


def test_bytes_reach_the_disk_before_the_name_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []
    fsync, replace = module.os.fsync, module.Path.replace
    monkeypatch.setattr(module.os, "fsync", lambda fd: (order.append("fsync"), fsync(fd))[1])
    monkeypatch.setattr(module.Path, "replace", lambda a, b: (order.append("replace"), replace(a, b))[1])
    _save(tmp_path, 1)
    assert order[:2] == ["fsync", "replace"]


def test_a_torn_temporary_file_is_no_checkpoint_and_goes(tmp_path: Path) -> None:
    (tmp_path / ".step-00000007.pt.tmp").write_bytes(b"PK")
    assert list_checkpoints(tmp_path) == []
    _save(tmp_path, 8)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000008.pt"]


@pytest.mark.parametrize("damage", ["truncated", "empty", "altered", "garbage"])
def test_a_damaged_newest_falls_back_aloud(tmp_path: Path, damage: str) -> None:
    _, newest = _save(tmp_path, 0, 1)
    if damage == "altered":
        _flip_a_byte(newest)
        assert not torch.equal(torch.load(newest, weights_only=True)["weights"], torch.ones(1000))  # torch believes it
    else:
        data = newest.read_bytes()
        newest.write_bytes({"truncated": data[: len(data) // 2], "empty": b"", "garbage": b"\x80hello" * 99}[damage])
    said = []
    assert load_latest(tmp_path, said.append)["step"] == 0
    assert len(said) == 1
    assert "step-00000001.pt" in said[0]
    assert "falling back" in said[0]
    assert [step for step, _ in list_checkpoints(tmp_path)] == [0]
    assert (tmp_path / "step-00000001.pt.damaged").exists()


def test_no_checkpoint_loads(tmp_path: Path) -> None:
    for path in _save(tmp_path, 1, 2):
        path.write_bytes(b"")
    said = []
    with pytest.raises(UserError, match="none of the 2 checkpoints"):
        load_latest(tmp_path, said.append)
    assert len(said) == 2


def test_one_that_may_not_be_read_is_not_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, newest = _save(tmp_path, 1, 2)
    newest.write_bytes(b"")
    monkeypatch.setattr(module.os, "access", lambda *_: False)  # tests may run as root, who may read everything
    with pytest.raises(UserError, match="cannot be read"):
        load_latest(tmp_path, pytest.fail)
    assert [step for step, _ in list_checkpoints(tmp_path)] == [1, 2]


def test_nothing_there_yet(tmp_path: Path) -> None:
    assert load_latest(tmp_path, pytest.fail) is None
    with pytest.raises(UserError, match="found no folder"):
        load_latest(tmp_path / "missing", pytest.fail)
    assert list_checkpoints(tmp_path / "missing") == []


class _Poison:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, (f"open({str(self.target)!r}, 'w').close()",))


@pytest.mark.parametrize("way", ["torch", "pickle"])
def test_code_is_never_executed(tmp_path: Path, way: str) -> None:
    path, mark = checkpoint_path(tmp_path, 3), tmp_path / "executed"
    if way == "torch":
        torch.save({"step": 3, "poison": _Poison(mark)}, path)
    else:
        path.write_bytes(pickle.dumps({"step": 3, "poison": _Poison(mark)}))
    with pytest.raises(UserError, match="cannot be read"):
        load_checkpoint(path)
    assert not mark.exists()


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"state_dict": {}}, tmp_path / "other.pt")
    with zipfile.ZipFile(tmp_path / "archive.pt", "w") as archive:
        archive.writestr("readme", "hello")
    for name, message in (("list", "something else"), ("other", "something else"), ("archive", "cannot be read")):
        with pytest.raises(UserError, match=message):
            load_checkpoint(tmp_path / f"{name}.pt")


def test_a_payload_that_would_not_load_is_refused_before_it_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"found set at checkpoint\.method\.centres\[1\]"):
        save_checkpoint(tmp_path, 1, {"step": 1, "method": {"centres": [1, {2}]}})
    assert list(tmp_path.iterdir()) == []


def test_settings_are_flattened() -> None:
    settings = {"seed": 1, "train": {"lr": 0.1, "deep": {"a": [1, "x"]}}, "path": None}
    assert canonical_settings(settings) == {
        "seed": "1", "train.lr": "0.1", "train.deep.a": '[1, "x"]', "path": "null",
    }  # fmt: skip


def test_differing_settings_are_named() -> None:
    saved = canonical_settings({"seed": 1, "train": {"lr": 0.1, "clip": 5.0}, "old": 1})
    now = canonical_settings({"seed": 1, "train": {"lr": 0.2, "clip": 5.0}, "new": 2})
    require_same_settings(saved, dict(reversed(saved.items())))
    with pytest.raises(UserError) as caught:
        require_same_settings(saved, now)
    message = str(caught.value)
    for part in ("train.lr (was 0.1, now 0.2)", "old (was 1, now absent)", "new (was absent, now 2)"):
        assert part in message
    assert "seed" not in message
    assert "clip" not in message
