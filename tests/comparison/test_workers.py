import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxylesskd.comparison import workers
from proxylesskd.comparison.cell import Task
from proxylesskd.comparison.workers import Ended, run_tasks, threads_for

# Stands for a cell's process: does what the name of its folder says.
SCRIPT = """
import json, os, signal, sys, threading, time
folder = json.load(open(sys.argv[1]))["folder"]
open(folder + "/threads", "w").write(os.environ["OMP_NUM_THREADS"])
what = os.path.basename(folder).partition("-")[0]
if what == "slow":
    time.sleep(0.3)
if what == "refuse":
    json.dump({"reason": "it needs a teacher"}, open(folder + "/failure.json", "w"))
    sys.exit(2)
if what == "crash":
    sys.exit("ValueError: a bug")
if what == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if what == "wait":
    while os.read(0, 1):
        pass
    open(folder + "/checkpoint", "w").close()
    sys.exit(3)
if what == "ended":
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(9)
"""


@pytest.fixture(autouse=True)
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cell.py").write_text(SCRIPT)
    monkeypatch.setattr(workers, "COMMAND", (sys.executable, "-S", str(tmp_path / "cell.py")))
    monkeypatch.setattr(workers, "_POLL", 0.01)


def tasks(tmp_path: Path, *names: str) -> list[Task]:
    return [Task(str(tmp_path / name), {}) for name in names]


def name_of(one: Ended | Task) -> str:
    return Path((one.task if isinstance(one, Ended) else one).folder).name


def test_some_fail_and_the_others_go_on(tmp_path: Path) -> None:
    ended: list[Ended] = []
    names = ("fine-1", "refuse", "crash", "killed", "ended", "fine-2")
    assert run_tasks(tasks(tmp_path, *names), jobs=3, ended=ended.append)
    found = {name_of(one): one for one in ended}
    assert set(found) == set(names)
    assert found["fine-1"].finished
    assert found["fine-2"].reason is None
    assert (found["refuse"].finished, found["refuse"].reason) == (False, "it needs a teacher")
    assert "ended with code 1: ValueError: a bug" in str(found["crash"].reason)
    assert "without memory" in str(found["killed"].reason)
    assert (found["ended"].finished, found["ended"].reason) == (False, None)


def test_an_old_failure_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / "fine").mkdir()
    (tmp_path / "fine" / "failure.json").write_text('{"reason": "of yesterday"}')
    run_tasks(tasks(tmp_path, "fine"))
    assert not (tmp_path / "fine" / "failure.json").exists()


def test_several_run_at_a_time_and_no_more(tmp_path: Path) -> None:
    running: list[list[str]] = []
    run_tasks(
        tasks(tmp_path, "slow-1", "slow-2", "slow-3"),
        jobs=2,
        beat=lambda now: running.append([name_of(one) for one in now]),
        every=0.0,
    )
    assert max(len(names) for names in running) == 2
    assert {name for names in running for name in names} == {"slow-1", "slow-2", "slow-3"}


@pytest.fixture
def heard() -> Iterator[None]:
    """Let SIGINT arrive: shells have what they start in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
def test_stopping_lets_all_keep_a_checkpoint_and_starts_no_other(tmp_path: Path) -> None:
    ended: list[Ended] = []

    def stop() -> None:
        while not all((tmp_path / name / "threads").exists() for name in ("wait-1", "wait-2")):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=stop).start()
    assert not run_tasks(tasks(tmp_path, "wait-1", "wait-2", "fine"), jobs=2, ended=ended.append)
    assert sorted(name_of(one) for one in ended) == ["wait-1", "wait-2"]
    assert all(not one.finished and one.reason is None for one in ended)
    assert (tmp_path / "wait-1" / "checkpoint").exists()
    assert (tmp_path / "wait-2" / "checkpoint").exists()
    assert not (tmp_path / "fine").exists()


def test_an_error_here_ends_the_processes(tmp_path: Path) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("here")

    with pytest.raises(RuntimeError, match="here"):
        run_tasks(tasks(tmp_path, "wait"), beat=fail, every=0.0)


def test_cores_are_shared_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [threads_for(jobs) for jobs in (1, 3, 8, 20)] == [8, 2, 1, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert [threads_for(jobs) for jobs in (1, 2, 4)] == [3, 3, 2]
    run_tasks(tasks(tmp_path, "fine"), jobs=4)
    assert (tmp_path / "fine" / "threads").read_text() == "2"
    run_tasks(tasks(tmp_path, "fine"), threads=5)
    assert (tmp_path / "fine" / "threads").read_text() == "5"
