"""An estimate as lines for a person."""

from __future__ import annotations

from collections.abc import Iterator

from proxylesskd.estimation.estimate import Estimate


def lines(found: Estimate) -> Iterator[str]:
    """Yield what a terminal shows."""
    yield f"rows       {found.identities} identities x {found.dim}, {found.store}"
    yield f"engine     {found.engine}: {found.why}"
    yield "memory     " + (f"of each of {found.world} processes" if found.world > 1 else "of the process")
    for part in found.memory:
        where = {"private": "", "mapped": "  mapped", "gpu": "  GPU"}[part.kind]
        yield f"           {size(part.bytes):>10}  {part.name}{where}"
    yield f"           {size(found.private):>10}  its own, must be free"
    yield f"           {size(found.mapped):>10}  pages of files: held as far as there is room, once for all processes"
    if found.gpu:
        yield f"           {size(found.gpu):>10}  on its GPU"
    if found.world > 1:
        yield f"           {size(found.in_all):>10}  of all processes together must be free"
    yield f"           {size(found.audit):>10}  more for a while for the audit before it; none with --no-audit"
    disk = f", {span(found.disk_seconds)} reading rows from the disk" if found.disk_seconds else ""
    parts = f"{span(found.student_seconds)} student, {span(found.head_seconds)} rows{disk}"
    yield f"step       {span(found.step_seconds)}: {parts}; loading its images takes {span(found.data_seconds)} beside"
    yield f"speed      {found.images_per_second:.1f} images/s"
    yield f"training   {span(found.epoch_seconds)} an epoch, {span(found.run_seconds)} for {found.steps} steps"
    for warning in found.warnings:
        yield f"warning: {warning}"


def size(count: float) -> str:
    """Return bytes in GiB or MiB."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def span(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    for unit, name in ((86400, "days"), (3600, "h"), (60, "min"), (1, "s")):
        if seconds >= 2 * unit or name == "s":
            return f"{seconds / unit:.3g} {name}" if seconds >= 0.1 else f"{1000 * seconds:.3g} ms"
    raise AssertionError
