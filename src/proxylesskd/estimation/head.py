"""What one pass over the rows costs: which engine makes it, its buffers, its time on a part of the rows."""

from __future__ import annotations

import time
from statistics import median

import torch
import torch.nn.functional as F

from proxylesskd.errors import UserError, nearest
from proxylesskd.losses.engines.automatic import automatic
from proxylesskd.losses.engines.chunked import CHUNK
from proxylesskd.losses.frozen_softmax import margin_softmax
from proxylesskd.losses.margin import Margin
from proxylesskd.losses.rows import Rows
from proxylesskd.recipe_method import ENGINES

IN_PLACE = 2 * CHUNK  # rows that stand for all in the probed training: the buffers have their full size
_TIMED = 1 << 16  # rows of the pass that is timed: more than the caches hold
_LOGITS = 1 << 23  # of that pass, at most, while it has more rows than those in place
_DENSE = 1 << 24  # logits of one dense product that are tried
_DENSE_COPIES = 3  # of the logits that a dense product keeps


def engine_of(name: str, batch: int, count: int, device: str, world: int) -> tuple[str, str]:
    """Return the engine that a training will use, and why, in a few words.

    Args:
        name: as the recipe has it.
        batch: images of one process.
        count: C.
        device: ``"cpu"`` or ``"cuda"``.
        world: number of processes.
    """
    spread = f"; each of {world} processes sees all rows, which costs no communication" if world > 1 else ""
    if name == "sharded":
        return name, f"asked for: each of {world} processes holds {-(-count // world)} of {count} rows"
    if name == "neighbours":
        return name, "asked for: an approximation, which evaluates each row's nearest rows and a sample of the others"
    if name != "auto":
        return name, f"asked for{spread}"
    chosen = automatic(batch, count, device)
    reasons = {
        "reference": f"{batch} x {count} logits are few enough for one dense product",
        "chunked": f"{batch} x {count} logits are many: one pass over the rows by chunks, in constant memory",
        "triton": f"{batch} x {count} logits are many: two fused kernels a chunk, in constant memory",
    }
    return chosen, reasons[chosen] + spread


def rows_in_place(engine: str, batch: int, count: int) -> int:
    """Return with how many rows a short training has the engine's buffers, at their full size if they are bounded."""
    return min(count, _DENSE // batch) if engine == "reference" else min(count, IN_PLACE)


def rows_to_time(engine: str, batch: int, count: int) -> int:
    """Return with how many rows the pass is timed."""
    if engine == "reference":
        return rows_in_place(engine, batch, count)
    return min(count, _TIMED, max(IN_PLACE, _LOGITS // batch))


def further_bytes(engine: str, batch: int, count: int) -> int:
    """Return the bytes of the logits that a short training did without."""
    return _DENSE_COPIES * 4 * batch * (count - rows_in_place(engine, batch, count)) if engine == "reference" else 0


def seen_rows(engine: str, batch: int, count: int, world: int, *, nearest: int, sample: float) -> tuple[int, int]:
    """Return how many embeddings meet how many rows in one process's pass.

    Args:
        engine: of :func:`engine_of`.
        batch: images of one process.
        count: C.
        world: number of processes.
        nearest: rows that are nearest to each row, of the engine ``neighbours``.
        sample: share of the others that it draws.
    """
    if engine == "sharded":
        return batch * world, -(-count // world)
    if engine == "neighbours":
        return batch, min(count, batch * (nearest + 1) + round(sample * count))
    return batch, count


def pass_seconds(rows: Rows, seen: int, batch: int, engine: str, margin: Margin, repeats: int = 5) -> float:
    """Return the seconds of loss and gradient of a batch through some rows, the median of a few passes.

    Args:
        rows: ``[C, D]``. Every pass takes the next ones, as long as there are any, so that they come from the memory
            and not from a cache, as those of a pass over all rows do.
        seen: how many a pass takes, at most C.
        batch: number of embeddings.
        engine: of the training.
        margin: of the training.
        repeats: passes that count.

    Raises:
        UserError: the engine cannot run here.
    """
    generator = torch.Generator().manual_seed(0)
    embeddings = F.normalize(torch.randn(batch, rows.shape[1], generator=generator), dim=1)
    embeddings = embeddings.to(rows.device).requires_grad_()
    labels = torch.randint(seen, (batch,), generator=generator).to(rows.device)
    alone = "chunked" if engine in ("sharded", "neighbours") else engine
    windows, found = min(rows.shape[0] // seen, repeats), []
    # Rows are visited once before they count: the first touch of a mapped file's page is dearer than all later ones.
    for number in range(windows + repeats):
        start = number % windows * seen
        begun = _now(rows.device)
        some = rows[start : start + seen]
        losses, _ = margin_softmax(embeddings, some, labels, margin=margin, scale=64.0, engine=alone)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        found.append(_now(rows.device) - begun)
    return median(found[windows:])


def require_known(engine: str, world: int) -> None:
    """Stop at an engine that there is none of, or that makes no sense.

    Raises:
        UserError: its name is unknown, or rows are to be split over one process.
    """
    if engine not in ENGINES:
        hint = nearest(engine, ENGINES)
        raise UserError(f"expected method.engine among {', '.join(ENGINES)}, found '{engine}'{hint}")
    if engine == "sharded" and world == 1:
        raise UserError("expected several processes for method.engine=sharded, found 1; give --world N")


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
