"""Which matrix of a foreign file is the last layer: by its name, else by being alone, else by its number of rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from proxylesskd.classifier.head import Matrix, NoHeadError, listed
from proxylesskd.errors import UserError, nearest

# Wrappers and containers in front of a name, which say nothing about the layer.
_AROUND = ("module", "_orig_mod", "state_dict", "model_state_dict", "model", "net", "network")
# Other people's names for the last layer; `kernel` stands transposed, [D, C].
_NAMES = (
    *("", "weight", "kernel", "rows", "center", "centers", "centres", "head.kernel", "fc.kernel", "classifier.kernel"),
    *("classifier.rows", "partial_fc.weight", "softmax_fc.weight", "margin.weight", "arcface.weight"),
    *("metric_fc.weight", "margin_fc.weight"),
)
# Names that backbones also have, for the layer that makes the embedding: beside other layers the size must tell.
_SHARED_NAMES = ("head.weight", "classifier.weight", "fc.weight", "linear.weight", "logits.weight", "output.weight")
_WIDEST_EMBEDDING = 2048
_MOST_PADDING = 64
_SOFTMAX = re.compile(r"\w*state_dict_softmax_fc")
_NEVER = re.compile(r"state_dict_backbone|backbone|\w*optim\w*|opt|\w*scheduler\w*|\w*momentum|\w*_mom|exp_avg\w*")


def choose(
    matrices: Sequence[Matrix],
    *,
    key: str | None = None,
    count: int | None = None,
    dim: int | None = None,
    alone: bool = False,
) -> Matrix:
    """Return the one matrix that is the last layer: the named one, else by its name, else by its number of rows.

    Args:
        matrices: what a file holds.
        key: the name or, where only one name ends so, the end of it.
        count: C where known.
        dim: D where known.
        alone: whether the file holds nothing but matrices, vectors and numbers: a single matrix is then the last layer,
            whatever it is called.

    Raises:
        NoHeadError: nothing can be the last layer.
        UserError: several can be, or nothing has the name ``key``.
    """
    if key is not None:
        return _called(matrices, key)
    possible = usable(matrices)
    sole = possible if alone and len(possible) == 1 else []
    fitting = [m for m in possible if count is not None and _reads(m, count, dim)]
    for candidates in (_named(possible, count, dim), sole, fitting):
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            raise UserError(
                f"expected one last layer, found several that fit: {listed(candidates)}; name one with --key"
            )
    wanted = "a last layer" if count is None else f"a last layer with {count} rows"
    raise NoHeadError(
        f"expected {wanted}, found none among {listed(matrices)}; name it with --key, or estimate the rows"
    )


def usable(matrices: Iterable[Matrix]) -> list[Matrix]:
    """Return the matrices that are not a backbone's or an optimiser's, by their names."""
    return [m for m in matrices if not any(_NEVER.fullmatch(part) for part in m.key.split("."))]


def is_softmax(key: str) -> bool:
    """Say whether a tensor is the last layer in a checkpoint of InsightFace."""
    return key.endswith("weight") and any(_SOFTMAX.fullmatch(part) for part in key.split("."))


def _called(matrices: Sequence[Matrix], key: str) -> Matrix:
    found = [m for m in matrices if m.key == key] or [m for m in matrices if f".{m.key}".endswith(f".{key}")]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"expected one matrix '{key}', found several: {listed(found)}; give more of its name")
    hint = nearest(key, [m.key for m in matrices])
    raise UserError(f"expected a matrix '{key}', found {listed(matrices)}{hint}")


def _named(matrices: Sequence[Matrix], count: int | None, dim: int | None) -> list[Matrix]:
    """Return the matrices with a usual name; of several, those with the right number of rows."""
    own = [m for m in matrices if _plain_name(m.key) in _NAMES or is_softmax(m.key)]
    shared = [m for m in matrices if _plain_name(m.key) in _SHARED_NAMES and _makes_no_embedding(m, count, dim)]
    named = own + shared
    fitting = [m for m in named if count is not None and _reads(m, count, None)]
    return fitting if len(named) > 1 and fitting else named


def _makes_no_embedding(matrix: Matrix, count: int | None, dim: int | None) -> bool:
    rows, width = matrix.values.shape
    if width >= rows:
        return rows == count
    by_count = count is not None and 0 <= rows - count < _MOST_PADDING
    return by_count or width == dim or rows > _WIDEST_EMBEDDING


def _reads(matrix: Matrix, count: int, dim: int | None) -> bool:
    """Say whether a matrix has ``count`` rows of ``dim`` numbers, the way round that its name says."""
    shape = tuple(matrix.values.shape)
    readings = {False: [shape], True: [shape[::-1]], None: [shape, shape[::-1]]}[matrix.transposed]
    return any(rows == count and dim in (None, width) for rows, width in readings)


def _plain_name(key: str) -> str:
    parts = key.split(".")
    while len(parts) > 1 and parts[0] in _AROUND:
        parts = parts[1:]
    return ".".join(parts)
