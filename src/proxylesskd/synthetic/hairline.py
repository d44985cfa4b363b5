"""Where hair grows on the neutral head: scalp, beard and brows, as soft functions of a place on it."""

from __future__ import annotations

import numpy as np

from proxylesskd.synthetic.arrays import Floats
from proxylesskd.synthetic.atlas import AXIS

# Height of the hairline at an angle from straight ahead: forehead, temple, sideburn, over the ear, nape.
ANGLES = np.array([0.0, 0.45, 0.75, 0.95, 1.12, 1.32, 1.42, 1.55, 1.9, 2.4, 3.15])
HEIGHTS = np.array([8.01, 8.0, 7.93, 7.77, 7.5, 7.2, 7.15, 7.5, 7.2, 6.85, 6.7])


def angle_of(place: Floats) -> Floats:
    """Return the angle [...] in radians, 0 ahead and pi behind, of places [..., 3]."""
    angle: Floats = np.abs(np.arctan2(place[..., 0], place[..., 2] - AXIS))
    return angle


def above_hairline(place: Floats, raised: float, receding: float, peak: float) -> Floats:
    """Return how far [...] places [..., 3] lie above the hairline, in decimetres (negative: bare skin).

    Args:
        place: places on the neutral head.
        raised: decimetres by which the whole front is higher.
        receding: decimetres by which the corners of the forehead are higher.
        peak: decimetres by which the middle comes down.
    """
    angle = angle_of(place)
    line = np.interp(angle, ANGLES, HEIGHTS)
    front = np.clip(1.2 - angle, 0, 0.4) / 0.4
    corners = np.exp(-(((angle - 0.6) / 0.3) ** 2))
    line = line + front * raised + receding * corners - peak * np.exp(-((angle / 0.14) ** 2))
    above: Floats = (place[..., 1] - line).astype(np.float32)
    return above


def _ramp(value: Floats, width: float) -> Floats:
    """Return 0 below -width, 1 above +width, straight in between."""
    ramp: Floats = np.clip(0.5 + 0.5 * value / width, 0, 1)
    return ramp


def moustache(place: Floats) -> Floats:
    """Return the share 0..1 [...] of moustache, between nose and upper lip and down past the corners."""
    x, y = np.abs(place[..., 0]), place[..., 1]
    middle = 6.755 - 0.32 * np.clip(x - 0.02, 0, 1)
    return _ramp(0.062 - np.abs(y - middle), 0.03) * _ramp(0.31 - x, 0.03) * _ramp(place[..., 2] - 1.2, 0.1)


def goatee(place: Floats) -> Floats:
    """Return the share 0..1 [...] of a chin beard."""
    x, y = np.abs(place[..., 0]), place[..., 1]
    return _ramp(0.26 - x, 0.06) * _ramp(6.47 - 0.4 * x - y, 0.04) * _ramp(place[..., 2] - 1.0, 0.1)


def jaw_beard(place: Floats) -> Floats:
    """Return the share 0..1 [...] of a beard along jaw and lower cheeks, up to the sideburns."""
    x, y = np.abs(place[..., 0]), place[..., 1]
    top = np.interp(x, [0.0, 0.2, 0.36, 0.55, 0.68, 0.8], [6.44, 6.42, 6.72, 6.85, 7.05, 7.3])
    low = 6.12 - 0.25 * np.clip(0.9 - place[..., 2], 0, 1)
    ahead = _ramp(place[..., 2] - 0.58, 0.08)
    return _ramp((top - y).astype(np.float32), 0.06) * _ramp((y - low).astype(np.float32), 0.08) * ahead


BEARDS = {
    "none": (),
    "moustache": (moustache,),
    "goatee": (goatee, moustache),
    "chin": (goatee,),
    "full": (moustache, goatee, jaw_beard),
}


def beard(place: Floats, style: str) -> Floats:
    """Return the share 0..1 [...] of beard of a style of `BEARDS`."""
    share = np.zeros(place.shape[:-1], np.float32)
    for part in BEARDS[style]:
        share = np.maximum(share, part(place))
    return share
