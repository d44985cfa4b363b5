from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from proxylesskd.synthetic import accessories, camera, render, shadow
from proxylesskd.synthetic.background import draw_background
from proxylesskd.synthetic.glasses import make_glasses
from proxylesskd.synthetic.head import Head
from proxylesskd.synthetic.person import Person, draw_person
from proxylesskd.synthetic.photograph import develop, encode
from proxylesskd.synthetic.variation import EXPRESSIONS, ODDS, Lens, Variation, draw_variation

PLAIN = Lens(0.0, 0.0, 112, 1.0, 1.0, np.ones(3, np.float32), False)


@pytest.fixture(scope="module")
def person(head: Head) -> Person:
    return draw_person(head, 0, 0)


@pytest.fixture(scope="module")
def frontal() -> Variation:
    drawn = draw_variation(0, 0, 0, 0.0)
    return replace(
        drawn, yaw=0.0, pitch=0.0, roll=0.0, lens=PLAIN, glasses=False, mask=False, hat="none", actions={}, gaze=(0, 0)
    )


def test_variations_are_functions_of_their_numbers() -> None:
    assert draw_variation(1, 2, 3, 0.5).seed == draw_variation(1, 2, 3, 0.5).seed
    drawn = [draw_variation(0, i, 0, 0.5) for i in range(300)]
    assert len({v.seed for v in drawn}) == 300
    yaw = np.rad2deg([v.yaw for v in drawn])
    assert np.abs(yaw).max() <= 60.001
    assert 15 < yaw.std() < 30
    assert {v.hat for v in drawn} == {"none", "cap", "beanie"}
    assert 0 < sum(v.mask for v in drawn) < 40
    assert len(ODDS) == len(EXPRESSIONS)


def test_a_face_is_in_the_middle(head: Head, person: Person, frontal: Variation) -> None:
    bright = replace(frontal, light=replace(frontal.light, key=np.ones(3, np.float32)))
    picture = render.render(head, person, bright)
    assert picture.shape == (112, 112, 3)
    assert picture.dtype == np.uint8
    other_place = render.render(head, person, replace(bright, seed=frontal.seed + 1, lens=PLAIN))
    changed = np.abs(picture.astype(int) - other_place).max(-1) > 12
    assert 3 * changed[40:100, 35:77].mean() < changed[:, [0, 111]].mean()


def test_dark_irises_lie_at_the_template_eyes(head: Head, person: Person, frontal: Variation) -> None:
    """The pupils, found by their darkness in the picture, against ArcFace's template."""
    bald = replace(
        person,
        strands=replace(
            person.strands,
            corners=person.strands.corners[:0],
            weights=person.strands.weights[:0],
            offsets=person.strands.offsets[:0],
            tone=person.strands.tone[:0],
            thickness=person.strands.thickness[:0],
        ),
    )
    grey = render.render(head, bald, frontal).astype(float).mean(-1)
    for x, y in camera.TEMPLATE[:2]:
        top, left = int(y) - 6, int(x) - 6
        window = grey[top : top + 13, left : left + 13]
        dark = np.argwhere(window <= np.quantile(window, 0.06)).mean(0) + np.array([top + 0.5, left + 0.5])
        assert np.hypot(dark[0] - y, dark[1] - x) < 3.5


@pytest.mark.parametrize("what", [{"mask": True}, {"hat": "cap"}, {"hat": "beanie"}, {"glasses": True}])
def test_things_change_their_part_of_the_picture(
    head: Head, person: Person, frontal: Variation, what: dict[str, object]
) -> None:
    plain = render.render(head, person, frontal).astype(int)
    worn = render.render(head, person, replace(frontal, **what)).astype(int)
    changed = np.abs(plain - worn).max(-1) > 25
    rows = {"mask": slice(75, 105), "hat": slice(0, 20), "glasses": slice(42, 62)}[next(iter(what))]
    assert changed[rows, 25:87].mean() > 0.05
    assert changed[rows, 25:87].mean() > changed.mean()


def test_cloth_goes_around_the_head(head: Head, person: Person) -> None:
    for thing in (
        *accessories.make_mask(head, head.vertices, np.ones(3)),
        *accessories.make_hat(head, head.vertices, np.ones(3), True),
    ):
        assert thing.triangles.max() < len(thing.vertices)
        assert np.isfinite(thing.vertices).all()
    mask = accessories.make_mask(head, head.vertices, np.ones(3))[0].vertices
    nose, mouth = head.vertices[head.landmarks[0]], head.vertices[head.landmarks[1:]]
    ahead = mask[np.abs(mask[:, 0]) < 0.3]
    assert ahead[:, 2].max() > nose[2]
    assert ahead[:, 1].min() < mouth[:, 1].min() < nose[1] < ahead[:, 1].max()
    frame, *lenses = make_glasses(head, head.vertices, person.glasses)
    assert [thing.clear for thing in (frame, *lenses)] == [False, True, True]
    for lens, eye in zip(lenses, head.vertices[head.eyes], strict=True):
        assert np.abs(lens.vertices.mean(0) - eye.mean(0))[0] < 0.08
        assert lens.vertices[:, 2].min() > eye[:, 2].mean()


def test_reach_is_the_distance_from_the_axis() -> None:
    around = np.linspace(-np.pi, np.pi, 200, endpoint=False)
    pipe = np.stack([0.7 * np.sin(around), np.full(200, 7.0), 0.45 + 0.7 * np.cos(around)], 1).astype(np.float32)
    angles, heights = np.zeros((2, 9), np.float32) + np.linspace(-1, 1, 9), np.full((2, 9), 7.05)
    np.testing.assert_allclose(accessories.reach_around(pipe, angles, heights), 0.7, atol=1e-4)


def test_shadow_falls_behind_what_blocks_the_light() -> None:
    wall = np.array([[-1, -1, 0.5], [1, -1, 0.5], [1, 1, 0.5], [-1, 1, 0.5]], np.float32)
    triangles, lamp = np.array([[0, 1, 2], [0, 2, 3]], np.int32), np.array([0, 0, 1], np.float32)
    hair = np.array([[[1.15, 0, 0.4]]], np.float32)
    points = np.array([[0, 0, 0], [0, 0, 1], [1.2, 1.2, 0], [1.15, 0, 0]], np.float32)
    shares = shadow.lit_shares(points, shadow.shadow_map(wall, triangles, hair, lamp), lamp, 0.9)
    np.testing.assert_allclose(shares[:3], [0.1, 1, 1], atol=1e-6)
    assert shares[3] == pytest.approx(1 - 0.9 / 9)  # a single point of hair blocks one texel of nine


def test_expressions_add_up(head: Head) -> None:
    moved = render.expressed(head, head.vertices, {"jawOpen": 0.5, "no-such-action": 1.0, "eyeBlinkLeft": 0.2})
    names = head.action_names.tolist()
    wanted = (
        head.vertices + 0.5 * head.actions[names.index("jawOpen")] + 0.2 * head.actions[names.index("eyeBlinkLeft")]
    )
    np.testing.assert_allclose(moved, wanted, atol=1e-6)


def test_eyes_look_where_they_are_told(head: Head) -> None:
    for eye, centre in zip(
        render.eye_directions(head, head.vertices, (0.0, 0.0)), head.vertices[head.eyes], strict=True
    ):
        ahead = centre[:, 2].argmax()
        assert eye[ahead, 2] > 0.95
    turned = render.eye_directions(head, head.vertices, (0.3, 0.0))[0]
    looked = head.vertices[head.eyes][0][turned[:, 2].argmax()] - head.vertices[head.eyes][0].mean(0)
    assert looked[0] > 0.02


def test_developing() -> None:
    rng = np.random.default_rng(0)
    image = rng.random((64, 64, 3)).astype(np.float32) * np.array([1, 0.5, 0.2], np.float32)
    plain = develop(image, PLAIN, rng, 32)
    grey = develop(image, replace(PLAIN, grey=True), rng, 32)
    assert (grey.max(-1) == grey.min(-1)).all()
    soft = develop(image, replace(PLAIN, blur=2.0), rng, 32)
    coarse = develop(image, replace(PLAIN, rows=8), rng, 32)
    noisy = develop(image, replace(PLAIN, noise=0.1), rng, 32)
    rough = [np.abs(np.diff(p.astype(float), axis=0)).mean() for p in (soft, plain, noisy)]
    assert rough == sorted(rough)
    assert np.abs(np.diff(coarse.astype(float), axis=0)).mean() < rough[1]
    assert develop(image, replace(PLAIN, brightness=2.0), rng, 32).mean() > plain.mean()
    back = np.asarray(Image.open(io.BytesIO(encode(plain))), float)
    assert np.abs(back - plain).mean() < 12


def test_backgrounds() -> None:
    drawn = [draw_background(np.random.default_rng(i), 48) for i in range(12)]
    assert all(b.shape == (48, 48, 3) and b.min() >= 0 and b.max() <= 1 for b in drawn)
    assert np.std([b.mean() for b in drawn]) > 0.03
    np.testing.assert_array_equal(drawn[3], draw_background(np.random.default_rng(3), 48))
