"""The command as a reader types it, made small by few steps and narrow networks: the tests' ``proxylesskd``."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

STEPS = ("train.steps=4", "train.batch=16", "data.workers=1")
FACES = (*STEPS, "model.width=0.125", "model.image_size=48")
STEP = ("train.epochs=1",)
MOTION = (*STEP, "model.size=40", "model.layers=1")
MOST = {"--genuine": 60, "--impostor": 300}
SMALL: Mapping[str, Sequence[str]] = {
    "train": FACES,
    "distill": FACES,
    "estimate": FACES,
    "compare": FACES,
    "activity train": MOTION,
    "activity distill": MOTION,
}


def cheaper(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with settings that make a verb's work small before the reader's own, which hold."""
    length = 2 if arguments[:1] == ["activity"] else 1
    verb, rest = arguments[:length], list(arguments[length:])
    if {"-h", "--help", "--list"} & set(rest):
        return [*verb, *rest]
    if "--seeds" in rest:
        first = rest.index("--seeds") + 2
        rest[first:] = itertools.dropwhile(str.isdigit, rest[first:])
    for option, most in MOST.items():
        if option in rest:
            place = rest.index(option) + 1
            rest[place] = str(min(int(rest[place]), most))
    recipe, rest = ([], rest) if not rest or not rest[0].endswith(".toml") else (rest[:1], rest[1:])
    return [*verb, *recipe, *SMALL.get(" ".join(verb), ()), *rest]


def _forget(arguments: Sequence[str]) -> None:
    """Remove the run that a command is to make: one page makes it in two ways, and the folder has one to begin with."""
    trains = {"train", "distill", "compare", "demo"} & set(arguments[:2])
    if trains and "--out" in arguments and "--resume" not in arguments:
        shutil.rmtree(arguments[arguments.index("--out") + 1], ignore_errors=True)


def make_small() -> None:
    """Make what Python code trains as small as what a command does."""
    from proxylesskd import recipe

    whole = recipe.load_recipe
    recipe.load_recipe = lambda path=None, overrides=(): whole(path, [*overrides, *FACES])


def _small_demo() -> None:
    from proxylesskd import demo

    demo.IDENTITIES, demo.IMAGES, demo.TEST_IDENTITIES = 4, 4, 24
    demo.GENUINE, demo.IMPOSTOR = 30, 150
    tiny = (*FACES, "model.dim=16", "method.scale=16")
    # Long enough that the teacher knows its images by its own rows: the audit asks for that.
    demo.TEACHER = (*tiny, "method.name=alone", "model.name=mobilefacenet", "train.steps=60")
    demo.STUDENT = (*tiny, "method.name=proxyless", "model.name=mobilefacenet")


def _small_activity_demo() -> None:
    from proxylesskd.activity import demo

    demo.ALONE = {name: (*settings, *STEP) for name, settings in demo.ALONE.items()}
    demo.TAUGHT = {name: (*settings, *STEP) for name, settings in demo.TAUGHT.items()}


def _serve(arguments: Sequence[str]) -> None:
    """Start the service beside the page's other commands, which ask it, and return when it answers."""
    command = [sys.executable, "-m", "proxylesskd", *arguments]
    with Path("served.log").open("wb") as log:
        started = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    Path("served.pid").write_text(str(started.pid))
    for _ in range(240):
        if started.poll() is not None:
            sys.exit(Path("served.log").read_text())
        try:
            urllib.request.urlopen("http://127.0.0.1:8000/health", timeout=1)
        except (urllib.error.URLError, OSError):
            time.sleep(0.25)
        else:
            return
    sys.exit("the service did not answer in a minute")


def main(arguments: list[str]) -> None:
    """Do what ``proxylesskd`` does, in small."""
    if arguments[:1] == ["serve"] and "--help" not in arguments:
        _serve(arguments)
        return
    _forget(arguments)
    if arguments[:1] == ["demo"]:
        _small_demo()
    if arguments[:2] == ["activity", "demo"]:
        _small_activity_demo()
    from proxylesskd.cli import main as command

    command(cheaper(arguments))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(sys.argv[1:])
