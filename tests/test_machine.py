from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from proxylesskd import machine
from proxylesskd.machine import available_memory, cache_folder, cores, own_memory, total_memory


def test_memory_and_cores_are_plausible() -> None:
    assert 1 << 26 < available_memory() <= total_memory() < 1 << 50
    assert 1 <= cores() <= (os.cpu_count() or 1)


def test_own_memory_grows_with_what_is_written_to() -> None:
    before = own_memory()
    # Mapped anew: an allocator that keeps what was freed might have so much at hand.
    held = mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for _ in range(64):  # a little at a time, which the allocator has or may keep
        held.write(b"\1" * (1 << 20))
    after = own_memory()
    assert after["peak"] >= after["anonymous"]
    assert 60 << 20 < after["anonymous"] - before["anonymous"] < 90 << 20
    held.close()


def test_a_container_limits_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_container_limit", lambda: 1 << 20)
    assert available_memory() == total_memory() == 1 << 20


def test_systems_without_the_files_of_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_table", lambda _path: {})
    monkeypatch.setattr(machine, "_container_limit", lambda: None)
    assert 0 < available_memory() <= total_memory()
    found = own_memory()
    assert found["anonymous"] == found["peak"] > 0
    monkeypatch.delattr(os, "sysconf_names")
    assert available_memory() > 0


def test_files_of_the_kernel_are_read(tmp_path: Path) -> None:
    (tmp_path / "table").write_text("A:  12 kB\nB: 3\nC: 4 kB\n")
    assert machine._table(tmp_path / "table") == {"A": 12 << 10, "C": 4 << 10}
    assert machine._table(tmp_path / "none") == {}


def test_what_can_be_made_again_has_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "proxylesskd"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "proxylesskd"
