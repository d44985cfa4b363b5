"""Last layers that a training left in one file per GPU, and the names that frameworks give these files.

==================  ============================================  ====================================================
framework           files                                         content
==================  ============================================  ====================================================
InsightFace         ``checkpoint_gpu_0.pt`` …                     ``state_dict_softmax_fc``: ``weight [n, D]``
InsightFace         ``softmax_fc_gpu_0.pt`` …                     ``weight [n, D]``
InsightFace, older  ``rank_0_softmax_weight.pt`` …                ``[n, D]``
CVLface             ``classifier_rank0.pt`` …                     ``partial_fc.weight [n, D]``
TFace               ``HEAD_Epoch_5_Split_0_checkpoint.pth`` …     per branch ``kernel [D, n]`` or ``weight [n, D]``
==================  ============================================  ====================================================

Ranks hold consecutive rows; of C rows on W GPUs the first C mod W ranks hold one more than the others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from proxylesskd.classifier.choose_head import choose, is_softmax
from proxylesskd.classifier.head import Found, Matrix, listed, matrices_in, shown_key, tensors_in
from proxylesskd.errors import UserError
from proxylesskd.models.checkpoint import read_content

_FAMILIES = (
    ("InsightFace checkpoint", r"checkpoint_gpu_(?P<rank>\d+)\.pt"),
    ("InsightFace PartialFC", r"softmax_fc_gpu_(?P<rank>\d+)\.pt"),
    ("InsightFace PartialFC (older)", r"rank_(?P<rank>\d+)_softmax_weight\.pt"),
    ("CVLface PartialFC", r"classifier_rank_?(?P<rank>\d+)\.(pt|pth|safetensors)"),
    ("TFace head", r"HEAD_Epoch_(?P<epoch>\d+)_Split_(?P<rank>\d+)_checkpoint\.pth"),
    ("TFace head", r"HEAD_Epoch_(?P<epoch>\d+)_checkpoint\.pth"),
)
# Whole last layers, which can be found in a folder by their names and are read like any other file.
_WHOLE = re.compile(r"classifier\.(pt|pth|safetensors)|center\.pth")
_MOMENTUM = re.compile(r"rank_\d+_softmax_weight_mom\.pt")


@dataclass(frozen=True)
class ShardSet:
    """The files of one last layer.

    Attributes:
        kind: the framework that names its files so.
        files: in the order of their rows.
    """

    kind: str
    files: list[Path]

    @property
    def shown(self) -> str:
        """The set in a few words, for messages."""
        first = self.files[0].name
        return first if len(self.files) == 1 else f"{first} … ({len(self.files)} files)"


def shard_sets(folder: Path) -> list[ShardSet]:
    """Return the last layers in a folder that are recognised by the names of their files, all of them complete.

    Raises:
        UserError: a rank is missing from one, or stands in two files.
    """
    found: dict[tuple[int, str], list[Path]] = {}
    for file in sorted(folder.iterdir()):
        group = _group(file)
        if group is not None and file.is_file():
            found.setdefault(group, []).append(file)
    sets = [ShardSet(_FAMILIES[number][0], _in_order(files)) for (number, _), files in found.items()]
    return sets + [ShardSet("", [file]) for file in sorted(folder.iterdir()) if _WHOLE.fullmatch(file.name)]


def set_of(file: Path) -> ShardSet | None:
    """Return the last layer that a file is a shard of, its siblings included, or None if its name says nothing.

    Raises:
        UserError: it is the momentum of an optimiser, or a sibling is missing.
    """
    if _MOMENTUM.fullmatch(file.name):
        raise UserError(
            f"expected a last layer, found its momentum in the optimiser: '{file.name}'; give '"
            f"{file.name.replace('_mom', '')}'"
        )
    group = _group(file)
    if group is None:
        return None
    siblings = sorted(other for other in file.parent.iterdir() if other.is_file() and _group(other) == group)
    return ShardSet(_FAMILIES[group[0]][0], _in_order(siblings))


def read_shards(group: ShardSet, key: str | None, count: int | None) -> Found:
    """Read the matrices of a set, one per file.

    Args:
        group: from :func:`set_of` or :func:`shard_sets`.
        key: name of the tensor in every file, where a file holds several.
        count: C, where known.

    Raises:
        UserError: a file is damaged, carries code, or holds several matrices that could be meant.
    """
    matrices = [_shard(file, key, count if len(group.files) == 1 else None) for file in group.files]
    for matrix, file in zip(matrices, group.files, strict=True):
        if matrix.key != matrices[0].key:
            raise UserError(
                f"expected '{shown_key(matrices[0].key)}' in every shard, found '{shown_key(matrix.key)}' in "
                f"'{file.name}'; name one with --key"
            )
    return Found(group.kind, matrices, [file.name for file in group.files])


def check_shards(parts: Sequence[tuple[Matrix, bool]], files: Sequence[str]) -> list[str]:
    """Check that shards belong together.

    Args:
        parts: one matrix per file, each with whether it stands ``[D, n]``.
        files: names of the files.

    Returns:
        Notes for the user, where the shards are split in an unusual way.

    Raises:
        UserError: they differ in dimension, or one is a copy of another.
    """
    sizes = [_size(*part) for part in parts]
    for (_, dim), file in zip(sizes, files, strict=True):
        if dim != sizes[0][1]:
            raise UserError(
                f"expected shards of one dimension, found {sizes[0][1]} in '{files[0]}' and {dim} in '{file}'; "
                "they come from different trainings"
            )
    for (first, _), (second, _), (before, after) in zip(parts, parts[1:], pairwise(files), strict=False):
        if _same(first.values, second.values):
            raise UserError(
                f"expected shards that differ, found the same rows in '{before}' and '{after}'; copy both again"
            )
    rows = [count for count, _ in sizes]
    if rows == even_split(sum(rows), len(rows)):
        return []
    return [f"shards of {_sum(rows)} rows are not the even split of one training: is one cut short or missing?"]


def even_split(count: int, world: int) -> list[int]:
    """Return how many of ``count`` rows each of ``world`` ranks holds."""
    return [count // world + (rank < count % world) for rank in range(world)]


def describe_split(parts: Sequence[tuple[Matrix, bool]]) -> str:
    """Say in a few words how many shards there are and of which size, such as ``3 shards, 31+31+30 rows``."""
    rows = [_size(*part)[0] for part in parts]
    return f"{rows[0]} rows" if len(rows) == 1 else f"{len(rows)} shards, {_sum(rows)} rows"


def _shard(file: Path, key: str | None, count: int | None) -> Matrix:
    """Return the last layer's matrix of one file; known by its name to hold nothing but that and a network's state."""
    matrices = matrices_in(tensors_in(read_content(file)))
    if key is None and "checkpoint_gpu" in file.name:
        matrices = [matrix for matrix in matrices if is_softmax(matrix.key)]
    if key is None and len(matrices) > 1 and count is None:
        named = [matrix for matrix in matrices if matrix.key == "partial_fc.weight"]
        if len(named) != 1:
            raise UserError(
                f"expected one last layer in '{file.name}', found several: {listed(matrices)}; name one with --key"
            )
        matrices = named
    try:
        matrix = choose(matrices, key=key, count=count, alone=True)
    except UserError as error:
        raise type(error)(f"'{file.name}': {error}") from error
    # Under a name of its own, such as that of a branch, a shard stands as PartialFC keeps it.
    return replace(matrix, transposed=bool(matrix.transposed))


def _size(matrix: Matrix, transposed: bool) -> tuple[int, int]:
    height, width = matrix.values.shape
    return (width, height) if transposed else (height, width)


def _same(first: Tensor, second: Tensor) -> bool:
    # The first row tells different shards apart, so that the rest of them is not read.
    if first.shape != second.shape or not torch.equal(first[0], second[0]):
        return False
    return bool(first.any()) and torch.equal(first, second)


def _sum(rows: Sequence[int]) -> str:
    return "+".join(map(str, rows)) if len(rows) <= 8 else "+".join(map(str, rows[:3])) + f"+…+{rows[-1]}"


def _named(file: Path) -> tuple[int, re.Match[str]] | None:
    """Return the family that a file's name belongs to, and the parts of the name."""
    matches = ((number, re.fullmatch(pattern, file.name)) for number, (_, pattern) in enumerate(_FAMILIES))
    return next(((number, match) for number, match in matches if match is not None), None)


def _group(file: Path) -> tuple[int, str] | None:
    """Return the family that a file's name belongs to and its epoch."""
    named = _named(file)
    return None if named is None else (named[0], named[1].groupdict().get("epoch", ""))


def _rank(file: Path) -> int:
    named = _named(file)
    return 0 if named is None else int(named[1].groupdict().get("rank", 0))


def _in_order(files: Sequence[Path]) -> list[Path]:
    """Sort by rank as a number, 10 after 9, and refuse a missing or doubled one."""
    ordered = sorted(files, key=_rank)
    for expected, file in enumerate(ordered):
        if _rank(file) > expected:
            raise UserError(
                f"expected the shards of ranks 0 to {_rank(ordered[-1])} in '{file.parent}', found no "
                f"'{_sibling(file, expected)}'; copy it from the training's folder"
            )
        if _rank(file) < expected:
            raise UserError(
                f"expected one shard of each rank, found '{ordered[expected - 1].name}' and '{file.name}'; "
                "move one of them away"
            )
    return ordered


def _sibling(file: Path, rank: int) -> str:
    named = _named(file)
    assert named is not None
    start, end = named[1].span("rank")
    return f"{file.name[:start]}{rank}{file.name[end:]}"
