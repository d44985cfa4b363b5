"""Similarity transforms, judged by an SVD in loops, by least squares and by OpenCV; crops, pixel by pixel."""

from __future__ import annotations

import builtins

import numpy as np
import numpy.typing as npt
import pytest

from proxylesskd.errors import UserError
from proxylesskd.photos.transform import SIZE, TEMPLATE, crop, mirrored, similarities, similarity, template_for

cv2 = pytest.importorskip("cv2")
Floats = npt.NDArray[np.float64]


def umeyama(source: Floats, goal: Floats) -> Floats:
    """Umeyama (1991), equations 34 to 43, as they stand there."""
    count = len(source)
    mean_s, mean_g = sum(source) / count, sum(goal) / count
    variance = sum(float((p - mean_s) @ (p - mean_s)) for p in source) / count
    covariance = np.zeros((2, 2))
    for p, q in zip(source, goal, strict=True):
        covariance += np.outer(q - mean_g, p - mean_s) / count
    u, d, v = np.linalg.svd(covariance)
    s = np.diag([1.0, 1.0 if np.linalg.det(u) * np.linalg.det(v) > 0 else -1.0])
    rotation = u @ s @ v
    scale = np.trace(np.diag(d) @ s) / variance
    return np.column_stack([scale * rotation, mean_g - scale * rotation @ mean_s])


def faces(count: int, seed: int = 0) -> Floats:
    """Landmarks: the template turned by any angle, scaled, shifted and disturbed."""
    random = np.random.default_rng(seed)
    out = []
    for angle, scale in zip(random.uniform(-np.pi, np.pi, count), random.uniform(0.3, 8, count), strict=True):
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        out.append(TEMPLATE @ turn.T + random.uniform(-200, 900, 2) + scale * random.normal(0, 4, (5, 2)))
    return np.array(out)


def gradient(height: int, width: int) -> npt.NDArray[np.uint8]:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 / width, y * 255 / height, 128 + 60 * np.sin(x / 9) * np.cos(y / 7)], 2).astype(np.uint8)


def test_similarity_is_umeyamas() -> None:
    points = faces(50)
    for one, matrix in zip(points, similarities(points), strict=True):
        np.testing.assert_allclose(matrix, umeyama(one, TEMPLATE), rtol=0, atol=1e-9)
        np.testing.assert_array_equal(similarity(one), matrix)


def test_similarity_is_the_least_squares_solution() -> None:
    for one in faces(20, seed=1):
        # unknowns a, b, x, y of [[a, -b, x], [b, a, y]]
        rows = [row for x, y in one for row in ([x, -y, 1, 0], [y, x, 0, 1])]
        a, b, x, y = np.linalg.lstsq(np.array(rows), TEMPLATE.ravel(), rcond=None)[0]
        np.testing.assert_allclose(similarity(one), [[a, -b, x], [b, a, y]], atol=1e-8)


def test_similarity_agrees_with_opencv_on_exact_points() -> None:
    exact = TEMPLATE @ np.array([[1.8, 0.6], [-0.6, 1.8]]) + (40, 90)
    theirs, inliers = cv2.estimateAffinePartial2D(exact, TEMPLATE, method=cv2.LMEDS)
    assert inliers.all()
    np.testing.assert_allclose(similarity(exact), theirs, atol=1e-4)


def test_mirrored_landmarks_are_never_reflected_back() -> None:
    swapped = (TEMPLATE * (-1, 1) + (112, 0)) * 2 + np.random.default_rng(0).normal(0, 2, (5, 2))
    assert mirrored([swapped, TEMPLATE * 2]).tolist() == [True, False]
    matrix = similarity(swapped)
    assert np.linalg.det(matrix[:, :2]) > 0
    np.testing.assert_allclose(matrix, umeyama(swapped, TEMPLATE), atol=1e-9)


@pytest.mark.parametrize(
    ("points", "found"),
    [
        (np.ones((5, 2)), "face 0 with points in one place"),
        (np.full((5, 2), np.nan), "not finite"),
        (TEMPLATE * 1e9, "beyond 1e6"),
        (TEMPLATE[:4], r"\[4, 2\]"),
        (TEMPLATE.ravel(), r"\[10\]"),
    ],
)
def test_degenerate_landmarks_are_refused(points: Floats, found: str) -> None:
    with pytest.raises(UserError, match=found):
        similarity(points)


def test_no_faces_give_no_transforms() -> None:
    assert similarities(np.empty((0, 5, 2))).shape == (0, 2, 3)


def test_a_face_in_place_is_cut_as_it_is() -> None:
    photo = gradient(SIZE, SIZE)
    np.testing.assert_array_equal(crop(photo, TEMPLATE), photo)
    moved = gradient(300, 280)
    np.testing.assert_array_equal(crop(moved, TEMPLATE + np.array([31, 17])), moved[17 : 17 + SIZE, 31 : 31 + SIZE])


def test_crop_is_bilinear_and_black_outside() -> None:
    photo, landmarks = gradient(90, 120), TEMPLATE * 0.9 + (20, -30)
    ours = crop(photo, landmarks)
    inverse = np.linalg.inv(np.vstack([umeyama(landmarks, TEMPLATE), [0, 0, 1]]))
    for u, v in [(5, 100), (60, 90), (100, 70), (30, 60), (80, 45)]:
        x, y, _ = inverse @ (u, v, 1)
        left, top = int(np.floor(x)), int(np.floor(y))
        p, q = x - left, y - top
        near = photo[top : top + 2, left : left + 2].astype(float)
        expected = (near[0, 0] * (1 - p) + near[0, 1] * p) * (1 - q) + (near[1, 0] * (1 - p) + near[1, 1] * p) * q
        np.testing.assert_allclose(ours[v, u], expected, atol=4)  # OpenCV rounds positions to 1/32 pixel
    assert not ours[0].any()


@pytest.mark.parametrize("size", [56, 224])
def test_other_sizes_show_the_same_face(size: int) -> None:
    photo = cv2.GaussianBlur(gradient(400, 400), (0, 0), 3)
    landmarks = TEMPLATE * 2.2 + (60, 40)
    usual = crop(photo, landmarks).astype(float)
    other = cv2.resize(crop(photo, landmarks, size), (SIZE, SIZE), interpolation=cv2.INTER_LINEAR).astype(float)
    assert np.abs(usual - other)[4:-4, 4:-4].mean() < 1.5
    np.testing.assert_allclose((template_for(size) + 0.5) / size, (TEMPLATE + 0.5) / SIZE)


@pytest.mark.parametrize("at", [(0, 0), (101, 67), (-300, 250)])
def test_antialias_averages_what_would_flicker(at: tuple[int, int]) -> None:
    board = (np.indices((1200, 1100)).sum(0) % 2 * 255).astype(np.uint8)[:, :, None].repeat(3, 2)
    landmarks = TEMPLATE * 6 + at
    raw, smooth = crop(board, landmarks), crop(board, landmarks, antialias=True)
    inside = cv2.erode(crop(np.full_like(board, 255), landmarks)[:, :, 0], np.ones((5, 5)), borderValue=0) == 255
    assert np.abs(raw[inside].astype(int) - 128).mean() > 100
    assert np.abs(smooth[inside].astype(int) - 128).max() <= 2


def test_antialias_moves_nothing() -> None:
    ramp = np.linspace(0, 250, 900)[None, :].repeat(700, 0).astype(np.uint8)[:, :, None].repeat(3, 2)
    for scale in (2.0, 3.7, 5.5):
        landmarks = TEMPLATE * scale + (37, 11)
        ours = crop(ramp, landmarks, antialias=True).astype(float)
        theirs = crop(cv2.GaussianBlur(ramp, (0, 0), scale / 2), landmarks).astype(float)
        inside = crop(np.full_like(ramp, 255), landmarks + scale).min(2) == 255
        assert np.abs(ours - theirs)[inside].mean() < 0.6


def test_panoramas_beyond_opencvs_limit() -> None:
    wide = np.zeros((200, 40_000, 3), np.uint8)
    wide[20 : 20 + SIZE, 39_000 : 39_000 + SIZE] = gradient(SIZE, SIZE)
    np.testing.assert_array_equal(crop(wide, TEMPLATE + np.array([39_000, 20])), gradient(SIZE, SIZE))


def test_faces_beyond_the_photo_are_black() -> None:
    assert not crop(gradient(50, 50), TEMPLATE * 5 + 5000, antialias=True).any()
    assert not crop(gradient(50, 50), TEMPLATE * 5 - 5000, antialias=True).any()


def test_missing_opencv_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name == "cv2":
            raise ImportError(name)
        return real(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match="pip install opencv-python-headless"):
        crop(gradient(112, 112), TEMPLATE)
