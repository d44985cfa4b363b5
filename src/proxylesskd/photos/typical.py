"""Where a face typically is: for the few photos of an evaluation set in which none was found.

A protocol compares all of its images; those without a found face are not left out, for that would make it easier, but
cut where the faces of the others are. That holds for sets whose photos are all framed by one rule, as most are.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from proxylesskd.photos.landmarks import Found
from proxylesskd.photos.transform import Points

LEAST = 20
# Median distance of the faces' middles from where they typically are, in widths and heights of the photo.
MOST_SPREAD = 0.1


def typical_place(found: Iterable[Found]) -> Points | None:
    """Return the median landmarks ``[5, 2]`` in shares of the photo's width and height.

    Only faces that were detected or given count.

    Returns:
        None where there are fewer than 20, or where they are not framed alike: half of the middles (means of the five
        points) lie further than 0.1 from the typical one, in either direction.
    """
    seen = [f.landmarks / (f.size[1], f.size[0]) for f in found if f.how != "typical"]
    if len(seen) < LEAST:
        return None
    shares = np.stack(seen)  # [N, 5, 2]
    place: Points = np.median(shares, axis=0)
    away = np.abs(shares.mean(1) - place.mean(0))  # [N, 2]
    return place if float(np.median(away, axis=0).max()) <= MOST_SPREAD else None
