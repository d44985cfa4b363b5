"""The shape of an identity: phenotype weights and local changes, blended into one set of vertices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from proxylesskd.synthetic.arrays import Floats, Names
from proxylesskd.synthetic.head import Head

ANCESTRIES = ("african", "asian", "caucasian")
# Spread of the values of a local change by the part of the face it moves.
SPREAD = {
    "cheek": 0.44,
    "chin": 0.46,
    "ear": 0.3,
    "eyebrows": 0.55,
    "eye": 0.47,
    "forehead": 0.4,
    "head": 0.28,
    "mouth": 0.47,
    "nose": 0.46,
}
BUILDS = ("min", "average", "max")


@dataclass(frozen=True)
class Phenotype:
    """What MakeHuman's macro shapes are weighed by.

    Attributes:
        female: 0 (male) to 1.
        age: 0.5 (about 18 years) to 1 (old).
        muscle: 0..1, as is ``weight``.
        ancestry: [3] shares of African, Asian and European, summing to 1.
    """

    female: float
    age: float
    muscle: float
    weight: float
    ancestry: Floats


def draw_phenotype(rng: np.random.Generator) -> Phenotype:
    """Draw a grown-up."""
    female = float(np.clip(rng.choice([0.0, 1.0]) + rng.normal(0, 0.14), 0, 1))
    age = float(0.5 + 0.5 * rng.beta(1.1, 1.7))
    muscle, weight = (float(np.clip(rng.normal(0.5, 0.26), 0, 1)) for _ in range(2))
    return Phenotype(female, age, muscle, weight, rng.dirichlet([0.4, 0.4, 0.4]))


def _hat(value: float, names: tuple[str, ...], anchors: tuple[float, ...]) -> dict[str, float]:
    """Return the weights of linear interpolation between anchors."""
    return {name: float(np.interp(value, anchors, np.eye(len(anchors))[i])) for i, name in enumerate(names)}


def macro_weights(phenotype: Phenotype, names: Names) -> Floats:
    """Return the weight [M] of each macro shape: the product of the weights of the words in its name."""
    weight = {"universal": 1.0, "male": 1 - phenotype.female, "female": phenotype.female}
    weight |= _hat(phenotype.age, ("child", "young", "old"), (1 / 3, 2 / 3, 1.0))
    weight |= _hat(phenotype.muscle, tuple(f"{b}muscle" for b in BUILDS), (0.0, 0.5, 1.0))
    weight |= _hat(phenotype.weight, tuple(f"{b}weight" for b in BUILDS), (0.0, 0.5, 1.0))
    weight |= dict(zip(ANCESTRIES, phenotype.ancestry.tolist(), strict=True))
    return np.array([np.prod([weight[word] for word in name.split("-")]) for name in names], np.float32)


def draw_local(rng: np.random.Generator, names: Names) -> Floats:
    """Draw the value [L] in -1..1 of each local change; left and right agree but for a little asymmetry."""
    drawn: dict[str, float] = {}
    values = np.zeros(len(names), np.float32)
    for i, name in enumerate(names):
        stem = name[2:] if name.startswith(("l-", "r-")) else str(name)
        spread = SPREAD[stem.split("-")[0]]
        if stem not in drawn:
            drawn[stem] = float(rng.normal(0, spread))
        uneven = rng.normal(0, 0.06) if stem != name else 0.0
        values[i] = np.clip(drawn[stem] + uneven, -0.95, 0.95)
    return values


def local_weights(values: Floats) -> Floats:
    """Split values [L] into the weights [L, 2] of their positive and negative shapes."""
    return np.stack([np.maximum(values, 0), np.maximum(-values, 0)], 1)


def blend(head: Head, macro: Floats, local: Floats) -> Floats:
    """Return the vertices [V, 3] of the head with macro weights [M] and local weights [L, 2]."""
    # einsum, not a BLAS product: its sums do not depend on the number of threads.
    moved = np.einsum("m,mvx->vx", macro, head.macro) + np.einsum("ls,lsvx->vx", local, head.local)
    return settled(head, head.vertices + moved)


def settled(head: Head, shaped: Floats) -> Floats:
    """Return vertices [V, 3] moved and scaled so that eyes and skull sit where those of the neutral head do.

    Macro shapes resize the whole body; the picture is aligned anyway, and hair grows in one frame for all.
    """
    skull = (head.vertices[:, 1] > 6.5) & (np.abs(head.vertices[:, 0]) < 0.75)
    spread = [np.linalg.norm(v[skull] - v[skull].mean(0), axis=1).mean() for v in (head.vertices, shaped)]
    eyes = head.eyes.ravel()
    scaled = (shaped - shaped[eyes].mean(0)) * np.float32(spread[0] / spread[1])
    placed: Floats = (scaled + head.vertices[eyes].mean(0)).astype(np.float32)
    return placed
