"""Painting a face: an albedo map of skin, lips, brows, stubble, shadows and moles for one identity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from proxylesskd.synthetic.arrays import Floats
from proxylesskd.synthetic.atlas import BOTTOM, TOP
from proxylesskd.synthetic.hairline import above_hairline, beard
from proxylesskd.synthetic.head import Head
from proxylesskd.synthetic.jit import compiled
from proxylesskd.synthetic.noise import field

EYE_Y = 7.284  # of the neutral head


@dataclass(frozen=True)
class Skin:
    """How the skin of an identity is painted. Colours are linear light [3]; the rest 0..1 unless said.

    Attributes:
        colour: of the skin; ``hair``: of brows, beard and scalp.
        lips: colour of the lips.
        mottle, flush, freckles, circles, wrinkles, stubble: strengths.
        moles: how many.
        liner, shadow: make-up at the eyes; ``shadow_colour`` [3].
        brow: (height above the eye, thickness, arch, slope, length) in decimetres, and density.
        hairline: raised, receding and peak of `above_hairline`; None where no scalp hair is painted.
        beard_style: a name of `BEARDS`.
    """

    colour: Floats
    hair: Floats
    lips: Floats
    mottle: float
    flush: float
    freckles: float
    circles: float
    wrinkles: float
    stubble: float
    moles: int
    liner: float
    shadow: float
    shadow_colour: Floats
    brow: tuple[float, float, float, float, float, float]
    hairline: tuple[float, float, float] | None
    beard_style: str


def _bump(place: Floats, x: float, y: float, width: float, height: float) -> Floats:
    """Return a soft spot 0..1 at (+-x, y)."""
    across = (np.abs(place[..., 0]) - x) / width
    spot: Floats = np.exp(-(across**2) - ((place[..., 1] - y) / height) ** 2)
    return spot


@compiled
def mix(albedo: Floats, colour: Floats, share: Floats) -> None:
    """Mix a colour [3] into a map [H, W, 3] by a share [H, W], in place."""
    for row in range(albedo.shape[0]):
        for column in range(albedo.shape[1]):
            s = share[row, column]
            if s > 0:
                for c in range(3):
                    albedo[row, column, c] += s * (colour[c] - albedo[row, column, c])


def _complexion(albedo: Floats, place: Floats, skin: Skin, rng: np.random.Generator) -> None:
    """Blotches, pores, redness of cheeks and nose, freckles."""
    rows, columns = place.shape[:2]
    blotch = 0.05 * field(rng, rows, columns, 9) + 0.035 * field(rng, rows, columns, 34)
    pores = 0.035 * rng.standard_normal((rows, columns), np.float32)
    albedo *= (1 + skin.mottle * (blotch + pores))[..., None]
    red = _bump(place, 0.45, 6.95, 0.22, 0.2) + 0.9 * _bump(place, 0.0, 6.93, 0.14, 0.12)
    red += 0.4 * _bump(place, 0, 6.3, 0.2, 0.12) + 0.16 * skin.mottle * field(rng, rows, columns, 14)
    albedo *= 1 + skin.flush * red[..., None] * np.array([0.04, -0.16, -0.14], np.float32)
    if skin.freckles > 0:
        near = _bump(place, 0.3, 7.02, 0.35, 0.25)
        spots = np.clip(field(rng, rows, columns, 130) - 1.0, 0, 0.8) * near * skin.freckles
        albedo *= 1 - spots[..., None] * np.array([0.35, 0.5, 0.6], np.float32)


def _around_eyes(albedo: Floats, head: Head, skin: Skin) -> None:
    """Dark circles, the dark line of the lashes, and make-up."""
    place, lid = head.place, head.lid
    below = _bump(place, 0.28, 7.13, 0.17, 0.07)
    albedo *= 1 - skin.circles * below[..., None] * np.array([0.28, 0.34, 0.28], np.float32)
    upper = place[..., 1] > EYE_Y - 0.01
    near = lid < 0.2
    shade = np.where(near & upper, np.clip(1 - lid / 0.13, 0, 1), 0) * skin.shadow
    mix(albedo, skin.shadow_colour, shade.astype(np.float32))
    reach = np.where(upper, 0.026 + 0.014 * skin.liner, 0.012 + 0.007 * skin.liner)
    line = np.clip(1.25 - lid / reach, 0, 1) * np.where(upper, 0.85, 0.4 + 0.3 * skin.liner)
    mix(albedo, np.float32(0.35) * skin.hair * np.float32(0.5), line.astype(np.float32))


def _brows(albedo: Floats, place: Floats, skin: Skin, rng: np.random.Generator) -> None:
    """Two arched bands of short hairs, a little different left and right."""
    height, thickness, arch, slope, length, density = skin.brow
    x = np.abs(place[..., 0])
    along = (x - 0.1) / length
    middle = EYE_Y + height + slope * (along - 0.5) + arch * np.sin(np.clip(along * 1.15 - 0.1, 0, 1) * np.pi)
    half = thickness * np.clip(1.15 - 0.75 * along, 0.25, 1.0)
    rows, columns = x.shape
    comb = field(rng, rows, columns, 110) + 0.8 * field(rng, rows, columns, 210)
    across = np.abs(place[..., 1] - middle) / half
    ends = np.clip((x - 0.08) / 0.05, 0, 1) * np.clip((0.1 + length - x) / 0.08, 0, 1)
    body = np.clip(1.5 - 1.3 * across + 0.16 * comb, 0, 1) * ends * (place[..., 2] > 0.9)
    mix(albedo, skin.hair * np.float32(0.7), (body * density).astype(np.float32))


def _wrinkles(albedo: Floats, place: Floats, skin: Skin, rng: np.random.Generator) -> None:
    """Forehead lines and the fold from nose to mouth, as faint darkening."""
    x, y = np.abs(place[..., 0]), place[..., 1]
    wave = 0.02 * np.sin(place[..., 0] * 9 + rng.uniform(0, 6))
    lines = np.clip(np.cos((y + wave + 0.06 * x**2) * 2 * np.pi / 0.13) - 0.6, 0, 1) * 2
    lines *= _bump(place, 0, 7.8, 0.38, 0.15) * 0.35 * skin.wrinkles
    fold = np.exp(-(((x - 0.2 - 0.42 * np.clip(6.95 - y, 0, 1)) / 0.022) ** 2)) * ((y < 6.95) & (y > 6.55))
    lines += fold * np.clip((y - 6.5) / 0.2, 0, 1) * (0.08 + 0.3 * skin.wrinkles)
    albedo *= 1 - lines[..., None] * np.array([0.55, 0.65, 0.65], np.float32)


def _moles(albedo: Floats, place: Floats, skin: Skin, rng: np.random.Generator) -> None:
    """A few dark spots at places that belong to the identity."""
    for _ in range(skin.moles):
        x, y = rng.uniform(-0.6, 0.6), rng.uniform(6.3, 7.9)
        size, dark = rng.uniform(0.008, 0.02), rng.uniform(0.4, 0.85)
        band = slice(*np.flatnonzero(np.abs(np.linspace(TOP, BOTTOM, len(place)) - y) < 0.05)[[0, -1]])
        near = place[band]
        away = ((near[..., 0] - x) ** 2 + (near[..., 1] - y) ** 2) / size**2
        spot = np.where(near[..., 2] > 0.7, np.clip(1.3 - away, 0, 1), 0) * dark
        mix(albedo[band], skin.colour * np.float32(0.25), spot.astype(np.float32))


def paint_skin(head: Head, skin: Skin, rng: np.random.Generator) -> Floats:
    """Return the albedo [H, W, 3] of an identity's skin in linear light, over the maps of the head."""
    place = head.place
    rows, columns = place.shape[:2]
    albedo = np.tile(skin.colour, (rows, columns, 1)).astype(np.float32)
    _complexion(albedo, place, skin, rng)
    _wrinkles(albedo, place, skin, rng)
    _around_eyes(albedo, head, skin)
    lip_noise = 1 + 0.06 * field(rng, rows, columns, 90)
    mix(albedo, skin.lips, head.lips * 0.85 * np.clip(lip_noise, 0.7, 1.15))
    whiskers = beard(place, "full") * skin.stubble * (0.8 + 0.2 * field(rng, rows, columns, 150))
    mix(albedo, skin.hair * np.float32(0.8), np.clip(whiskers, 0, 0.6).astype(np.float32) * (1 - head.lips))
    rough = field(rng, rows, columns, 120)
    growth = np.clip(beard(place, skin.beard_style) * (1.0 + 0.2 * rough), 0, 1) * (1 - head.lips)
    mix(albedo, skin.hair * np.float32(0.7), growth.astype(np.float32) * np.float32(0.75))
    if skin.hairline is not None:
        above = above_hairline(place, *skin.hairline)
        share = np.clip(above / 0.12 + 0.2 * rough, 0, 1) * 0.9
        mix(albedo, skin.hair * np.float32(0.55), share.astype(np.float32))
    _brows(albedo, place, skin, rng)
    _moles(albedo, place, skin, rng)
    return np.clip(albedo, 0.003, 0.95)
