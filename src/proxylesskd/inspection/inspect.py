"""Inspect a source: what a person must know of it before a day of training is spent on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from proxylesskd.data.source import Source
from proxylesskd.data.subset import Subset, spaced
from proxylesskd.errors import UserError
from proxylesskd.inspection.alignment import Alignment, judge_alignment
from proxylesskd.inspection.colours import Colours, judge_colours
from proxylesskd.inspection.duplicates import Twins, equal_twins, near_twins
from proxylesskd.inspection.look import Look, look
from proxylesskd.models.embedder import Embedder

THRESHOLD = 0.9
FEW = 2  # images an identity, below which it teaches nothing about what its images have in common


@dataclass(frozen=True)
class Inspection:
    """Summary of a source.

    Attributes:
        images: number of images.
        identities: number of identities.
        per_identity: smallest, median and largest number of images of an identity.
        histogram: number of images of an identity -> number of identities that have so many.
        read: how many images were read, evenly spaced over the source.
        corrupt: index of a corrupt image among those read -> its name and what is wrong with it.
        sizes: (height, width) in pixels -> how many of the read images have it, most frequent first.
        mean_face: ``[3, 112, 112] uint8``, mean of the read images; well aligned faces show eyes, nose and mouth.
        colours: in which order they stand.
        alignment: to the ArcFace template, or not.
        twins: the same picture under two identities: equal bytes first, then near ones if a teacher was asked.
        near: how many near pairs there are, None without a teacher; the 1,000 nearest stand in ``twins``.
        threshold: cosine from which a pair is near.
        names: index -> name of each image in ``twins``.
    """

    images: int
    identities: int
    per_identity: tuple[int, float, int]
    histogram: dict[int, int]
    read: int
    corrupt: dict[int, str]
    sizes: dict[tuple[int, int], int]
    mean_face: npt.NDArray[np.uint8]
    colours: Colours
    alignment: Alignment
    twins: tuple[Twins, ...] = ()
    near: int | None = None
    threshold: float = THRESHOLD
    names: dict[int, str] | None = None

    @property
    def equal(self) -> int:
        """How many images have the bytes of an image of another identity."""
        return sum(one.cosine is None for one in self.twins)

    def lines(self) -> list[tuple[str, str]]:
        """Return what was found as (name, text)."""
        low, median, high = self.per_identity
        sizes = ", ".join(f"{w}x{h} ({count:,})" for (h, w), count in list(self.sizes.items())[:3])
        few = sum(count for images, count in self.histogram.items() if images < FEW)
        told = [
            ("images", f"{self.images:,} of {self.identities:,} identities"),
            ("per identity", f"{low} to {high}, median {median:g}" + (f"; {few:,} with fewer than two" if few else "")),
            ("read", f"{self.read:,} of them, evenly spaced" if self.read < self.images else "all of them"),
            ("corrupt", f"{len(self.corrupt):,}"),
            ("pixels", sizes + (f" and {len(self.sizes) - 3:,} more" if len(self.sizes) > 3 else "")),
            ("colours", str(self.colours)),
            ("alignment", str(self.alignment)),
            ("equal", f"{self.equal:,} images have the bytes of one of another identity"),
        ]
        near = f"{self.near or 0:,} pairs of two identities reach a cosine of {self.threshold:g}"
        return told if self.near is None else [*told, ("near", near)]

    def __str__(self) -> str:
        """Return the summary as lines of text."""
        return "\n".join([f"{name:13s} {text}" for name, text in self.lines()] + [*list(self.corrupt.values())[:5]])

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for ``inspection.json``."""
        names = self.names or {}
        return {
            "images": self.images,
            "identities": self.identities,
            "per_identity": list(self.per_identity),
            "histogram": {str(images): count for images, count in self.histogram.items()},
            "read": self.read,
            "corrupt": list(self.corrupt.values()),
            "sizes": [{"height": h, "width": w, "images": count} for (h, w), count in self.sizes.items()],
            "colours": self.colours.to_dict(),
            "alignment": self.alignment.to_dict(),
            "near": None if self.near is None else {"pairs": self.near, "threshold": self.threshold},
            "twins": [asdict(one) | {"names": [names.get(one.first), names.get(one.second)]} for one in self.twins],
        }


def inspect_source(
    source: Source,
    *,
    sample: int | None = 5000,
    teacher: Embedder | None = None,
    threshold: float = THRESHOLD,
    progress: Callable[[int, int], None] | None = None,
) -> Inspection:
    """Count what is in a source and read a part of it.

    Args:
        source: labelled faces.
        sample: how many images to read, evenly spaced; None reads all. Labels are counted over all images.
        teacher: finds near duplicates across identities among the images that are read; None for equal bytes alone.
        threshold: cosine in (0, 1] from which two images are near: crops, mirrored or compressed copies of one photo.
        progress: called with (images read, images to read).

    Raises:
        UserError: not one of the images read is whole, or the threshold is out of range.
    """
    if sample is not None and sample < 1:
        raise UserError(f"expected to read at least one image, found a sample of {sample}")
    seen = look(source, spaced(len(source), sample), progress)
    if len(seen.corrupt) == seen.read:
        raise UserError(
            f"expected whole images, found {seen.read} corrupt, first {next(iter(seen.corrupt.values()), '-')}"
        )
    near, total = ([], None) if teacher is None else _near(source, seen.digests, teacher, threshold)
    return _summary(source, seen, [*equal_twins(seen.digests, source.labels), *near], total, threshold)


def _near(source: Source, digests: Mapping[int, bytes], teacher: Embedder, threshold: float) -> tuple[list[Twins], int]:
    from proxylesskd.classifier.embed_source import embed_source

    whole = list(digests)
    said = embed_source(teacher, Subset(source, np.array(whole, dtype=np.int64)), batch=min(128, len(whole)))
    mean = np.asarray(said.views, dtype=np.float32).sum(axis=1)  # [n, D], of the picture and its mirror image
    mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
    found, total = near_twins(mean, whole, source.labels[np.array(whole)], threshold)
    near = [one for one in found if digests[one.first] != digests[one.second]]  # equal ones are told already
    return near, total - (len(found) - len(near))


def _summary(source: Source, seen: Look, twins: Sequence[Twins], near: int | None, threshold: float) -> Inspection:
    counts = np.bincount(source.labels, minlength=len(source.identities))
    return Inspection(
        images=len(source),
        identities=len(source.identities),
        per_identity=(int(counts.min()), float(np.median(counts)), int(counts.max())),
        histogram=dict(sorted(Counter(counts.tolist()).items())),
        read=seen.read,
        corrupt=seen.corrupt,
        sizes=dict(seen.sizes.most_common()),
        mean_face=seen.mean_face,
        colours=judge_colours(np.array(seen.redder), np.array(seen.grey, dtype=bool)),
        alignment=judge_alignment(np.stack(seen.faces)),
        twins=tuple(twins),
        near=near,
        threshold=threshold,
        names={index: source.name(index) for one in twins for index in (one.first, one.second)},
    )
