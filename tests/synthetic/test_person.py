from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from proxylesskd.synthetic import colour, hairline, shape
from proxylesskd.synthetic.hair import STYLES, grow_roots, grow_scalp
from proxylesskd.synthetic.head import Head
from proxylesskd.synthetic.person import _draw_style, _grow, _root_points, draw_person
from proxylesskd.synthetic.raster import vertex_normals
from proxylesskd.synthetic.skin import paint_skin


def test_a_person_is_a_function_of_seed_and_number(head: Head) -> None:
    first, again, other = (draw_person(head, 1, n) for n in (4, 4, 5))
    np.testing.assert_array_equal(first.albedo, again.albedo)
    np.testing.assert_array_equal(first.strands.offsets, again.strands.offsets)
    np.testing.assert_array_equal(first.vertices, again.vertices)
    assert np.abs(first.vertices - other.vertices).max() > 1e-3
    assert np.abs(first.albedo.mean((0, 1)) - other.albedo.mean((0, 1))).max() > 1e-3


def test_srgb_there_and_back() -> None:
    values = np.arange(256)
    np.testing.assert_allclose(colour.to_srgb(colour.linear(values)) * 255, values, atol=0.02)
    assert colour.linear(188) == pytest.approx(0.5029, abs=1e-3)  # the known middle of sRGB


def test_skin_darkens_with_melanin() -> None:
    light = [colour.draw_skin(np.random.default_rng(0), m).mean() for m in (0.0, 0.3, 0.6, 1.0)]
    assert light == sorted(light, reverse=True)
    african, european = np.eye(3)[0], np.eye(3)[2]
    rng = np.random.default_rng(0)
    assert colour.draw_melanin(rng, african) > colour.draw_melanin(rng, european) + 0.2
    hairs = np.stack([colour.draw_hair(np.random.default_rng(i), 0.1, 1.0) for i in range(40)])
    assert hairs.mean() > np.stack([colour.draw_hair(np.random.default_rng(i), 0.8, 0.5) for i in range(40)]).mean()
    assert colour.draw_iris(rng, 0.1).shape == (3,)


def test_hairline_and_beard_lie_where_they_should() -> None:
    crown, brow, cheek, nape = [0, 8.4, 0.6], [0, 7.5, 1.5], [0.5, 7.0, 1.2], [0, 7.2, -0.4]
    place = np.array([crown, brow, cheek, nape], np.float32)
    assert (hairline.above_hairline(place, 0, 0, 0) > 0).tolist() == [True, False, False, True]
    raised = hairline.above_hairline(place, 0.1, 0, 0) - hairline.above_hairline(place, 0, 0, 0)
    np.testing.assert_allclose(raised, [-0.1, -0.1, -0.1, 0], atol=0.03)
    lip, chin, forehead = [0.1, 6.74, 1.5], [0, 6.3, 1.4], [0, 7.9, 1.4]
    spots = np.array([lip, chin, forehead], np.float32)
    assert (hairline.beard(spots, "full") > 0.5).tolist() == [True, True, False]
    assert (hairline.beard(spots, "moustache") > 0.5).tolist() == [True, False, False]
    assert hairline.beard(spots, "none").max() == 0


@pytest.mark.parametrize("name", sorted(STYLES))
def test_hair_stays_off_the_face(head: Head, name: str) -> None:
    rng = np.random.default_rng(0)
    density = (hairline.above_hairline(head.vertices, 0, 0, 0) > 0).astype(np.float32)
    corners, weights = grow_roots(head, head.vertices, density, 300, rng)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)
    assert density[corners].min() == 1
    roots = _root_points(head.vertices, corners, weights)
    normals = _root_points(vertex_normals(head.vertices, head.triangles), corners, weights)
    style = STYLES[name]
    points = roots[:, None] + grow_scalp(roots, normals, head.vertices, style, rng)
    assert np.isfinite(points).all()
    tips = points[:, 1:]
    on_face = (np.abs(tips[..., 0]) < 0.4) & (tips[..., 1] < 7.45) & (tips[..., 1] > 6.3) & (tips[..., 2] > 1.0)
    assert on_face.mean() < 0.01
    longest = np.linalg.norm(np.diff(points, axis=1), axis=-1).sum(1).max()
    assert longest > 0.5 * style.sides


def test_nothing_grows_where_nothing_may(head: Head) -> None:
    corners, weights = grow_roots(
        head, head.vertices, np.zeros(len(head.vertices), np.float32), 10, np.random.default_rng(0)
    )
    assert corners.shape == weights.shape == (0, 3)


def test_bald_and_receding_people_have_less_hair(head: Head) -> None:
    from proxylesskd.synthetic.person import _draw_skin

    phenotype = shape.Phenotype(0.0, 1.0, 0.5, 0.5, np.array([0, 0, 1.0]))
    skin = replace(
        _draw_skin(np.random.default_rng(0), phenotype, 0.2, np.full(3, 0.05, np.float32)), beard_style="none"
    )
    counts = {s: len(_grow(head, head.vertices, s, skin, np.random.default_rng(1)).tone) for s in ("bald", "short")}
    assert counts["bald"] == 0 < counts["short"]
    ring = _grow(head, head.vertices, "receded", skin, np.random.default_rng(1))
    assert head.vertices[ring.corners][..., 1].max() < 7.95
    old = {_draw_style(np.random.default_rng(i), phenotype) for i in range(60)}
    young = {_draw_style(np.random.default_rng(i), replace(phenotype, age=0.55, female=1.0)) for i in range(60)}
    assert {"bald", "receded"} <= old
    assert not {"bald", "receded"} & young


def test_paint(head: Head) -> None:
    from proxylesskd.synthetic.person import _draw_skin

    phenotype = shape.Phenotype(1.0, 0.9, 0.5, 0.5, np.array([0, 0, 1.0]))
    hair = np.full(3, 0.01, np.float32)
    skin = replace(_draw_skin(np.random.default_rng(0), phenotype, 0.1, hair), freckles=1.0, moles=3, stubble=0.0)
    albedo = paint_skin(head, skin, np.random.default_rng(0))
    assert albedo.shape == (*head.place.shape[:2], 3)
    lip = albedo[head.lips > 0].mean(0)
    cheek = albedo[(np.abs(head.place[..., 0] - 0.45) < 0.1) & (np.abs(head.place[..., 1] - 7.0) < 0.1)].mean(0)
    assert lip[1] / lip[0] < cheek[1] / cheek[0]
    x, y = np.abs(head.place[..., 0]), head.place[..., 1]
    brow = albedo[(np.abs(x - 0.25) < 0.1) & (np.abs(y - 7.284 - skin.brow[0]) < 0.1)]
    assert brow.min() < 0.3 * cheek.min()
    bare = paint_skin(head, replace(skin, hairline=None), np.random.default_rng(0))
    scalp = head.place[..., 1] > 8.3
    assert bare[scalp].mean() > 3 * albedo[scalp].mean()
