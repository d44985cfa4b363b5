"""From the name of an engine to the engine."""

from __future__ import annotations

from torch import Tensor

from proxylesskd.errors import UserError, nearest
from proxylesskd.losses.engines.chunked import Chunked
from proxylesskd.losses.engines.engine import Engine
from proxylesskd.losses.engines.reference import Reference
from proxylesskd.losses.rows import Rows

NAMES = ("auto", "reference", "chunked", "triton")
DENSE_LIMIT = 1 << 22  # below this many logits one dense product is as fast as the chunks


def engine_for(name: str, unit: Tensor, rows: Rows) -> Engine:
    """Return the engine called ``name``.

    Args:
        name: one of :data:`NAMES`; see :func:`automatic` for ``"auto"``.
        unit: ``[B, D]`` embeddings.
        rows: ``[C, D]``.

    Raises:
        UserError: no engine has that name, or it cannot run here.
    """
    if name == "auto":
        name = automatic(unit.shape[0], rows.shape[0], rows.device.type, trained=rows.requires_grad)
    if name == "reference":
        return Reference()
    if name == "chunked":
        return Chunked()
    if name == "triton":
        from proxylesskd.losses.engines.triton import Triton

        return Triton()
    raise UserError(f"expected one of the engines {', '.join(NAMES)}, found '{name}'{nearest(name, NAMES)}")


def automatic(batch: int, count: int, device: str, *, trained: bool = False) -> str:
    """Return the name of the engine that ``"auto"`` takes.

    Rows that are trained, and few logits, go through plain PyTorch; on CUDA the others go through Triton where it is
    installed, and through chunks everywhere else.
    """
    if trained or batch * count <= DENSE_LIMIT:
        return "reference"
    return "triton" if device == "cuda" and _has_triton() else "chunked"


def _has_triton() -> bool:
    from importlib.util import find_spec

    return find_spec("triton") is not None
