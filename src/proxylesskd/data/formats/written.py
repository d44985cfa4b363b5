"""What a writer of any format wrote."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Written:
    """What became of the images of a source.

    Attributes:
        images: how many were written.
        skipped: index of an image in the source that could not be read and was left out -> its name and why.
    """

    images: int
    skipped: dict[int, str] = field(default_factory=dict)
