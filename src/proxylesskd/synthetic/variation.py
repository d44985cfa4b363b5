"""What differs between two pictures of one person: pose, expression, light, camera, things worn, place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from proxylesskd.synthetic.arrays import Floats

EXPRESSIONS: dict[str, dict[str, float]] = {
    "neutral": {},
    "smile": {"mouthSmile": 0.7, "cheekSquint": 0.4, "eyeSquint": 0.15, "mouthDimple": 0.2},
    "laugh": {"mouthSmile": 0.85, "jawOpen": 0.28, "cheekSquint": 0.6, "mouthUpperUp": 0.35, "eyeSquint": 0.3},
    "talk": {"jawOpen": 0.25, "mouthFunnel": 0.25},
    "surprise": {"jawOpen": 0.3, "browInnerUp": 0.8, "browOuterUp": 0.7, "eyeWide": 0.6},
    "frown": {"browDown": 0.8, "mouthFrown": 0.45, "mouthPress": 0.3},
    "sad": {"browInnerUp": 0.8, "mouthFrown": 0.6, "mouthShrugLower": 0.3},
    "pout": {"mouthPucker": 0.5, "browDown": 0.2},
    "squint": {"eyeSquint": 0.8, "noseSneer": 0.3, "browDown": 0.4},
    "blink": {"eyeBlink": 0.9},
    "disgust": {"noseSneer": 0.8, "mouthUpperUp": 0.4, "browDown": 0.3},
}
ODDS = np.array([0.26, 0.22, 0.12, 0.1, 0.05, 0.06, 0.04, 0.04, 0.05, 0.03, 0.03])


@dataclass(frozen=True)
class Light:
    """Light on a face, in the camera's frame (x right, y up, z towards the camera), linear colours [3].

    Attributes:
        direction: [3] unit vector towards the key light; ``key`` its colour.
        sky, ground: colours of the light from above and below.
        shadow: share of the key light that shadows take away, 0..1.
    """

    direction: Floats
    key: Floats
    sky: Floats
    ground: Floats
    shadow: float

    def table(self) -> Floats:
        """Return direction, key, sky and ground as rows [4, 3]."""
        return np.stack([self.direction, self.key, self.sky, self.ground]).astype(np.float32)


@dataclass(frozen=True)
class Lens:
    """What camera and storage do: blur radius and noise in 112-pixel units, rows kept by low resolution."""

    blur: float
    noise: float
    rows: int
    contrast: float
    brightness: float
    tint: Floats
    grey: bool


@dataclass(frozen=True)
class Variation:
    """One picture.

    Attributes:
        yaw, pitch, roll: of the head in radians.
        distance: of the camera in decimetres.
        actions: strength of expressions by name of the head's actions.
        gaze: horizontal and vertical angle of the eyes relative to the head, radians.
        light, lens: see `Light` and `Lens`.
        glasses, mask: worn or not; ``hat``: ``none``, ``cap`` or ``beanie``.
        cloth: [3] colour of clothes; ``ware`` [3] colour of mask or hat.
        seed: of the background and of the noise.
    """

    yaw: float
    pitch: float
    roll: float
    distance: float
    actions: dict[str, float]
    gaze: tuple[float, float]
    light: Light
    lens: Lens
    glasses: bool
    mask: bool
    hat: str
    cloth: Floats
    ware: Floats
    seed: int


def _draw_actions(rng: np.random.Generator) -> dict[str, float]:
    """Draw an expression, with left and right a little apart, over a restless rest."""
    name = list(EXPRESSIONS)[int(rng.choice(len(ODDS), p=ODDS / ODDS.sum()))]
    strength = rng.uniform(0.5, 1.1)
    actions = {}
    for action, value in EXPRESSIONS[name].items():
        for side in ("", "Left", "Right"):
            actions[action + side] = value * strength * rng.uniform(0.85, 1.15)
    for action in ("browInnerUp", "mouthLeft", "mouthRight", "jawForward", "mouthPressLeft", "eyeSquintRight"):
        actions[action] = actions.get(action, 0.0) + float(rng.uniform(0, 0.18))
    lids = rng.uniform(0, 0.22)
    for side in ("Left", "Right"):
        actions[f"eyeBlink{side}"] = actions.get(f"eyeBlink{side}", 0.0) + float(lids)
    return actions


def _draw_light(rng: np.random.Generator) -> Light:
    """Draw a key light, warmer or cooler, over light from all around."""
    azimuth, elevation = np.clip(rng.normal(0, 0.65), -1.5, 1.5), rng.uniform(0.05, 1.05)
    direction = [np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)]
    warmth = rng.normal(0, 0.06)
    colour = np.array([1 + warmth, 1, 1 - 1.2 * warmth])
    share = rng.beta(2.2, 2.0)  # of the key light in the whole
    ambient_warmth = rng.normal(0, 0.05)
    ambient = np.array([1 + ambient_warmth, 1, 1 - ambient_warmth]) * (1 - 0.75 * share)
    ground = rng.uniform(0.25, 0.7)
    return Light(
        np.array(direction, np.float32),
        (1.25 * share * colour).astype(np.float32),
        (1.05 * ambient).astype(np.float32),
        (ground * ambient).astype(np.float32),
        float(rng.uniform(0.35, 0.95)),
    )


def _draw_lens(rng: np.random.Generator) -> Lens:
    """Draw the camera: mostly good, now and then blurred, coarse, noisy or grey."""
    cast = rng.normal(0, 0.035)
    return Lens(
        blur=float(rng.uniform(0.3, 1.3)) if rng.random() < 0.25 else 0.0,
        noise=float(rng.uniform(0.002, 0.012) if rng.random() < 0.8 else rng.uniform(0.012, 0.035)),
        rows=int(rng.integers(28, 72)) if rng.random() < 0.15 else 112,
        contrast=float(rng.normal(1.0, 0.1)),
        brightness=float(np.exp(rng.normal(0.0, 0.28))),
        tint=np.array([1 + cast, 1, 1 - cast], np.float32),
        grey=bool(rng.random() < 0.02),
    )


def _draw_ware(rng: np.random.Generator) -> Floats:
    """Draw the colour [3] of a mask or hat: often white, pale blue or black, else anything."""
    common = np.array([[0.75, 0.77, 0.78], [0.4, 0.58, 0.7], [0.02, 0.02, 0.022]])
    colour = common[rng.integers(3)] * rng.uniform(0.8, 1.1)
    other = rng.uniform(0.03, 0.6) * rng.uniform(0.3, 1.0, 3)
    return (colour if rng.random() < 0.5 else other).astype(np.float32)


def draw_variation(seed: int, identity: int, image: int, wears_glasses: float) -> Variation:
    """Draw what picture ``image`` of an identity looks like; a pure function of its arguments."""
    rng = np.random.default_rng([seed, identity, image + 1])
    yaw = np.deg2rad(np.clip(rng.normal(0, 24), -60, 60))
    covered = rng.random()
    return Variation(
        yaw=float(yaw),
        pitch=float(np.deg2rad(np.clip(rng.normal(0, 9), -28, 28))),
        roll=float(np.deg2rad(rng.normal(0, 6))),
        distance=float(rng.uniform(5.5, 16)),
        actions=_draw_actions(rng),
        gaze=(float(rng.normal(0, 0.14) - 0.35 * yaw * rng.random()), float(rng.normal(0, 0.07))),
        light=_draw_light(rng),
        lens=_draw_lens(rng),
        glasses=bool(rng.random() < wears_glasses),
        mask=bool(covered < 0.035),
        hat="cap" if 0.035 < covered < 0.07 else "beanie" if 0.07 < covered < 0.1 else "none",
        cloth=(rng.uniform(0.02, 0.7) * rng.uniform(0.3, 1.0, 3)).astype(np.float32),
        ware=_draw_ware(rng),
        seed=int(rng.integers(2**32)),
    )
