"""One cell in a process of its own, so that its memory is its own: train, measure, evaluate.

``python -m proxylesskd.comparison.cell TASK.json``. The process ends itself, with a checkpoint, when its standard input
is closed: then whoever started it wants it to stop, or is no more.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from proxylesskd import runs
from proxylesskd.comparison.gallery import enrolled
from proxylesskd.comparison.material import pairs_fingerprint
from proxylesskd.comparison.protocols import is_taken, take_all
from proxylesskd.comparison.speed import read_speed
from proxylesskd.data.pairs import read_pairs
from proxylesskd.errors import UserError
from proxylesskd.evaluation import evaluate
from proxylesskd.export.run_folder import read_json
from proxylesskd.export.ship import write_json
from proxylesskd.machine import own_memory
from proxylesskd.models.embedder import Embedder
from proxylesskd.recipe import Recipe, build_recipe
from proxylesskd.teacher import load_teacher
from proxylesskd.training.allocator import keep_freed_memory

SETTINGS, MEASURED, EVALUATED, FAILURE = "cell.json", "measured.json", "evaluated.json", "failure.json"
FINISHED, FAILED, STOPPED = 0, 2, 3  # exit codes


@dataclass(frozen=True)
class Task:
    """What a cell's process is asked to do.

    Attributes:
        folder: the run folder.
        recipe: of the training, as nested plain values.
        pairs: path of the verification set; empty for no evaluation.
        root: folder of its images, or empty.
        gallery: path of the teacher's gallery, or empty where the student has another dimension.
        projection: path of the classifier through which the gallery is projected, or empty.
        name: of the method, for the evaluation.
        protocols: that are taken beside it, see :mod:`proxylesskd.protocols.take`.
        teacher: makes their galleries; empty for single mode alone.
        teacher_print: its fingerprint, likewise.
    """

    folder: str
    recipe: Mapping[str, Any]
    pairs: str = ""
    root: str = ""
    gallery: str = ""
    projection: str = ""
    name: str = ""
    protocols: Sequence[str] = ()
    teacher: str = ""
    teacher_print: str = ""

    def save(self, path: Path) -> None:
        """Write it for :func:`main`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, asdict(self))


def perform(task: Task) -> bool:
    """Do what is left to do; return whether the cell is finished.

    Raises:
        UserError: the training or the evaluation cannot be done.
    """
    folder, recipe = Path(task.folder), build_recipe(dict(task.recipe))
    if not (folder / MEASURED).exists() and not _train(folder, recipe):
        return False
    if task.pairs:
        _evaluate(folder, recipe, task)
    if not is_taken(folder, task.protocols, task.teacher_print):
        _take(folder, recipe, task)
    (folder / FAILURE).unlink(missing_ok=True)
    return True


def _train(folder: Path, recipe: Recipe) -> bool:
    """Train, or go on with it, and write down what it took."""
    resume = (folder / "recipe.toml").exists()
    # The comparison has audited the classifier once, for all cells.
    result = runs.distill(recipe, folder, audit=False, resume=resume, quiet=True).result
    if not result.finished:
        return False
    idle = result.resumed_from == result.steps  # it was killed after its last step: this process trained nothing
    device, peak = _peak()
    told = {"steps": result.steps, "seconds": result.seconds, "skipped": result.skipped, "device": device}
    told |= {"threads": torch.get_num_threads(), "peak_memory": None if idle else peak}
    write_json(folder / MEASURED, told | asdict(read_speed(folder)))
    return True


def _peak() -> tuple[str, int]:
    """Return the device, and the bytes that this process took of its memory at most."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name(), torch.cuda.max_memory_reserved()
    return "cpu", own_memory()["peak"]


def _evaluate(folder: Path, recipe: Recipe, task: Task) -> None:
    """Score the pairs in both modes; intervals are for all cells together, from their files."""
    pairs = read_pairs(task.pairs, task.root or None)
    gallery = enrolled(Path(task.gallery), pairs) if task.gallery else None
    told = evaluation_of(pairs_fingerprint(pairs), "" if gallery is None else gallery.fingerprint)
    if read_json(folder / EVALUATED) == told:
        return
    found = evaluate(
        _student(folder, recipe),
        pairs,
        gallery=gallery,
        projection=task.projection or None,
        replicates=0,
        name=task.name,
    )
    found.save(folder, pictures=False)
    write_json(folder / EVALUATED, told)


def _take(folder: Path, recipe: Recipe, task: Task) -> None:
    """Take the protocols that were not taken yet."""
    take_all(
        folder,
        _student(folder, recipe),
        task.protocols,
        gallery=load_teacher(task.teacher) if task.teacher else None,
        fingerprint=task.teacher_print,
        projection=task.projection or None,
        name=task.name,
    )


def _student(folder: Path, recipe: Recipe) -> Embedder:
    own = recipe.model.name if ":" in recipe.model.name else None  # a file never names code that is then run
    return load_teacher(folder, architecture=own)


def evaluation_of(pairs: str, gallery: str) -> dict[str, str]:
    """Return what ``evaluated.json`` says: fingerprints of the pairs and of the gallery's teacher, if any."""
    return {"pairs": pairs, "gallery": gallery}


def main(path: str) -> int:
    """Perform a task; a reason why it cannot be done goes to ``failure.json``."""
    torch.manual_seed(0)
    keep_freed_memory()
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    task = Task(**json.loads(Path(path).read_text("utf-8")))
    try:
        return FINISHED if perform(task) else STOPPED
    except UserError as error:
        Path(task.folder).mkdir(parents=True, exist_ok=True)
        write_json(Path(task.folder) / FAILURE, {"reason": str(error)})
        return FAILED


def _stop_with_parent() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
