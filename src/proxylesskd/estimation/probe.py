"""A process that tries a training for a few steps and says what it took: ``python -m … ASKED.json ANSWER.json``.

It goes the way of a real training, with the real batches, loader, student, optimiser and engine, but with a few of the
rows: the buffers then have their size, and the pass over all rows, which is timed apart, costs nothing. A process of
its own, so that its memory is that of a training and nothing else.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import proxylesskd.cli  # noqa: F401  # what a training imports belongs to its memory
from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.classifier.stored_rows import MAPPED_FROM, bytes_of, size_of, stored_as
from proxylesskd.data.listed import listed
from proxylesskd.data.loader import CorruptLog, load_batches
from proxylesskd.data.source import Source, open_source
from proxylesskd.errors import UserError
from proxylesskd.estimation.asked import Asked, Probed
from proxylesskd.estimation.clocked import Clocked
from proxylesskd.estimation.disk import read_rate
from proxylesskd.estimation.head import (
    engine_of,
    further_bytes,
    pass_seconds,
    rows_in_place,
    rows_to_time,
    seen_rows,
)
from proxylesskd.estimation.look import smaller_batch
from proxylesskd.losses.rows import Rows
from proxylesskd.machine import own_memory
from proxylesskd.processes import leave
from proxylesskd.recipe import Recipe, build_recipe
from proxylesskd.recipe_fit import fit_recipe, new_model
from proxylesskd.recipe_method import learner_of, margin_of
from proxylesskd.runs import distill  # noqa: F401
from proxylesskd.training.allocator import keep_freed_memory

_STEPS = 7
_AHEAD = 5  # batches that the loader holds: those decoded ahead and the one handed out


@dataclass(frozen=True)
class Material:
    """Rows and faces, and what opening them took.

    Attributes:
        rows: all of them, or drawn ones instead of rows that do not exist yet.
        labels: ``[identities] int64``, the row of every label of the source.
        source: the faces.
        private: bytes of rows and names in this process's own memory.
        mapped: bytes of rows and names in the pages of their file.
        index: bytes of the source's index.
    """

    rows: Rows
    labels: Tensor
    source: Source
    private: int
    mapped: int
    index: int


def probe(asked: Asked) -> Probed:
    """Try a training out.

    Raises:
        UserError: anything in the recipe or its files is wrong.
    """
    recipe = build_recipe(asked.recipe)
    engine = engine_of(recipe.method.engine, asked.share, asked.count, asked.device, asked.world)[0]
    base = own_memory()
    rate = read_rate(Path(asked.classifier)) if asked.classifier else 0.0
    material = _open(asked, recipe, engine)
    start = own_memory()
    student = new_model(recipe, asked.dim)
    if asked.batch == asked.share:
        smaller = smaller_batch(student, recipe.model.image_size, asked.share, _STEPS, asked.seconds)
        if smaller:
            return Probed(smaller=smaller)
    trained, loaded = trained_bytes(student), _AHEAD * asked.batch * 3 * 112 * 112
    few = material.rows[: rows_in_place(engine, asked.share, asked.count)]
    seconds = _train(asked, recipe, student, few, engine, material)
    end = own_memory()
    on_gpu = asked.device == "cuda"
    gpu = torch.cuda.max_memory_reserved() - bytes_of(few) if on_gpu else 0
    per_row = _seconds_of_row(asked, recipe, material.rows, engine)
    known = loaded + (0 if on_gpu else trained) + (bytes_of(few) if isinstance(few, Tensor) else 0)
    further = further_bytes(engine, asked.share, asked.count)
    return Probed(
        images=len(material.source),
        base=base["anonymous"],
        base_files=base["files"] + max(0, end["files"] - start["files"]),
        index=material.index,
        rows_private=material.private,
        rows_mapped=material.mapped,
        trained=0 if on_gpu else trained,
        loaded=loaded,
        rest=max(0, end["anonymous"] - start["anonymous"] - known) + (0 if on_gpu else further),
        gpu=gpu + further if on_gpu else 0,
        student_seconds=max(0.0, seconds - per_row * few.shape[0]),
        head_seconds=per_row * _seen(asked, recipe, engine)[1],
        data_seconds=_data_seconds(asked, recipe, material.source),
        disk_rate=rate,
    )


def trained_bytes(student: nn.Module) -> int:
    """Return the bytes of parameters, gradients and momentum, and of running statistics."""
    return 3 * sum(p.nbytes for p in student.parameters()) + sum(b.nbytes for b in student.buffers())


def _open(asked: Asked, recipe: Recipe, engine: str) -> Material:
    start = own_memory()["anonymous"]
    classifier = InheritedClassifier.load(asked.classifier) if asked.classifier else None
    if classifier is not None:
        rows, private = classifier.stored, own_memory()["anonymous"] - start
        mapped = Path(asked.classifier).stat().st_size if bytes_of(rows) >= MAPPED_FROM else 0
    else:
        rows = _drawn(asked, engine)
        size = size_of(asked.store, asked.count, asked.dim)
        private, mapped = (size, 0) if size < MAPPED_FROM else (0, size)
    opened = own_memory()["anonymous"]
    source = open_source(recipe.data.train)
    source = listed(source, recipe.data.keep) if recipe.data.keep else source
    names = source.identities
    labels = torch.arange(len(names)) if classifier is None else classifier.rows_of(names)
    return Material(rows, labels, source, max(0, private), mapped, max(0, own_memory()["anonymous"] - opened))


def _drawn(asked: Asked, engine: str) -> Rows:
    """Return random rows instead of those that do not exist yet: as many as are looked at."""
    wanted = (rows_in_place(engine, asked.share, asked.count), rows_to_time(engine, asked.share, asked.count))
    return stored_as(F.normalize(torch.randn(max(wanted), asked.dim), dim=1), asked.store)


def _train(asked: Asked, recipe: Recipe, student: nn.Module, few: Rows, engine: str, material: Material) -> float:
    """Train for a few steps; return the seconds of one."""
    inside = "chunked" if engine in ("sharded", "neighbours") else engine
    recipe = replace(
        recipe,
        train=replace(
            recipe.train, steps=_STEPS, batch=asked.batch * asked.processes, accumulate=1, checkpoint_every=0
        ),
        data=replace(recipe.data, check=""),
        method=replace(recipe.method, name="proxyless", engine=inside),
    )
    classifier = InheritedClassifier(few, [str(row) for row in range(few.shape[0])], {})
    with tempfile.TemporaryDirectory() as folder:
        clock = Clocked(
            learner_of(
                recipe,
                student,
                Path(folder),
                num_identities=few.shape[0],
                dim=few.shape[1],
                classifier=classifier,
                quiet=True,
            )
        )
        fit_recipe(recipe, Path(folder), clock, material.source, material.labels % few.shape[0], False, True)
    return clock.seconds()


def _seen(asked: Asked, recipe: Recipe, engine: str) -> tuple[int, int]:
    method = recipe.method
    return seen_rows(engine, asked.share, asked.count, asked.world, nearest=method.neighbours, sample=method.sample)


def _seconds_of_row(asked: Asked, recipe: Recipe, rows: Rows, engine: str) -> float:
    """Return the seconds that one row costs in the pass over all of them."""
    batch = _seen(asked, recipe, engine)[0]
    seen = rows_to_time(engine, batch, rows.shape[0])
    some = rows[: 6 * seen].to(asked.device)
    return pass_seconds(some, seen, batch, engine, margin_of(recipe)) / seen


def _data_seconds(asked: Asked, recipe: Recipe, source: Source) -> float:
    """Return the seconds of loading one batch when nothing else is done."""
    batches = load_batches(
        source,
        batch=asked.batch,
        seed=0,
        start=0,
        stop=_AHEAD,
        workers=recipe.data.workers,
        corrupt=CorruptLog(),
    )
    begun = time.perf_counter()
    count = sum(1 for _ in batches)
    return (time.perf_counter() - begun) / count


def main(asked: str, answer: str) -> None:
    """Read a question, write the answer or what is wrong with it."""
    torch.manual_seed(0)
    keep_freed_memory()
    try:
        found: dict[str, object] = asdict(probe(Asked(**json.loads(Path(asked).read_text("utf-8")))))
    except UserError as error:
        found = {"error": str(error)}
    Path(answer).write_text(json.dumps(found), "utf-8")
    leave()


if __name__ == "__main__":
    main(*sys.argv[1:])
