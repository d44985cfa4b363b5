"""Colours of people: skin by melanin, hair, iris and lips, in linear light."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from proxylesskd.synthetic.arrays import Floats

SKIN_SRGB = np.array([[246, 214, 198], [226, 182, 155], [188, 136, 103], [126, 84, 61], [70, 46, 36]])
HAIR_SRGB = {
    "black": (22, 18, 17),
    "dark": (42, 30, 24),
    "brown": (78, 52, 36),
    "chestnut": (104, 62, 40),
    "blond": (186, 148, 98),
    "ash": (140, 116, 90),
    "red": (142, 68, 36),
    "grey": (140, 138, 136),
    "white": (208, 206, 202),
}
IRIS_SRGB = {
    "dark": (48, 28, 18),
    "brown": (88, 52, 28),
    "hazel": (112, 86, 46),
    "green": (92, 110, 74),
    "blue": (92, 124, 156),
    "grey": (118, 130, 138),
}


def linear(srgb: npt.ArrayLike) -> Floats:
    """Return sRGB values 0..255 as linear light 0..1."""
    value = np.asarray(srgb, np.float64) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4).astype(np.float32)


def to_srgb(light: Floats) -> Floats:
    """Return linear light, clipped to 0..1, as sRGB 0..1."""
    value = np.clip(light, 0, 1)
    return np.where(value <= 0.0031308, 12.92 * value, 1.055 * value ** (1 / 2.4) - 0.055).astype(np.float32)


def draw_melanin(rng: np.random.Generator, ancestry: Floats) -> float:
    """Draw how dark a skin is, 0..1, from the shares [3] of African, Asian and European ancestry."""
    mean = ancestry @ np.array([0.74, 0.34, 0.14])
    return float(np.clip(rng.normal(mean, 0.1), 0.0, 1.0))


def draw_skin(rng: np.random.Generator, melanin: float) -> Floats:
    """Draw a skin colour [3] in linear light for a melanin share 0..1."""
    steps = np.linspace(0, 1, len(SKIN_SRGB))
    colour = np.array([np.interp(melanin, steps, SKIN_SRGB[:, c]) for c in range(3)])
    warmth = rng.normal(0, 1) * np.array([1.5, -1.0, -4.0]) + rng.normal(0, 1) * np.array([2.0, -3.0, -1.5])
    return linear(np.clip(colour + warmth, 8, 250))


def draw_hair(rng: np.random.Generator, melanin: float, age: float) -> Floats:
    """Draw a hair colour [3] in linear light; dark skin goes with dark hair, age with grey (age 0.5..1)."""
    light = np.clip(1 - melanin / 0.3, 0, 1)
    odds = {
        "black": 0.5 + 3 * melanin,
        "dark": 1.0,
        "brown": 0.25 + light,
        "chestnut": 0.1 + 0.6 * light,
        "blond": 0.9 * light,
        "ash": 0.5 * light,
        "red": 0.35 * light,
        "grey": 9 * max(0.0, age - 0.8),
        "white": 14 * max(0.0, age - 0.88),
    }
    return _jittered(rng, HAIR_SRGB, odds, 7)


def draw_iris(rng: np.random.Generator, melanin: float) -> Floats:
    """Draw an iris colour [3] in linear light."""
    light = np.clip(1 - melanin / 0.35, 0, 1)
    odds = {
        "dark": 0.3 + 2 * melanin,
        "brown": 0.6,
        "hazel": 0.6 * light,
        "green": 0.5 * light,
        "blue": 0.9 * light,
        "grey": 0.4 * light,
    }
    return _jittered(rng, IRIS_SRGB, odds, 8)


def _jittered(
    rng: np.random.Generator, table: dict[str, tuple[int, int, int]], odds: dict[str, float], spread: float
) -> Floats:
    """Draw a name by its odds and return its colour with a little variation of brightness and hue."""
    share = np.array(list(odds.values()))
    name = list(odds)[int(rng.choice(len(share), p=share / share.sum()))]
    colour = np.array(table[name]) * rng.uniform(0.85, 1.15) + rng.normal(0, spread, 3) * 0.4
    return linear(np.clip(colour, 4, 250))
