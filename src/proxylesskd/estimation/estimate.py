"""Memory by part, time per step and the engine of a training, before it is launched."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from proxylesskd.audit.audit import memory_needed
from proxylesskd.classifier.classifier_file import read_classifier
from proxylesskd.classifier.stored_rows import require_store, size_of, store_of
from proxylesskd.errors import UserError, nearest
from proxylesskd.estimation.asked import Asked, Probed
from proxylesskd.estimation.head import engine_of, require_known
from proxylesskd.estimation.launch import ask
from proxylesskd.estimation.memory import Part, Room, memory_parts, pass_bytes, total, warnings_of
from proxylesskd.machine import cores
from proxylesskd.recipe import Recipe
from proxylesskd.recipe_fit import share_of_batch

DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Estimate:
    """What a training will take.

    Attributes:
        identities: C.
        dim: D.
        store: how the rows are stored.
        engine: which engine makes the pass over the rows.
        why: why that one.
        device: where the student is trained.
        world: number of processes.
        memory: by part, of one process.
        private: bytes of one process's own memory, which must be free.
        mapped: bytes of file pages that it uses; the system holds what there is room for, once for all processes.
        gpu: bytes on the GPU of one process.
        in_all: bytes of all processes' own memory.
        audit: bytes that the audit before the training takes for a while, besides the rows.
        available: bytes that are free on this machine.
        student_seconds: of a step, without the pass over the rows.
        head_seconds: of a step, the pass over the rows in memory.
        disk_seconds: of a step, more for rows that memory cannot hold.
        data_seconds: of loading a step's images, which happens in the background.
        step_seconds: of a step.
        images_per_second: of all processes.
        steps: of the training.
        epoch_seconds: of one pass over the data.
        run_seconds: of all steps, without checks.
        warnings: what will not fit, and what to do.
    """

    identities: int
    dim: int
    store: str
    engine: str
    why: str
    device: str
    world: int
    memory: list[Part]
    private: int
    mapped: int
    gpu: int
    in_all: int
    audit: int
    available: int
    student_seconds: float
    head_seconds: float
    disk_seconds: float
    data_seconds: float
    step_seconds: float
    images_per_second: float
    steps: int
    epoch_seconds: float
    run_seconds: float
    warnings: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)


class _Rows(NamedTuple):
    file: str
    identities: int
    dim: int
    store: str


def estimate(
    recipe: Recipe,
    *,
    classifier: str | Path | None = None,
    identities: int = 0,
    store: str = "float32",
    world: int = 1,
    device: str = "auto",
    seconds: float = 60.0,
) -> Estimate:
    """Say what `distill` with this recipe will take, by trying a few steps of it on this machine.

    The trial runs in processes of its own, with the recipe's batch, loader, student and engine; the pass over the rows
    is timed on a part of them. Of ``world`` processes as many are tried at once as the machine has cores.

    Args:
        recipe: of the training; ``data.train`` must be there.
        classifier: file of the rows, instead of ``method.classifier``.
        identities: C, for rows that do not exist yet.
        store: how these would be stored, see :func:`proxylesskd.classifier.compact.compact`.
        world: processes that will train together; they share ``train.batch``.
        device: ``"cpu"``, ``"cuda"`` or ``"auto"``: as the training will choose.
        seconds: that one trial may take; a larger student is tried with fewer images, and the rest is extrapolated.

    Raises:
        UserError: anything in the recipe or its files is wrong, or the device is not there.
    """
    if not recipe.data.train:
        raise UserError("expected the training faces, found none; give data.train=…")
    rows = _rows(recipe, classifier, identities, store)
    if recipe.method.name not in ("auto", "proxyless") or recipe.model.dim not in (0, rows.dim):
        raise UserError(
            f"expected method.name=proxyless and a student of the rows' dimension {rows.dim}, found "
            f"'{recipe.method.name}' and model.dim={recipe.model.dim}; leave both out"
        )
    device = _device(device)
    share = share_of_batch(recipe.train.batch, world)
    require_known(recipe.method.engine, world)
    engine, why = engine_of(recipe.method.engine, share, rows.identities, device, world)
    asked = Asked(
        recipe=recipe.to_dict(),
        classifier=rows.file,
        count=rows.identities,
        dim=rows.dim,
        store=rows.store,
        share=share,
        batch=share,
        world=world,
        processes=min(world, max(1, cores())),
        device=device,
        seconds=seconds,
    )
    return summed(recipe, asked, ask(asked), engine, why, Room.here(device))


def summed(recipe: Recipe, asked: Asked, found: Probed, engine: str, why: str, room: Room) -> Estimate:
    """Put together what was probed: a pure function.

    Args:
        recipe: of the training.
        asked: the question.
        found: the answer.
        engine: of the training.
        why: that engine.
        room: what there is.
    """
    plan = recipe.train
    shards = asked.world if engine == "sharded" else 1
    parts = memory_parts(found, size_of(asked.store, asked.count, asked.dim) // shards if room.gpu else 0)
    in_all = asked.world * total(parts, "private")
    read = pass_bytes(asked.store, asked.count, asked.dim) // shards
    from_disk = not room.gpu and found.rows_mapped > 0 and in_all + read * shards > room.memory
    disk = plan.accumulate * read / found.disk_rate if from_disk and found.disk_rate else 0.0
    student, head, data = (
        plan.accumulate * seconds for seconds in (found.student_seconds, found.head_seconds, found.data_seconds)
    )
    step = max(student + head, data) + disk
    per_step = plan.batch * plan.accumulate
    steps = plan.steps or max(1, round(plan.epochs * found.images / per_step))
    return Estimate(
        identities=asked.count,
        dim=asked.dim,
        store=asked.store,
        engine=engine,
        why=why,
        device=asked.device,
        world=asked.world,
        memory=parts,
        private=total(parts, "private"),
        mapped=total(parts, "mapped"),
        gpu=total(parts, "gpu"),
        in_all=in_all,
        audit=memory_needed(asked.count, asked.dim),
        available=room.memory,
        student_seconds=student,
        head_seconds=head,
        disk_seconds=disk,
        data_seconds=data,
        step_seconds=step,
        images_per_second=per_step / step,
        steps=steps,
        epoch_seconds=step * found.images / per_step,
        run_seconds=step * steps,
        warnings=warnings_of(parts, asked, room, from_disk=read if from_disk else 0),
    )


def _rows(recipe: Recipe, classifier: str | Path | None, identities: int, store: str) -> _Rows:
    file = str(classifier or recipe.method.classifier)
    if identities:
        if identities < 2:
            raise UserError(f"expected at least 2 identities, found {identities}")
        return _Rows("", identities, recipe.model.dim or 512, require_store(store))
    if not file:
        raise UserError(
            "expected the inherited classifier, found none; give method.classifier=…, or the number of its identities"
        )
    rows = read_classifier(Path(file)).rows
    count, dim = rows.shape
    return _Rows(file, count, dim, store_of(rows))


def _device(name: str) -> str:
    if name not in DEVICES:
        raise UserError(f"expected a device among {', '.join(DEVICES)}, found '{name}'{nearest(name, DEVICES)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("expected a CUDA device to try the training on, found none; estimate where it will run")
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
