"""The page's own arithmetic, run by node, against numpy, OpenCV and the library."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from proxylesskd.export.contract import TEMPLATE as EXPORTED
from proxylesskd.export.contract import Contract, prepare
from proxylesskd.models.preprocess import Preprocessing
from proxylesskd.photos.transform import crop, similarity

pytest.importorskip("cv2")
PAGE = Path(__file__).parents[2] / "src" / "proxylesskd" / "web" / "page"
pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="needs node, which runs the page's modules")
RANDOM = np.random.default_rng(5)
LANDMARKS = np.array([[71.0, 88.0], [124.0, 80.0], [101.0, 118.0], [82.0, 146.0], [127.0, 139.0]])


def ask(module: str, expression: str, **given: Any) -> Any:
    """Return what an expression of a module ``m`` and the given values is, by way of JSON."""
    script = (
        f"import * as m from {json.dumps((PAGE / module).as_uri())};"
        "const given = JSON.parse(require('fs').readFileSync(0, 'utf8'));"
        f"console.log(JSON.stringify({expression}));"
    )
    script = "import { createRequire } from 'module'; const require = createRequire('/');" + script
    command = ["node", "--input-type=module", "--experimental-default-type=module", "-e", script]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def image(pixels: np.ndarray) -> dict[str, Any]:
    """Return ``[H, W, 3] uint8`` as the page holds images."""
    opaque = np.concatenate([pixels, np.full((*pixels.shape[:2], 1), 255, np.uint8)], axis=2)
    return {"width": pixels.shape[1], "height": pixels.shape[0], "data": opaque.ravel().tolist()}


def smooth(height: int, width: int) -> np.ndarray:
    import cv2

    small = RANDOM.integers(0, 256, (max(2, height // 9), max(2, width // 9), 3), dtype=np.uint8)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC))


def test_the_template_is_the_contract_s() -> None:
    assert np.allclose(ask("geometry.js", "m.TEMPLATE"), EXPORTED)


def test_the_transform_is_the_library_s() -> None:
    a, b, x, y = ask("geometry.js", "m.similarity(given.points)", points=LANDMARKS.tolist())
    assert np.allclose([[a, -b, x], [b, a, y]], similarity(LANDMARKS), atol=1e-9)


@pytest.mark.parametrize("factor", [1.0, 2.6, 4.2])
def test_faces_are_cut_out_as_the_library_does(factor: float) -> None:
    photo, points = smooth(int(200 * factor), int(190 * factor)), LANDMARKS * factor
    found = ask(
        "geometry.js", "[...m.crop(given.photo, given.points).data]", photo=image(photo), points=points.tolist()
    )
    mine = np.array(found).reshape(112, 112, 4)
    theirs = crop(photo, points, antialias=True).astype(int)
    assert (mine[..., 3] == 255).all()
    apart = np.abs(mine[..., :3] - theirs)
    assert apart.mean() < 0.6  # OpenCV's weights have five bits
    assert apart.max() <= 6


def test_photos_are_shrunk_by_area() -> None:
    import cv2

    photo = smooth(97, 143)
    found = ask("geometry.js", "[...m.shrunk(given.photo, 61, 40).data]", photo=image(photo))
    theirs = cv2.resize(photo, (61, 40), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(np.array(found).reshape(40, 61, 4)[..., :3] - theirs).max() <= 1


@pytest.mark.parametrize(
    ("size", "order", "layout", "dtype"),
    [(112, "rgb", "nchw", "float32"), (40, "bgr", "nchw", "float32"), (112, "rgb", "nhwc", "uint8")],
)
def test_inputs_are_those_of_the_contract(size: int, order: Any, layout: Any, dtype: str) -> None:
    mean, std = (0.0, 1.0) if dtype == "uint8" else (127.5, 128.0)
    preprocessing = Preprocessing(size, mean, std, order, layout)
    face = smooth(112, 112)
    contract = Contract(preprocessing, 8, False, EXPORTED, {}, dtype).to_dict()
    expression = "(({values, dims}) => ({values: [...values], dims}))(m.prepare(given.face, given.contract))"
    found = ask("student.js", expression, face=image(face), contract=contract)
    wanted = prepare(face.transpose(2, 0, 1)[None], preprocessing, dtype)
    assert found["dims"] == list(wanted.shape)
    assert np.allclose(found["values"], wanted.ravel(), atol=1e-5)


def test_similarity_and_probability() -> None:
    one, other = RANDOM.normal(size=(2, 32))
    wanted = float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
    assert ask("student.js", "m.cosine(given.a, given.b)", a=one.tolist(), b=other.tolist()) == pytest.approx(wanted)
    curve = {"calibration": {"single": {"slope": 10.0, "intercept": -4.0}}}
    found = ask("student.js", "m.probability(0.5, given.contract)", contract=curve)
    assert found == pytest.approx(1 / (1 + np.exp(-1.0)))
    assert ask("student.js", "m.probability(0.5, {})") is None


def by_loops(outputs: dict[str, np.ndarray], width: int, height: int) -> list[tuple[float, list[float]]]:
    """Scores and first landmarks above 0.6, boxes that overlap by more than 0.3 left out."""
    found = []
    for stride in (8, 16, 32):
        for place in range((width // stride) * (height // stride)):
            row, column = divmod(place, width // stride)
            cls, obj = (np.clip(outputs[f"{kind}_{stride}"][place], 0, 1) for kind in ("cls", "obj"))
            score = float(np.sqrt(cls * obj))
            if score < 0.6:
                continue
            dx, dy, dw, dh = outputs[f"bbox_{stride}"].reshape(-1, 4)[place]
            wide, high = np.exp(dw) * stride, np.exp(dh) * stride
            box = ((column + dx) * stride - wide / 2, (row + dy) * stride - high / 2, wide, high)
            eye = outputs[f"kps_{stride}"].reshape(-1, 10)[place, :2]
            found.append((score, box, [float((column + eye[0]) * stride), float((row + eye[1]) * stride)]))
    kept: list[tuple[float, Any, list[float]]] = []
    for one in sorted(found, key=lambda each: -each[0]):
        if all(_overlap(one[1], other[1]) <= 0.3 for other in kept):
            kept.append(one)
    return [(score, eye) for score, _, eye in kept]


def _overlap(one: Any, other: Any) -> float:
    across = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    down = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    both = max(0.0, across) * max(0.0, down)
    return float(both / (one[2] * one[3] + other[2] * other[3] - both))


def test_faces_are_read_out_of_the_detector_s_outputs() -> None:
    width, height = 96, 64
    outputs: dict[str, np.ndarray] = {}
    for stride in (8, 16, 32):
        places = (width // stride) * (height // stride)
        outputs |= {f"{kind}_{stride}": RANDOM.uniform(0.2, 1.1, places) for kind in ("cls", "obj")}
        outputs[f"bbox_{stride}"] = RANDOM.normal(0, 0.5, 4 * places)
        outputs[f"kps_{stride}"] = RANDOM.normal(0, 1, 10 * places)
    wanted = by_loops(outputs, width, height)
    found = ask("yunet.js", "m.faces(given.outputs, 96)", outputs={name: one.tolist() for name, one in outputs.items()})
    assert len(found) == len(wanted) > 3
    for mine, (score, eye) in zip(found, wanted, strict=True):
        assert mine["score"] == pytest.approx(score)
        assert mine["landmarks"][0] == pytest.approx(eye)


def test_the_detector_is_given_bgr_in_whole_strides() -> None:
    photo = smooth(33, 40)
    expression = "(({values, dims}) => ({values: [...values], dims}))(m.input(given.photo))"
    found = ask("yunet.js", expression, photo=image(photo))
    assert found["dims"] == [1, 3, 64, 64]
    wanted = np.zeros((3, 64, 64))
    wanted[:, :33, :40] = photo.transpose(2, 0, 1)[::-1]
    assert np.array_equal(np.array(found["values"]).reshape(3, 64, 64), wanted)
