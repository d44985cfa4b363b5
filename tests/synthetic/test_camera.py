from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import least_squares

from proxylesskd.synthetic import camera
from proxylesskd.synthetic.head import Head


def test_similarity_is_the_least_squares_one() -> None:
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(5, 2)), rng.normal(size=(5, 2))

    def misses(p: np.ndarray) -> np.ndarray:
        return (source @ np.array([[p[0], -p[1]], [p[1], p[0]]]).T + p[2:] - target).ravel()

    p = least_squares(misses, [1, 0, 0, 0]).x
    wanted = np.array([[p[0], -p[1], p[2]], [p[1], p[0], p[3]]])
    np.testing.assert_allclose(camera.similarity(source, target), wanted, atol=1e-5)


def test_a_face_like_the_template_lands_on_it() -> None:
    flat = (camera.TEMPLATE - 56) / 57
    points = np.column_stack([flat[:, 0], -flat[:, 1], np.zeros(5)]).astype(np.float32)
    view = camera.aligned_camera(points, 10.0, 112)
    assert np.abs(view.project(points)[:, :2] - camera.TEMPLATE).max() < 0.01
    assert view.scale() == pytest.approx(57, rel=1e-3)


def test_frontal_head_lands_within_a_few_pixels_and_pupils_level(head: Head) -> None:
    marks = camera.posed(camera.landmarks(head, head.vertices), camera.rotation(0, 0, 0.1))
    seen = camera.aligned_camera(marks, 10.0, 112).project(marks)[:, :2]
    assert np.abs(seen - camera.TEMPLATE).max() < 4
    assert abs(seen[0, 1] - seen[1, 1]) < 0.7
    np.testing.assert_allclose(seen.mean(0), camera.TEMPLATE.mean(0), atol=0.01)


def test_turning() -> None:
    turn = camera.rotation(0.4, -0.2, 0.1)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-6)
    ahead = camera.rotation(0.5, 0, 0) @ np.array([0, 0, 1])
    np.testing.assert_allclose(ahead, [np.sin(0.5), 0, np.cos(0.5)], atol=1e-6)
    assert (camera.rotation(0, 0.5, 0) @ np.array([0, 0, 1]))[1] < 0


def test_what_is_nearer_is_larger() -> None:
    view = camera.Camera(10.0, np.eye(2, 3, dtype=np.float32))
    near, far = view.project(np.array([[1, 1, 2.0], [1, 1, -2.0]], np.float32))
    assert near[0] == pytest.approx(10 / 8)
    assert far[1] == pytest.approx(-10 / 12)
