"""A small head built from formulas: an egg with two eyeballs, so that nothing needs MakeHuman's files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from proxylesskd.synthetic.atlas import _cylinder, atlas_coordinates
from proxylesskd.synthetic.head import CLOTH, EYE, MOUTH, SKIN, TEETH, Head, head_path, load_head, save_head

CENTRE, RADII = np.array([0.0, 7.25, 0.5]), np.array([0.75, 1.15, 0.95])
MACROS = ["universal-male-young-averagemuscle-averageweight", "universal-female-young-averagemuscle-averageweight"]
MACROS += ["african-male-young", "asian-female-old", "caucasian-female-young"]
LOCALS = ["nose-hump-incr", "l-eye-trans-out", "r-eye-trans-out", "head-round", "l-ear-lobe-incr", "r-ear-lobe-incr"]
LOCALS += ["mouth-scale-horiz-incr", "chin-width-incr", "cheek-x-incr", "forehead-x-incr", "eyebrows-angle-up"]
ACTIONS = ["browInnerUp", "eyeBlinkLeft", "eyeBlinkRight", "jawOpen", "mouthSmileLeft", "mouthSmileRight"]


def make_ball(centre: np.ndarray, radii: np.ndarray, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Return vertices and outward triangles of an ellipsoid."""
    down = np.linspace(0.03, np.pi - 0.03, rows)[:, None]
    around = np.linspace(0, 2 * np.pi, columns, endpoint=False)[None]
    unit = np.stack(np.broadcast_arrays(np.sin(down) * np.sin(around), np.cos(down), np.sin(down) * np.cos(around)), -1)
    faces = []
    for r in range(rows - 1):
        for c in range(columns):
            a, b = r * columns + c, r * columns + (c + 1) % columns
            faces += [[a, a + columns, b], [b, a + columns, b + columns]]
    return (centre + unit.reshape(-1, 3) * radii).astype(np.float32), np.array(faces, np.int32)


def make_head() -> Head:
    skull, faces = make_ball(CENTRE, RADII, 40, 48)
    parts, triangles, kinds, eyes = [skull], [faces], [np.full(len(faces), SKIN)], []
    for sign in (-1, 1):
        eye, eye_faces = make_ball(np.array([sign * 0.308, 7.284, 1.32]), np.full(3, 0.14), 10, 12)
        start = sum(len(p) for p in parts)
        eyes.append(np.arange(start, start + len(eye)))
        parts.append(eye)
        triangles.append(eye_faces + start)
        kinds.append(np.full(len(eye_faces), EYE))
    vertices, kind = np.concatenate(parts), np.concatenate(kinds).astype(np.uint8)
    kind[:40], kind[-3:] = CLOTH, [MOUTH, TEETH, TEETH]
    rng = np.random.default_rng(5)

    def near(x: float, y: float) -> int:
        front = np.where(skull[:, 2] > 0.8, (skull[:, 0] - x) ** 2 + (skull[:, 1] - y) ** 2, 9)
        return int(front.argmin())

    def offsets(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.01, (*shape, len(vertices), 3))

    place = _cylinder()[::4, ::4]
    eye_fronts = np.array([[-0.308, 7.35, 1.2], [0.308, 7.35, 1.2]], np.float32)
    return Head(
        vertices=vertices,
        triangles=np.concatenate(triangles),
        kind=kind,
        atlas=atlas_coordinates(vertices),
        openness=np.full(len(vertices), 0.8, np.float32),
        ear=np.abs(vertices[:, 0]) > 0.74,
        eyes=np.stack(eyes).astype(np.int32),
        landmarks=np.array([near(0, 6.94), near(-0.26, 6.61), near(0.26, 6.61)], np.int32),
        macro=offsets(len(MACROS)).astype(np.float32),
        macro_names=np.array(MACROS),
        local=offsets(len(LOCALS), 2).astype(np.float32),
        local_names=np.array(LOCALS),
        actions=offsets(len(ACTIONS)).astype(np.float32),
        action_names=np.array(ACTIONS),
        place=place,
        lips=(np.hypot(place[..., 0] / 0.26, (place[..., 1] - 6.61) / 0.09) < 1).astype(np.float32),
        lid=np.linalg.norm(place[:, :, None] - eye_fronts, axis=-1).min(-1).astype(np.float32),
    )


@pytest.fixture
def ball() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    return make_ball


@pytest.fixture(scope="session")
def head() -> Head:
    return make_head()


@pytest.fixture
def cached_head(head: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Head:
    """Put the small head where the product looks for the real one."""
    from proxylesskd.synthetic import faces

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    save_head(head, head_path())
    load_head.cache_clear()
    faces._person.cache_clear()
    yield head
    load_head.cache_clear()
    faces._person.cache_clear()
