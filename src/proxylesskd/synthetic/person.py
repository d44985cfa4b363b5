"""One identity: shape, skin, eyes, hair and habits, drawn from a seed and ready to be rendered."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from proxylesskd.synthetic.arrays import Floats, Ints
from proxylesskd.synthetic.colour import draw_hair, draw_iris, draw_melanin, draw_skin, linear
from proxylesskd.synthetic.hair import (
    POINTS,
    STYLES,
    beard_density,
    grow_beard,
    grow_roots,
    grow_scalp,
    scalp_density,
)
from proxylesskd.synthetic.head import Head
from proxylesskd.synthetic.raster import vertex_normals
from proxylesskd.synthetic.shape import (
    Phenotype,
    blend,
    draw_local,
    draw_phenotype,
    local_weights,
    macro_weights,
)
from proxylesskd.synthetic.skin import Skin, paint_skin


@dataclass(frozen=True)
class Strands:
    """Hair rooted in the skin.

    Attributes:
        corners: [N, 3] vertices of each root's triangle, ``weights`` [N, 3] its place in it.
        offsets: [N, K, 3] points of each strand relative to its root.
        tone: [N, 3] colour in linear light.
        thickness: [N] in decimetres.
    """

    corners: Ints
    weights: Floats
    offsets: Floats
    tone: Floats
    thickness: Floats


@dataclass(frozen=True)
class Glasses:
    """Shape of a pair of glasses: half width and height of a lens and rim in decimetres, colour, roundness."""

    width: float
    height: float
    rim: float
    squareness: float
    colour: Floats
    tint: float


@dataclass(frozen=True)
class Person:
    """Everything about an identity that does not change between its images.

    Attributes:
        vertices: [V, 3] of the head at rest.
        albedo: [H, W, 3] skin in linear light.
        iris: [3] colour in linear light.
        gloss: how oily the skin is, 0..1.
        strands: scalp hair and beard.
        glasses: the pair this person owns; ``wears_glasses``: share of images with them, 0..1.
        phenotype: what the shape was drawn from.
        melanin: darkness of the skin, 0..1.
    """

    vertices: Floats
    albedo: Floats
    iris: Floats
    gloss: float
    strands: Strands
    glasses: Glasses
    wears_glasses: float
    phenotype: Phenotype
    melanin: float


def _pick(rng: np.random.Generator, odds: dict[str, float]) -> str:
    """Draw a name by its odds."""
    share = np.array(list(odds.values()))
    return list(odds)[int(rng.choice(len(share), p=share / share.sum()))]


def _draw_style(rng: np.random.Generator, phenotype: Phenotype) -> str:
    """Draw a hair style, or ``bald``."""
    african, old = float(phenotype.ancestry[0]), max(0.0, phenotype.age - 0.7)
    if phenotype.female > 0.5:
        odds = {"long": 3, "long-fringe": 1.8, "wavy": 2.2, "bob": 2, "tied": 1.6, "fringe": 1, "side": 0.5}
        odds |= {"curly": 0.8 + 3 * african, "afro": 3 * african, "short": 0.3}
    else:
        odds = {"short": 2.5, "quiff": 1.2, "back": 1.0, "side": 1.6, "crop": 1.5, "buzz": 1 + 3 * african}
        odds |= {"curly": 0.7, "afro": 1.6 * african, "wavy": 0.3, "fringe": 0.5}
        odds |= {"bald": 0.3 + 5 * old, "receded": 0.3 + 6 * old}
    return _pick(rng, {k: float(v) for k, v in odds.items()})


def _draw_brow(rng: np.random.Generator, female: float) -> tuple[float, float, float, float, float, float]:
    """Draw height, half thickness, arch, slope, length and density of the brows."""
    thickness = rng.uniform(0.034, 0.066) - 0.012 * female
    return (
        rng.uniform(0.19, 0.26),
        float(thickness),
        rng.uniform(0.0, 0.05) + 0.012 * female,
        rng.uniform(-0.045, 0.06),
        rng.uniform(0.36, 0.48),
        rng.uniform(0.55, 0.97),
    )


def _draw_lips(rng: np.random.Generator, colour: Floats, made_up: bool) -> Floats:
    """Draw the colour of the lips: redder than the skin, or painted."""
    natural = colour * np.array([0.88, 0.5, 0.53], np.float32) * np.float32(rng.uniform(0.8, 1.1))
    if not made_up:
        return natural.astype(np.float32)
    paint = linear(rng.uniform([120, 20, 30], [200, 80, 90]))
    return (natural + np.float32(rng.uniform(0.3, 0.8)) * (paint - natural)).astype(np.float32)


def _draw_skin(rng: np.random.Generator, phenotype: Phenotype, melanin: float, hair: Floats) -> Skin:
    """Draw how the skin is painted."""
    colour = draw_skin(rng, melanin)
    female, age = phenotype.female, phenotype.age
    made_up = female > 0.5 and rng.random() < 0.45
    odds = {"none": 3.0, "moustache": 0.3, "goatee": 0.7, "chin": 0.3, "full": 1.2}
    style = _pick(rng, odds) if female < 0.5 else "none"
    return Skin(
        colour=colour,
        hair=hair,
        lips=_draw_lips(rng, colour, made_up),
        mottle=rng.uniform(0.5, 1.3),
        flush=rng.uniform(0.2, 1.2) * (1 - 0.6 * melanin),
        freckles=rng.uniform(0.4, 1) if rng.random() < 0.22 * (1 - melanin) else 0.0,
        circles=rng.uniform(0.0, 0.7) + 0.3 * max(0.0, age - 0.75),
        wrinkles=float(np.clip((age - 0.62) * 2.6 + rng.normal(0, 0.1), 0, 1)),
        stubble=rng.uniform(0.03, 0.32) if female < 0.5 else 0.0,
        moles=int(rng.poisson(1.6)),
        liner=rng.uniform(0.4, 1) if made_up else rng.uniform(0, 0.25) * female,
        shadow=rng.uniform(0.15, 0.5) if made_up else 0.0,
        shadow_colour=linear(rng.uniform([60, 30, 30], [130, 90, 110])),
        brow=_draw_brow(rng, female),
        hairline=(rng.normal(0.0, 0.035), rng.uniform(0, 0.06 + 0.12 * (1 - female)), rng.uniform(-0.01, 0.05)),
        beard_style=style,
    )


def _draw_glasses(rng: np.random.Generator) -> Glasses:
    """Draw a pair of glasses."""
    colours = [(14, 14, 15), (60, 36, 22), (150, 120, 60), (150, 152, 156), (110, 24, 28), (28, 40, 84), (96, 70, 48)]
    return Glasses(
        width=rng.uniform(0.21, 0.265),
        height=rng.uniform(0.13, 0.22),
        rim=rng.choice([0.014, 0.022, 0.032, 0.042]),
        squareness=rng.uniform(2.0, 5.0),
        colour=linear(colours[int(rng.integers(len(colours)))]),
        tint=float(rng.choice([0.04, 0.08, 0.75], p=[0.6, 0.32, 0.08])),
    )


def _tones(rng: np.random.Generator, colour: Floats, count: int) -> Floats:
    """Return a colour [count, 3] per strand, scattered around the hair's colour."""
    light = rng.lognormal(0, 0.28, (count, 1))
    warm = 1 + rng.normal(0, 0.06, (count, 1)) * np.array([1.0, 0.0, -1.0])
    tones: Floats = np.clip(colour * light * warm, 0.002, 0.9).astype(np.float32)
    return tones


def _root_points(vertices: Floats, corners: Ints, weights: Floats) -> Floats:
    points: Floats = (vertices[corners] * weights[..., None]).sum(1)
    return points


def _grow(head: Head, vertices: Floats, style: str, skin: Skin, rng: np.random.Generator) -> Strands:
    """Grow scalp hair of a style and the beard of a skin on one head."""
    normals = vertex_normals(vertices, head.triangles)
    corners, weights, offsets, thickness = [], [], [], []
    if style != "bald" and skin.hairline is not None:
        how = STYLES[style]
        how = replace(how, length=how.length * rng.uniform(0.8, 1.25), lift=how.lift * rng.uniform(0.7, 1.2))
        how = replace(how, comb=(how.comb[0] * rng.choice([-1, 1]), *how.comb[1:]))
        density = scalp_density(head, skin.hairline, style == "receded")
        c, w = grow_roots(head, vertices, density, how.count, rng)
        roots, away = _root_points(vertices, c, w), _root_points(normals, c, w)
        corners.append(c)
        weights.append(w)
        offsets.append(grow_scalp(roots, away, vertices, how, rng))
        thickness.append(np.full(len(c), how.thickness, np.float32))
    c, w = grow_roots(head, vertices, beard_density(head, skin.beard_style), 550, rng)
    roots, away = _root_points(vertices, c, w), _root_points(normals, c, w)
    corners.append(c)
    weights.append(w)
    offsets.append(grow_beard(roots, away, rng.uniform(0.06, 0.22), rng).reshape(-1, POINTS, 3))
    thickness.append(np.full(len(c), 0.012, np.float32))
    total = sum(len(x) for x in corners)
    return Strands(
        np.concatenate(corners),
        np.concatenate(weights),
        np.concatenate(offsets),
        _tones(rng, skin.hair, total),
        np.concatenate(thickness),
    )


def draw_person(head: Head, seed: int, number: int) -> Person:
    """Draw identity ``number`` of a seed; the same two numbers always give the same person."""
    rng = np.random.default_rng([seed, number])
    phenotype = draw_phenotype(rng)
    local = draw_local(rng, head.local_names)
    vertices = blend(head, macro_weights(phenotype, head.macro_names), local_weights(local))
    melanin = draw_melanin(rng, phenotype.ancestry)
    hair = draw_hair(rng, melanin, phenotype.age)
    skin = _draw_skin(rng, phenotype, melanin, hair)
    style = _draw_style(rng, phenotype)
    if style in ("bald", "receded"):
        skin = replace(skin, hairline=None if style == "bald" else skin.hairline)
    painted = replace(skin, hairline=None) if style == "receded" else skin
    return Person(
        vertices=vertices,
        albedo=paint_skin(head, painted, rng),
        iris=draw_iris(rng, melanin),
        gloss=rng.uniform(0.2, 1.0),
        strands=_grow(head, vertices, style, skin, rng),
        glasses=_draw_glasses(rng),
        wears_glasses=float(rng.choice([0.03, 0.85], p=[0.78, 0.22])),
        phenotype=phenotype,
        melanin=melanin,
    )
