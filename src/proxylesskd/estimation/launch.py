"""Start the probing processes, as `torchrun` would, and read their answers."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from dataclasses import asdict, fields, replace
from pathlib import Path

from proxylesskd.errors import UserError
from proxylesskd.estimation.asked import Asked, Probed

_PATIENCE = 1800.0  # seconds


def ask(asked: Asked) -> Probed:
    """Try a training out in processes of its own; with fewer images than asked for where those are too many.

    Raises:
        UserError: anything in the recipe or its files is wrong, or a process died.
    """
    found = _launch(asked)
    if not found.smaller:
        return found
    many = found.smaller
    at_many, at_half = (_launch(replace(asked, batch=batch)) for batch in (many, many // 2))
    return extended(at_half, at_many, many // 2, many, asked.share)


def extended(first: Probed, second: Probed, at_first: int, at_second: int, at: int) -> Probed:
    """Lay a line through what two numbers of images took, and follow it to a third."""

    def follow(low: float, high: float) -> float:
        return max(0.0, high + (at - at_second) * (high - low) / (at_second - at_first))

    return replace(
        second,
        rest=round(follow(first.rest, second.rest)),
        loaded=round(follow(first.loaded, second.loaded)),
        gpu=round(follow(first.gpu, second.gpu)),
        student_seconds=follow(first.student_seconds, second.student_seconds),
        data_seconds=follow(first.data_seconds, second.data_seconds),
    )


def _launch(asked: Asked) -> Probed:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "asked.json").write_text(json.dumps(asdict(asked)), "utf-8")
        port = _free_port()
        started = [_start(folder, rank, asked, port) for rank in range(asked.processes)]
        try:
            for process in started:
                process.wait(_PATIENCE)
        finally:
            for process in started:
                process.kill()
                process.wait()
        answers = [_answer(folder, rank, process.returncode) for rank, process in enumerate(started)]
    return _worst(answers)


def _start(folder: Path, rank: int, asked: Asked, port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "proxylesskd.estimation.probe"]
    command += [str(folder / "asked.json"), str(folder / f"answer-{rank}.json")]
    with (folder / f"errors-{rank}.txt").open("wb") as errors:
        return subprocess.Popen(command, env=_environment(rank, asked, port), stdout=errors, stderr=errors)


def _environment(rank: int, asked: Asked, port: int) -> dict[str, str]:
    """Return what `torchrun` gives its processes; without several of them, nothing."""
    found = dict(os.environ)
    if asked.device == "cpu":
        found["CUDA_VISIBLE_DEVICES"] = ""
    if asked.processes > 1:
        number, world = str(rank), str(asked.processes)
        found |= {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
        found |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        found.setdefault("OMP_NUM_THREADS", "1")
    return found


def _answer(folder: Path, rank: int, code: int) -> Probed:
    try:
        found = json.loads((folder / f"answer-{rank}.json").read_text("utf-8"))
    except (OSError, ValueError):
        lines = (folder / f"errors-{rank}.txt").read_text("utf-8", errors="replace").strip().splitlines()
        said = lines[-1] if lines else "nothing"
        how = "was ended, as a machine without memory does it" if code in (-9, 137) else f"ended with code {code}"
        raise UserError(
            f"expected a few steps of the training to tell what it takes, found that the process {how}: {said}; "
            "give a smaller train.batch or model.width"
        ) from None
    if "error" in found:
        raise UserError(found["error"])
    return Probed(**found)


def _worst(answers: list[Probed]) -> Probed:
    smaller = [answer.smaller for answer in answers if answer.smaller]
    if smaller:
        return Probed(smaller=min(smaller))
    return Probed(**{f.name: max(getattr(answer, f.name) for answer in answers) for f in fields(Probed)})


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
