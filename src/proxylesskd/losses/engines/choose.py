"""From the name of an engine to the engine."""

from __future__ import annotations

from torch import Tensor

from proxylesskd.errors import UserError, nearest
from proxylesskd.losses.engines.automatic import automatic
from proxylesskd.losses.engines.chunked import Chunked
from proxylesskd.losses.engines.engine import Engine
from proxylesskd.losses.engines.reference import Reference
from proxylesskd.losses.rows import Rows

NAMES = ("auto", "reference", "chunked", "triton")


def engine_for(name: str, unit: Tensor, rows: Rows) -> Engine:
    """Return the engine called ``name``.

    Args:
        name: one of :data:`NAMES`; see :func:`proxylesskd.losses.engines.automatic.automatic` for ``"auto"``.
        unit: ``[B, D]`` embeddings.
        rows: ``[C, D]``.

    Raises:
        UserError: no engine has that name, or it cannot run here.
    """
    if name == "auto":
        name = automatic(unit.shape[0], rows.shape[0], rows.device, trained=rows.requires_grad)
    if name == "reference":
        return Reference()
    if name == "chunked":
        return Chunked()
    if name == "triton":
        from proxylesskd.losses.engines.triton import Triton

        return Triton()
    raise UserError(f"expected one of the engines {', '.join(NAMES)}, found '{name}'{nearest(name, NAMES)}")
