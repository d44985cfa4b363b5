"""The faces behind a suspicion, small and inline, beside the faces that they are compared with."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from proxylesskd.audit.suspects import Inconsistent, Merged, Mislabelled, Split, Suspects
from proxylesskd.data.decode import decode, encode_jpeg
from proxylesskd.data.source import Source
from proxylesskd.errors import CorruptImageError, UserError

SIZE, QUALITY = 96, 80
EXAMPLES, MOST = 3, 6
UNREADABLE = "cannot be read"


@dataclass(frozen=True)
class Face:
    """One image.

    Attributes:
        name: what the source calls it.
        picture: JPEG as a data URI, empty where there is none.
        gap: what stands in the place of a missing picture.
    """

    name: str
    picture: str = ""
    gap: str = ""


@dataclass(frozen=True)
class Group:
    """Some images under a heading.

    Attributes:
        kind: what they are here.
        name: of the image or identity.
        detail: the number that speaks for or against them.
        faces: the images; none without a source.
    """

    kind: str
    name: str
    detail: str
    faces: Sequence[Face]


class Album:
    """Reads the images that a page shows.

    Args:
        source: the faces that were judged; None shows names and numbers alone.
        suspects: what was found; an identity is shown by images that are not suspected, where it has such.

    Raises:
        UserError: the suspects are not of this source.
    """

    def __init__(self, source: Source | None, suspects: Suspects) -> None:
        self.source = source
        self.doubted = np.array(sorted({one.image for one in suspects.mislabelled}), np.int64)
        # Worked out once: a source may make its labels anew at every look.
        self.labels = np.zeros(0, np.int64) if source is None else source.labels
        self.numbers = {} if source is None else {name: label for label, name in enumerate(source.identities)}
        last = max([-1, *self.doubted.tolist(), *(image for one in suspects.inconsistent for image in one.images)])
        if source is not None and last >= len(source):
            raise UserError(
                f"expected the source that was judged, found {len(source)} images and a suspected image number {last}; "
                "give the source that was embedded"
            )

    def name(self, image: int) -> str:
        """Return what the source calls an image."""
        return f"image {image}" if self.source is None else self.source.name(image)

    def faces(self, images: Iterable[int]) -> list[Face]:
        """Return the images at these positions; none without a source."""
        return [] if self.source is None else [picture_of(self.source, image) for image in images]

    def identity(self, name: str, but: int = -1) -> list[Face]:
        """Return three images of an identity besides the image ``but``, first those that are not suspected."""
        images = np.flatnonzero(self.labels == self.numbers.get(name, -1))
        images = images[images != but]
        images = images[np.argsort(np.isin(images, self.doubted), kind="stable")]
        return self.faces(images[:EXAMPLES].tolist())

    def mislabelled(self, one: Mislabelled) -> list[Group]:
        """Show an image, the identity of its label and the nearest other one."""
        nearest = "Looks like" if one.belongs else "Nearest other, but not like it"
        own = self.identity(one.identity, but=one.image)
        return [
            Group("Image", self.name(one.image), "", self.faces([one.image])),
            Group("Labelled", one.identity, f"cosine {one.own:.2f}", own),
            Group(nearest, one.other, f"cosine {one.similarity:.2f}", self.identity(one.other)),
        ]

    def merged(self, one: Merged) -> list[Group]:
        """Show the two groups of an identity."""
        between = f"cosine {one.similarity:.2f} between the groups"
        return [
            Group("Larger group", one.identity, f"{one.sizes[0]} images, {between}", self.faces(one.first[:MOST])),
            Group("Smaller group", one.identity, f"{one.sizes[1]} images", self.faces(one.second[:MOST])),
        ]

    def split(self, one: Split) -> list[Group]:
        """Show two identities side by side."""
        usual = f"cosine {one.similarity:.2f}; nine in ten parts of one identity reach {one.level:.2f}"
        return [
            Group("One identity", one.first, usual, self.identity(one.first)),
            Group("The other", one.second, "", self.identity(one.second)),
        ]

    def inconsistent(self, one: Inconsistent) -> list[Group]:
        """Show images that disagree."""
        count = f"{len(one.images)} image" + ("s" if len(one.images) > 1 else "")
        detail = f"{count}, mean cosine {one.similarity:.2f} to the others"
        return [Group("Identity", one.identity, detail, self.faces(one.images[:MOST]))]


def picture_of(source: Source, image: int) -> Face:
    """Return an image as a small picture, or a gap that says that it cannot be read."""
    name = source.name(image)
    try:
        jpeg = encode_jpeg(decode(source.read(image)[0], SIZE), QUALITY)
    except CorruptImageError:
        return Face(name, gap=UNREADABLE)
    return Face(name, "data:image/jpeg;base64," + base64.b64encode(jpeg).decode())
