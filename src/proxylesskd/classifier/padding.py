"""Rows at the end of a last layer that stand for no identity.

Frameworks that round the number of rows up to a multiple of the number of GPUs leave them: zeros, copies of the last
centres, or rows that were never trained.
"""

from __future__ import annotations

import torch
from torch import Tensor

from proxylesskd.errors import UserError

_INIT_STD = 0.01  # the standard deviation that rows start from in InsightFace, CVLface and TFace
_WINDOW = 1024  # how far above the end the original of a copied row may stand
_MOST_UNTRAINED = 64  # GPUs of a training whose number the files do not say


def without_padding(rows: Tensor, count: int | None, shards: int = 1) -> tuple[Tensor, str | None]:
    """Take the padding off the end of a last layer.

    Args:
        rows: ``[n, D] float32``.
        count: the number of identities C, where known.
        shards: how many files the rows come from; with more than one, fewer rows than that can be untrained padding.

    Returns:
        ``[C, D]``, a view, and what was removed, in words.

    Raises:
        UserError: C is known and the other rows are no padding or too few are left; or C is unknown and the rows end
            in what looks like padding.
    """
    if count is None:
        _refuse_padding(rows)
        return rows, None
    surplus = len(rows) - count
    if surplus == 0:
        return rows, None
    what = _what_pads(rows, surplus, shards) if surplus > 0 else None
    if what is None:
        raise _mismatch(len(rows), count)
    return rows[:count], f"{surplus} rows of padding at the end were removed: {what}"


def repeated_tail(rows: Tensor) -> int:
    """Return how many rows at the end are zero or exact copies of rows above them; trained rows never are."""
    tail = rows[-_WINDOW:]
    seen: dict[bytes, int] = {}
    empty_or_copied = [not bool(row.any()) or seen.setdefault(_bits(row), i) < i for i, row in enumerate(tail)]
    return next((i for i, idle in enumerate(reversed(empty_or_copied)) if not idle), len(tail))


def _refuse_padding(rows: Tensor) -> None:
    padding = repeated_tail(rows)
    if padding:
        raise UserError(
            f"expected {len(rows)} rows of which each stands for an identity, found the last {padding} of them zero or "
            "copies of others, as padding is; give --data or --count with the number of identities"
        )


def _what_pads(rows: Tensor, surplus: int, shards: int) -> str | None:
    # Zeros and copies need no limit: they cannot be identities.
    if repeated_tail(rows) >= surplus:
        return "zeros or copies of other rows"
    most = shards if shards > 1 else _MOST_UNTRAINED
    return "never trained, by their norms" if surplus < most and _untrained(rows, surplus) else None


def _untrained(rows: Tensor, surplus: int) -> bool:
    """Say whether the last rows have the norms of fresh ones, ``0.01 sqrt(D)``, and no other row is near that."""
    norms = torch.linalg.vector_norm(rows, dim=1)  # [n]
    fresh = _INIT_STD * rows.shape[1] ** 0.5
    # The norm of D normal numbers scatters by 1 / sqrt(2 D) of itself.
    scatter = 5 / (2 * rows.shape[1]) ** 0.5
    last, others = norms[-surplus:], norms[:-surplus]
    as_fresh = bool(((last / fresh - 1).abs() < scatter).all())
    return as_fresh and bool((others > 2 * fresh).all() | (others < fresh / 2).all())


def _mismatch(rows: int, count: int) -> UserError:
    why = "a shard is missing" if rows < count else "its last rows are no padding that can be recognised"
    return UserError(
        f"expected one row for each of {count:,} identities, found {rows:,} rows; either {why}, or the layer was "
        "trained on another data set or version of it: give the data it was trained on, or estimate the rows"
    )


def _bits(row: Tensor) -> bytes:
    return row.contiguous().numpy().tobytes()
