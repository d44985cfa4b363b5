"""The command under `torchrun`: a worker is killed, all start anew and go on; then SIGTERM ends them in peace."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from proxylesskd.training.checkpoint import list_checkpoints, load_checkpoint
from proxylesskd.training.log import read_metrics
from tests.distributed.test_worlds import IDENTITIES, inherited
from tests.faces import write_faces

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for the workers in /proc")


def _command(place: Path) -> list[str]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    distil = ["-m", "proxylesskd", "distill", "--out", str(place / "run"), "--classifier", str(place / "c.safetensors")]
    recipe = [
        f"data.train=folder:{place / 'faces'}", "data.workers=1", "model.name=tests.distributed.ring:student",
        "model.image_size=16", "train.batch=4", "train.steps=100000", "train.log_every=1", "train.checkpoint_every=5",
    ]  # fmt: skip
    return [*torchrun, "--max-restarts", "1", "--monitor-interval", "0.1", *distil, "--no-audit", *recipe]


def _start(place: Path) -> subprocess.Popen[str]:
    write_faces(place / "faces", IDENTITIES, 2)
    inherited().save(place / "c.safetensors")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.Popen(
        _command(place), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def _workers(torchrun: int) -> dict[int, int]:
    """Return rank -> process id of what `torchrun` started."""
    found = {}
    for child in Path(f"/proc/{torchrun}/task/{torchrun}/children").read_text().split():
        try:
            variables = Path(f"/proc/{child}/environ").read_text().split("\0")
        except OSError:  # it has just ended
            continue
        found |= {int(v.removeprefix("RANK=")): int(child) for v in variables if v.startswith("RANK=")}
    return found


def _wait(process: subprocess.Popen[str], ready: Callable[[], bool]) -> None:
    limit = time.monotonic() + 120
    while not ready():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < limit
        time.sleep(0.02)


def _last_step(run: Path) -> int:
    rows = read_metrics(run / "metrics.jsonl") if (run / "metrics.jsonl").exists() else []
    return max((row["step"] for row in rows if "loss" in row), default=0)


def test_restart_and_sigterm(tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = _start(tmp_path)
    try:
        _wait(process, lambda: len(list_checkpoints(run / "checkpoints")) > 0)
        first = set(_workers(process.pid).values())
        os.kill(_workers(process.pid)[1], signal.SIGKILL)
        _wait(process, lambda: len(_workers(process.pid)) == 2 and first.isdisjoint(_workers(process.pid).values()))
        reached = _last_step(run)
        _wait(process, lambda: _last_step(run) > reached + 3)
        os.kill(_workers(process.pid)[1], signal.SIGTERM)  # not the one that writes
        begun = time.monotonic()
        printed, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, printed
    assert time.monotonic() - begun < 30
    step, path = list_checkpoints(run / "checkpoints")[-1]
    assert step > reached
    assert load_checkpoint(path)["step"] == step
    rows = [row["step"] for row in read_metrics(run / "metrics.jsonl") if "loss" in row]
    assert rows == list(range(1, step + 1))
    assert re.search(r"resuming after step [1-9]", printed)
    assert printed.count(f"stopped by SIGTERM after step {step} of 100000") == 1
    assert printed.count(f"stopped at step {step} of 100000; go on with --resume") == 1
