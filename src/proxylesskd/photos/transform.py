"""Five landmarks to an aligned face: the similarity transform to the template, and the crop it cuts.

Landmarks stand in one order everywhere: the eye on the left of the picture, the eye on its right, the tip of the nose,
the left and the right corner of the mouth; each (x, y) in pixels, the centre of the first pixel at (0, 0).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from proxylesskd.errors import UserError, require_package

Points = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]

SIZE = 112
# Where ArcFace (Deng et al. 2019) and all that follow it put the landmarks in 112x112 pixels.
TEMPLATE: Points = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
TEMPLATE.flags.writeable = False
# A face that the transform shrinks to nothing, or blows up beyond any meaning, was not described by its landmarks.
LEAST_SCALE, MOST_SCALE = 1e-3, 1e3
# OpenCV counts the pixels of what it warps in 16 bits.
MOST_SIDE = 32_000


def require_opencv() -> Any:
    """Return the module ``cv2``.

    Raises:
        UserError: it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise require_package("opencv-python-headless", "aligning faces") from error
    return cv2


def similarities(landmarks: npt.ArrayLike, template: npt.ArrayLike = TEMPLATE) -> Points:
    """Return the similarity transforms that bring the landmarks of N faces nearest to the template.

    They minimise the sum of squared distances over rotation, scale and shift, without reflection: Umeyama (1991),
    equations 40 to 42. In the plane, with points as complex numbers about their means, z the landmarks and w the
    template, that minimum is ``a = sum(conj(z) w) / sum(|z|^2)``.

    Args:
        landmarks: ``[N, K, 2]``, pixels.
        template: ``[K, 2]``, pixels.

    Returns:
        ``[N, 2, 3] float64``: ``[[s cos, -s sin, x], [s sin, s cos, y]]``.

    Raises:
        UserError: another shape, values that are not finite, or landmarks (nearly) in one point.
    """
    points, goal = np.asarray(landmarks, dtype=np.float64), np.asarray(template, dtype=np.float64)
    _check_points(points, goal)
    z, w = points @ (1, 1j), goal @ (1, 1j)  # [N, K], [K]
    z_mean, w_mean = z.mean(1, keepdims=True), w.mean()
    z_centred = z - z_mean
    spread = (np.abs(z_centred) ** 2).sum(1)
    with np.errstate(all="ignore"):  # what is no number is refused below
        a = (np.conj(z_centred) * (w - w_mean)).sum(1) / spread
    _check_scales(np.abs(a))
    shift = w_mean - a * z_mean[:, 0]
    rows = [[a.real, -a.imag, shift.real], [a.imag, a.real, shift.imag]]
    return np.ascontiguousarray(np.array(rows).transpose(2, 0, 1))


def similarity(landmarks: npt.ArrayLike, template: npt.ArrayLike = TEMPLATE) -> Points:
    """Return the transform ``[2, 3] float64`` of one face with ``landmarks [K, 2]``; see :func:`similarities`."""
    matrix: Points = similarities(np.asarray(landmarks, dtype=np.float64)[None], template)[0]
    return matrix


def _check_points(points: Points, goal: Points) -> None:
    if goal.ndim != 2 or goal.shape[1] != 2 or points.ndim != 3 or points.shape[1:] != goal.shape:
        raise UserError(
            f"expected landmarks [..., {len(goal)}, 2], (x, y) as in the template, found {list(points.shape[1:])}"
        )
    if not np.isfinite(points).all() or np.abs(points).max(initial=0) > 1e6:
        raise UserError("expected landmarks in pixels, found numbers that are not finite or beyond 1e6")


def _check_scales(scales: Points) -> None:
    sound = (scales >= LEAST_SCALE) & (scales <= MOST_SCALE)  # false for NaN
    if not sound.all():
        which = int(np.argmin(sound))
        raise UserError(
            f"expected five landmarks that span a face, found face {which} with points in one place or mirrored; "
            "their order is: left eye as seen in the picture, right eye, nose, left mouth corner, right mouth corner"
        )


def mirrored(landmarks: npt.ArrayLike, template: npt.ArrayLike = TEMPLATE) -> npt.NDArray[np.bool_]:
    """Return for ``landmarks [N, K, 2]`` whether a mirror image fits the template better: left and right exchanged."""
    z = np.asarray(landmarks, dtype=np.float64) @ (1, 1j)
    w = np.asarray(template, dtype=np.float64) @ (1, 1j)
    z = z - z.mean(1, keepdims=True)
    w = w - w.mean()
    worse: npt.NDArray[np.bool_] = np.abs((np.conj(z) * w).sum(1)) < np.abs((z * w).sum(1))
    return worse


def template_for(size: int) -> Points:
    """Return the template ``[5, 2]`` for crops of ``size`` pixels; the pixel grid scales about its corner."""
    return (TEMPLATE + 0.5) * (size / SIZE) - 0.5 if size != SIZE else TEMPLATE


def crop(pixels: Pixels, landmarks: npt.ArrayLike, size: int = SIZE, *, antialias: bool = False) -> Pixels:
    """Cut the aligned face out of a photo: bilinear, black beyond the photo's edge.

    Args:
        pixels: ``[H, W, 3] uint8``.
        landmarks: ``[5, 2]``, pixels of the photo.
        size: height and width of the crop.
        antialias: average over k x k pixels first where the face is k times too large (k whole, at least 2). The
            scripts by which the field's data sets were made do not: for crops that equal theirs, leave it.

    Returns:
        ``[size, size, 3] uint8``.

    Raises:
        UserError: the landmarks describe no face, or OpenCV is missing.
    """
    cv2 = require_opencv()
    matrix = similarity(landmarks, template_for(size))
    factor = int(1 / np.hypot(*matrix[:, 0]) + 1e-9) if antialias else 1
    if factor > 1 or max(pixels.shape[:2]) > MOST_SIDE:
        pixels, matrix = _region(cv2, pixels, matrix, size, max(factor, 1))
    warped: Pixels = cv2.warpAffine(pixels, matrix, (size, size), flags=cv2.INTER_LINEAR)
    return warped


def _region(cv2: Any, pixels: Pixels, matrix: Points, size: int, factor: int) -> tuple[Pixels, Points]:
    """Return what the crop needs of the photo, ``factor`` times smaller, and the transform from there."""
    corners = np.array([[x, y] for x in (-1, size) for y in (-1, size)], dtype=np.float64)
    back = (corners - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T  # [4, 2] pixels of the photo
    height, width = pixels.shape[:2]
    low = np.floor(back.min(0)).astype(int) - factor
    left, top = (low.clip(0, (width - 1, height - 1)) // factor) * factor
    right, bottom = (np.ceil(back.max(0)).astype(int) + factor).clip((left + 1, top + 1), (width, height))
    part = pixels[top:bottom, left:right]
    if factor > 1:
        part = _averaged(cv2, part, factor)
    # x = factor * u + (factor - 1) / 2 + left: pixels of the photo from those of the part
    shift = matrix[:, :2] @ (np.array([left, top]) + (factor - 1) / 2) + matrix[:, 2]
    return part, np.column_stack([matrix[:, :2] * factor, shift])


def _averaged(cv2: Any, part: Pixels, factor: int) -> Pixels:
    """Average over ``factor x factor`` pixels; the last row and column are repeated to whole squares."""
    below, beside = -part.shape[0] % factor, -part.shape[1] % factor
    if below or beside:
        part = cv2.copyMakeBorder(part, 0, below, 0, beside, cv2.BORDER_REPLICATE)
    smaller: Pixels = cv2.resize(part, (part.shape[1] // factor, part.shape[0] // factor), interpolation=cv2.INTER_AREA)
    return smaller
