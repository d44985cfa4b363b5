"""Several sources as one, each image as often as the weight of its source says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from proxylesskd.data.sampler import permutation
from proxylesskd.data.source import Source
from proxylesskd.errors import UserError, nearest

Ints = npt.NDArray[np.int64]
NAMESPACED, BY_NAME = "namespaced", "by-name"
# Of an epoch: 2 GiB of labels.
MAX_IMAGES = 1 << 28


def repeated(count: int, weight: float, seed: int = 0) -> Ints:
    """Return which images of a source come once more than the others, if its weight is no whole number.

    A weight w shows each of n images floor(w) times, and round((w - floor(w)) n) of them once more: the first of an
    order that depends on the seed alone, and is the same in every epoch.

    Args:
        count: n.
        weight: w > 0.
        seed: of the order.

    Returns:
        ``[K] int64``, ascending.
    """
    extra = round((weight - math.floor(weight)) * count)
    return np.sort(permutation(count, seed, 0)[:extra]) if extra else np.zeros(0, np.int64)


@dataclass(frozen=True)
class _Part:
    """One source: its images stand ``whole`` times at the places from ``start`` on, then come ``extra``."""

    source: Source
    start: int
    whole: int
    extra: Ints

    def __len__(self) -> int:
        return self.whole * len(self.source) + len(self.extra)

    def found(self, place: int) -> tuple[int, int]:
        """Return the index in the source of what stands at ``place``, and which copy of it that is, from 0 on."""
        copy, index = divmod(place - self.start, len(self.source))
        return (index, copy) if copy < self.whole else (int(self.extra[index]), self.whole)

    def labels(self) -> Ints:
        return np.concatenate([np.tile(self.source.labels, self.whole), self.source.labels[self.extra]])


def _part(source: Source, start: int, weight: float, seed: int) -> _Part:
    if not (math.isfinite(weight) and weight > 0):
        raise UserError(f"expected weights above 0, found {weight}; leave a source out instead")
    if start + weight * len(source) > MAX_IMAGES:
        raise UserError(f"expected at most {MAX_IMAGES} images an epoch, found more by the weight {weight}")
    part = _Part(source, start, math.floor(weight), repeated(len(source), weight, seed))
    if not len(part):
        raise UserError(f"expected an image of each source, found none of {len(source)} by the weight {weight}")
    return part


def _only_numbers(names: Sequence[str]) -> bool:
    return all(name.isdecimal() for name in names)


def _check_numbers(sources: Sequence[Source]) -> None:
    numbered = [place for place, source in enumerate(sources, start=1) if _only_numbers(source.identities)]
    if len(numbered) > 1:
        raise UserError(
            f"expected names to merge identities by, found numbers alone in sources {numbered[0]} and {numbered[1]}, "
            "where the same number means another person; join them namespaced, or set numbers_are_names if it does not"
        )


def _namespaced(sources: Sequence[Source], names: Sequence[str]) -> tuple[list[str], list[Ints]]:
    pairs = zip(names, sources, strict=True)
    identities = [f"{name}/{identity}" for name, source in pairs for identity in source.identities]
    starts = np.cumsum([0, *(len(source.identities) for source in sources)])
    return identities, [np.arange(a, b, dtype=np.int64) for a, b in pairwise(starts.tolist())]


def _by_name(sources: Sequence[Source]) -> tuple[list[str], list[Ints]]:
    number: dict[str, int] = {}
    maps = []
    for source in sources:
        new = [number.setdefault(name, len(number)) for name in source.identities]
        maps.append(np.array(new, np.int64))
    return list(number), maps


class JoinedSource:
    """Several sources behind each other.

    Args:
        sources: at least one.
        weights: how often the images of each come in an epoch; 1 if not given. See :func:`repeated` for fractions.
        names: one per source, for namespaces; their numbers from 1 on if not given.
        identities: ``"namespaced"``: an identity of each source is somebody else, ``NAME/identity``; ``"by-name"``:
            the same name in two sources is the same person, in the order in which names appear.
        numbers_are_names: allow to merge by name where several sources name identities by numbers alone.
        seed: of the images that a fraction of a weight chooses.

    Attributes:
        identities: names.
        labels: ``[N] int64``, read-only; an image that comes several times counts as often.

    Raises:
        UserError: no sources, another number of weights or names, a weight that is not positive or shows nothing, two
            equal names, numbers merged by name.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        weights: Sequence[float] | None = None,
        names: Sequence[str] | None = None,
        identities: str = NAMESPACED,
        *,
        numbers_are_names: bool = False,
        seed: int = 0,
    ) -> None:
        weights = [1.0] * len(sources) if weights is None else weights
        names = [str(place + 1) for place in range(len(sources))] if names is None else names
        _check(sources, weights, names, identities)
        if identities == BY_NAME and not numbers_are_names:
            _check_numbers(sources)
        self._parts: list[_Part] = []
        for source, weight in zip(sources, weights, strict=True):
            self._parts.append(_part(source, self._end(), weight, seed))
        self.identities, self._maps = _by_name(sources) if identities == BY_NAME else _namespaced(sources, names)
        mapped = [where[part.labels()] for where, part in zip(self._maps, self._parts, strict=True)]
        self.labels: Ints = np.concatenate(mapped)
        self.labels.flags.writeable = False
        self._names = names
        self._starts = np.array([part.start for part in self._parts])

    def _end(self) -> int:
        return self._parts[-1].start + len(self._parts[-1]) if self._parts else 0

    def __len__(self) -> int:
        """Return the number of images of an epoch."""
        return len(self.labels)

    def _part_of(self, index: int) -> int:
        return int(np.searchsorted(self._starts, index, side="right")) - 1

    def read(self, index: int) -> tuple[bytes, int]:
        """Return the encoded bytes and the label of image ``index``; raises what its source raises."""
        part = self._part_of(index)
        data, label = self._parts[part].source.read(self._parts[part].found(index)[0])
        return data, int(self._maps[part][label])

    def name(self, index: int) -> str:
        """Return ``NAME/`` and what its source calls the image; ``#2`` and so on behind it for further copies."""
        part = self._part_of(index)
        inner, copy = self._parts[part].found(index)
        return f"{self._names[part]}/{self._parts[part].source.name(inner)}" + (f"#{copy + 1}" if copy else "")


def _check(sources: Sequence[Source], weights: Sequence[float], names: Sequence[str], identities: str) -> None:
    if not sources or len(weights) != len(sources) or len(names) != len(sources):
        raise UserError(
            f"expected a weight and a name for each of at least one source, found {len(sources)} sources, "
            f"{len(weights)} weights, {len(names)} names"
        )
    if identities not in (NAMESPACED, BY_NAME):
        hint = nearest(str(identities), (NAMESPACED, BY_NAME))
        raise UserError(f"expected identities {NAMESPACED} or {BY_NAME}, found '{identities}'{hint}")
    if len(set(names)) != len(names) or not all(names):
        raise UserError(
            f"expected a name of its own for each source, found {', '.join(names)[:200]}; give names in a file: "
            "join:FILE.toml"
        )
