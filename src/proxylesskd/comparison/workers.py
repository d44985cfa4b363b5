"""Several cells at a time, each in its process; stopped together, with checkpoints."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from proxylesskd.comparison.cell import FAILED, FAILURE, FINISHED, STOPPED, Task
from proxylesskd.export.run_folder import read_json
from proxylesskd.machine import cores
from proxylesskd.training.stop import StopRequest

LOG, TASK = "cell.log", "task.json"
COMMAND = (sys.executable, "-m", "proxylesskd.comparison.cell")
_POLL = 0.1  # seconds


@dataclass(frozen=True)
class Ended:
    """How a cell's process ended.

    Attributes:
        task: what it was asked to do.
        seconds: that it ran.
        finished: whether everything is done.
        reason: why it failed; None where it did not.
    """

    task: Task
    seconds: float
    finished: bool
    reason: str | None = None


@dataclass(frozen=True)
class _Running:
    task: Task
    process: subprocess.Popen[bytes]
    begun: float


def threads_for(jobs: int) -> int:
    """Return the threads of each of ``jobs`` processes: the cores divided, and no more than OMP_NUM_THREADS says."""
    share = max(1, cores() // jobs)
    told = os.environ.get("OMP_NUM_THREADS", "")
    return min(share, int(told)) if told.isdigit() and int(told) else share


def run_tasks(
    tasks: Sequence[Task],
    *,
    jobs: int = 1,
    threads: int | None = None,
    ended: Callable[[Ended], None] = lambda _: None,
    beat: Callable[[Sequence[Task]], None] = lambda _: None,
    every: float = 60.0,
) -> bool:
    """Perform tasks, ``jobs`` at a time; return whether all were tried.

    SIGINT and SIGTERM let every process end after its step with a checkpoint; no other is started then. A second
    SIGINT ends them at once.

    Args:
        tasks: in the order in which to begin them.
        jobs: processes at a time.
        threads: of each process; :func:`threads_for` so many jobs unless given.
        ended: is told of every end.
        beat: is told now and then what is running.
        every: seconds between two such times.
    """
    waiting, running, told = list(tasks), list[_Running](), time.monotonic()
    with StopRequest() as stop:
        try:
            while running or (waiting and stop.signal is None):
                while waiting and len(running) < jobs and stop.signal is None:
                    running.append(_start(waiting.pop(0), threads or threads_for(jobs)))
                if stop.signal is not None:
                    _ask_to_stop(running)
                for each in [each for each in running if each.process.poll() is not None]:
                    running.remove(each)
                    ended(_outcome(each))
                if running and time.monotonic() - told >= every:
                    told = time.monotonic()
                    beat([each.task for each in running])
                time.sleep(_POLL if running else 0.0)
        finally:
            for each in running:
                each.process.kill()
                each.process.wait()
    return stop.signal is None


def _start(task: Task, threads: int) -> _Running:
    """Start a cell's process; it stands in a session of its own, so that Ctrl-C reaches it through us alone."""
    folder = Path(task.folder)
    task.save(folder / TASK)
    (folder / FAILURE).unlink(missing_ok=True)
    command = [*COMMAND, str(folder / TASK)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    with (folder / LOG).open("ab") as log:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
        )
    return _Running(task, process, time.monotonic())


def _ask_to_stop(running: Sequence[_Running]) -> None:
    for each in running:
        pipe: IO[bytes] | None = each.process.stdin
        if pipe is not None and not pipe.closed:
            pipe.close()


def _outcome(ran: _Running) -> Ended:
    _ask_to_stop([ran])
    code, seconds = ran.process.returncode, time.monotonic() - ran.begun
    if code in (FINISHED, STOPPED):
        return Ended(ran.task, seconds, code == FINISHED)
    if code == -15:  # asked to stop before or after its steps, where there is nothing to keep
        return Ended(ran.task, seconds, False)
    return Ended(ran.task, seconds, False, _reason(Path(ran.task.folder), code))


def _reason(folder: Path, code: int) -> str:
    """Say why a cell failed, and keep it where the cell itself could not."""
    told = read_json(folder / FAILURE) if code == FAILED else None
    if told is not None:
        return str(told.get("reason", "no reason given"))
    lines = (folder / LOG).read_text("utf-8", errors="replace").strip().splitlines()
    if code in (-9, 137):
        return "its process was ended from outside, as a machine without memory does it"
    return f"its process ended with code {code}: {lines[-1] if lines else 'no word'} (see {folder / LOG})"
