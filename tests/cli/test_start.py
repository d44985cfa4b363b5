"""The command starts quickly, because it imports little, and shells complete its verbs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = "from proxylesskd.cli import main; main({words!r})"
HEAVY = {"torch", "numpy", "scipy", "onnxruntime", "cv2", "PIL", "matplotlib", "jinja2", "safetensors", "fastapi"}


def _run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def _imported(code: str) -> set[str]:
    lines = _run(code).stderr.splitlines()
    return {line.rsplit("|", 1)[1].strip().partition(".")[0] for line in lines if line.startswith("import time:")}


def _cpu_seconds(code: str, wanted: float) -> float:
    """Return the processor's seconds of a process, the least of as many as ten: what else runs here slows it down."""
    timed = (
        f"import time, atexit, sys\natexit.register(lambda: sys.stderr.write(f'\\n{{time.process_time()}}'))\n{code}"
    )
    least = float("inf")
    for _ in range(10):
        run = subprocess.run([sys.executable, "-c", timed], capture_output=True, text=True, check=True)
        least = min(least, float(run.stderr.rsplit("\n", 1)[1]))
        if least < wanted:
            break
    return least


def test_help_imports_nothing_heavy() -> None:
    found = _imported(COMMAND.format(words=["--help"]))
    assert "typer" in found
    assert found & HEAVY == set()


def test_help_takes_less_than_four_tenths_of_a_second() -> None:
    assert _cpu_seconds(COMMAND.format(words=["--help"]), 0.4) < 0.4


def test_the_library_is_imported_in_no_time() -> None:
    assert _imported("import proxylesskd") & HEAVY == set()


def test_every_name_is_imported_in_a_second_and_a_half_beyond_torch() -> None:
    code = (
        "import time, torch; begun = time.process_time()\n"
        "import proxylesskd as pk; [getattr(pk, name) for name in pk.__all__]\n"
        "print(time.process_time() - begun)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1.5


def _complete(shell: str, words: str) -> str:
    environment = {
        "bash": {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": words},
        "fish": {"_TYPER_COMPLETE_ARGS": words, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]
    program = Path(sys.executable).with_name("proxylesskd")
    done = subprocess.run(
        [str(program)],
        env={**os.environ, "_PROXYLESSKD_COMPLETE": f"complete_{shell}", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_verbs_and_options(shell: str) -> None:
    assert "verify" in _complete(shell, "proxylesskd ver")
    assert "--threshold" in _complete(shell, "proxylesskd verify --thr")
    assert "enroll" not in _complete(shell, "proxylesskd ver")
