from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from proxylesskd.synthetic import hair_light, shade, skin

LIGHT = np.array([[0.3, 0.5, 0.81], [1, 0.9, 0.8], [0.4, 0.4, 0.5], [0.2, 0.2, 0.2]], np.float32)
both = pytest.mark.parametrize("form", ["compiled", "plain"])


def pick(function: Callable[..., object], form: str) -> Callable[..., object]:
    return function if form == "compiled" else function.py_func


@both
def test_map_is_sampled_between_texels(form: str) -> None:
    rows, columns = np.mgrid[:6, :8].astype(np.float32)
    plane = np.stack([columns, rows, 2 * columns - rows], -1)
    out = np.zeros(3, np.float32)
    pick(shade.sample_map, form)(plane, 3.25 / 8, 2.75 / 6, out)
    np.testing.assert_allclose(out, [2.75, 2.25, 3.25], atol=1e-4)


@both
def test_eye_has_pupil_iris_and_white(form: str) -> None:
    iris, out = np.array([0.1, 0.3, 0.6], np.float32), np.zeros(3, np.float32)
    colours = []
    for x in (0.0, 0.3, 0.8):
        pick(shade.eye_colour, form)(x, 0.0, np.sqrt(1 - x * x), iris, out)
        colours.append(out.copy())
    assert colours[0].max() < 0.02
    assert colours[1][2] > colours[1][0] * 2
    assert colours[2].min() > 0.4


@both
def test_light_grows_towards_the_lamp_and_with_openness(form: str) -> None:
    def radiance(normal: list[float], opened: float, lit: float) -> np.ndarray:
        colour = np.full(3, 0.5, np.float32)
        a = np.array([*normal, opened, lit, 0, 0, 0], np.float32)
        pick(shade.light_pixel, form)(a, 0.1, 20.0, 0.3, LIGHT, colour)
        return colour

    facing, away = radiance([0.3, 0.5, 0.81], 1, 1), radiance([-0.3, -0.5, -0.81], 1, 1)
    assert (facing > 2 * away).all()
    assert (radiance([0.3, 0.5, 0.81], 1, 0) < facing).all()
    assert (radiance([0.3, 0.5, 0.81], 0.1, 1) < facing).all()
    # Without key light only the sky is left: Lambert's law by hand, for a surface that looks straight up.
    np.testing.assert_allclose(radiance([0, 1, 0], 1, 0) - 0.5 * LIGHT[2], 0.25 * 0.1 * LIGHT[2], atol=1e-5)


@both
def test_every_look_is_shaded_and_the_rest_left_alone(form: str) -> None:
    index = np.array([[0, 1], [2, -1]], np.int32)
    weights = np.full((2, 2, 2), 1 / 3, np.float32)
    attributes = np.zeros((3, shade.ATTRIBUTES), np.float32)
    attributes[:, 2:5], attributes[:, 5:] = 1, [0.5, 0.5, 0.7]
    image = np.full((2, 2, 3), -1, np.float32)
    albedo = np.full((4, 4, 3), [0.6, 0.3, 0.1], np.float32)
    looks = np.array([shade.SKIN_LOOK, shade.EYE_LOOK, shade.PLAIN_LOOK], np.uint8)
    triangles = np.tile(np.arange(3, dtype=np.int32), (3, 1))
    iris = np.array([0.1, 0.2, 0.3], np.float32)
    pick(shade.shade, form)(index, weights, triangles, looks, attributes, albedo, iris, 0.5, LIGHT, image)
    assert (image[1, 1] == -1).all()
    assert image[0, 0, 0] > image[0, 0, 1] > image[0, 0, 2] > 0
    assert image[1, 0, 2] > image[1, 0, 0]


@both
def test_strands_shine_across_the_light(form: str) -> None:
    light = np.array([[0, 0, 1], [1, 1, 1], [0, 0, 0], [0, 0, 0]], np.float32)
    along = np.zeros((3, 3), np.float32)
    along[:, 2] = [0, 1, 2]
    across = along[:, [2, 1, 0]].copy()
    across[:, 2] = 0.5
    middle = np.array([[0, 0, 0], [0, 0, 1]], np.float32)

    def lit_by(strand: np.ndarray, share: float) -> np.ndarray:
        out, tone = np.zeros((3, 3), np.float32), np.full(3, 0.5, np.float32)
        pick(hair_light.light_strand, form)(strand, middle, tone, np.full(3, share, np.float32), light, out)
        return out

    assert lit_by(across, 1).mean() > 2 * lit_by(along, 1).mean()
    assert lit_by(across, 0).max() == 0
    out = np.zeros(3, np.float32)
    pick(hair_light.unit_towards, form)(across, 0, 2, out)
    np.testing.assert_allclose(out, [1, 0, 0], atol=1e-5)
    assert pick(hair_light.dot, form)(out, 3 * out) == pytest.approx(3, abs=1e-4)


def test_all_strands_are_lit_as_one_by_one() -> None:
    rng = np.random.default_rng(2)
    hair, tone = rng.normal(size=(4, 5, 3)).astype(np.float32), rng.random((4, 3)).astype(np.float32)
    lit = rng.random((4, 5)).astype(np.float32)
    together, plain = hair_light.light_strands(hair, tone, lit, LIGHT), np.zeros_like(hair)
    half = LIGHT[0] + [0, 0, 1]
    middle = np.stack([hair.mean((0, 1)), half / np.linalg.norm(half)]).astype(np.float32)
    hair_light.light_all.py_func(hair, middle, tone, lit, LIGHT, plain)
    np.testing.assert_allclose(together, plain, atol=1e-5)


@both
def test_mixing_is_linear(form: str) -> None:
    rng = np.random.default_rng(0)
    albedo, share = rng.random((3, 4, 3)).astype(np.float32), rng.random((3, 4)).astype(np.float32)
    colour = np.array([0.1, 0.5, 0.9], np.float32)
    wanted = (1 - share[..., None]) * albedo + share[..., None] * colour
    pick(skin.mix, form)(albedo, colour, share)
    np.testing.assert_allclose(albedo, wanted, atol=1e-6)
