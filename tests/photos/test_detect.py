"""YuNet: what is asked of it and what is made of its answer, by a stand-in network; and itself where its file is."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest

from proxylesskd.errors import CorruptImageError, UserError
from proxylesskd.photos import detect as module
from proxylesskd.photos.detect import MODEL_VARIABLE, YuNet, find_model, sides_for, to_faces
from proxylesskd.photos.transform import TEMPLATE
from tests.photos.pictures import Pixels, photo

cv2 = pytest.importorskip("cv2")
BESIDE = Path(__file__).parents[3] / "shared" / "data" / "teachers" / "face_detection_yunet_2023mar_int8bq.onnx"
MODEL = Path(os.environ.get(MODEL_VARIABLE) or BESIDE)
needs_model = pytest.mark.skipif(not MODEL.is_file(), reason=f"no YuNet: {MODEL_VARIABLE} names none")


class Network:
    """Answers with one face at fixed shares of what it sees, once that is as large as ``least``."""

    least = 0
    rows: npt.NDArray[np.float32] | None = None
    error: Exception | None = None

    def __init__(self) -> None:
        self.size = (0, 0)
        self.seen: list[tuple[int, int]] = []
        self.colours: list[list[int]] = []

    def setInputSize(self, size: tuple[int, int]) -> None:
        self.size = size

    def detect(self, bgr: Pixels) -> tuple[int, npt.NDArray[np.float32] | None]:
        assert self.size == (bgr.shape[1], bgr.shape[0])
        self.seen.append(bgr.shape[:2])
        self.colours.append(bgr[0, 0].tolist())
        if self.error is not None and len(self.seen) > 1:
            raise self.error
        if max(bgr.shape) < self.least:
            return 1, None
        if self.rows is not None:
            return 1, self.rows
        height, width = bgr.shape[:2]
        points = (np.array([[0.4, 0.4], [0.6, 0.4], [0.5, 0.5], [0.42, 0.6], [0.58, 0.6]]) * (width, height)) - 0.5
        box = [0.3 * width, 0.3 * height, 0.4 * width, 0.4 * height]
        return 1, np.array([[*box, *points.ravel(), 0.9]], np.float32)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    made = Network()
    monkeypatch.setattr(cv2, "FaceDetectorYN", SimpleNamespace(create=lambda *_: made))
    return made


@pytest.mark.parametrize(
    ("longest", "sides"),
    [
        (250, [250, 320]),
        (320, [320]),
        (500, [500, 320]),
        (640, [640, 320]),
        (1000, [640, 320]),
        (1280, [640, 1280, 320]),
        (6000, [640, 1280, 320]),
        (40, [40, 320]),
    ],
)
def test_how_large_photos_are_looked_at(longest: int, sides: list[int]) -> None:
    assert sides_for(longest) == sides


@pytest.mark.parametrize(("height", "width"), [(240, 250), (3000, 4000), (1700, 900)])
def test_landmarks_come_back_in_pixels_of_the_photo(network: Network, height: int, width: int) -> None:
    faces = YuNet("any.onnx")(np.zeros((height, width, 3), np.uint8))
    expected = np.array([[0.4, 0.4], [0.6, 0.4], [0.5, 0.5], [0.42, 0.6], [0.58, 0.6]]) * (width, height) - 0.5
    np.testing.assert_allclose(faces.landmarks[0], expected, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(faces.boxes[0], [0.3 * width, 0.3 * height, 0.4 * width, 0.4 * height], rtol=1e-5)
    assert max(network.seen[-1]) == min(640, max(height, width))


def test_looks_again_until_a_face_is_found(network: Network) -> None:
    network.least = 1000
    assert len(YuNet("any.onnx")(np.zeros((1000, 2000, 3), np.uint8))) == 1
    assert network.seen[1:] == [(320, 640), (640, 1280)]
    network.least = 10_000
    assert len(YuNet("any.onnx")(np.zeros((1000, 2000, 3), np.uint8))) == 0
    assert network.seen[-1] == (160, 320)


def test_gets_blue_first_and_strips_padded(network: Network) -> None:
    strip = np.zeros((10, 5000, 3), np.uint8)
    strip[:] = (200, 100, 50)
    YuNet("any.onnx")(strip)
    assert network.seen[-1] == (32, 640)
    assert network.colours[-1] == [50, 100, 200]
    assert len(YuNet("any.onnx")(np.zeros((1, 1, 3), np.uint8)))


def test_rows_that_mean_nothing_are_dropped_and_the_surest_is_first() -> None:
    row = np.array([10, 20, 30, 40, *TEMPLATE.ravel(), 0.7])
    rows = np.stack([row, row, row, row])
    rows[1, 14], rows[2, 5], rows[3, 2] = 0.95, np.nan, -3
    faces = to_faces(rows, (2.0, 3.0))
    assert faces.scores.tolist() == [0.95, 0.7]
    for i, (x, y) in enumerate(TEMPLATE):
        np.testing.assert_allclose(faces.landmarks[0, i], [2 * (x + 0.5) - 0.5, 3 * (y + 0.5) - 0.5])
    np.testing.assert_allclose(faces.boxes[0], [20, 60, 60, 120])


def test_a_photo_that_opencv_refuses_is_told_of(network: Network) -> None:
    network.error = cv2.error("no such size")
    with pytest.raises(CorruptImageError, match="detector can take"):
        YuNet("any.onnx")(photo())


def test_every_thread_has_a_network_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Network] = []

    def create(*_: object) -> Network:
        made.append(Network())
        return made[-1]

    monkeypatch.setattr(cv2, "FaceDetectorYN", SimpleNamespace(create=create))
    yunet = YuNet("any.onnx")
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(yunet, [photo()] * 30))
    assert 2 <= len(made) <= 4
    assert sum(len(network.seen) for network in made) == 31


def test_a_network_with_another_answer_is_refused(network: Network) -> None:
    network.rows = np.zeros((2, 6), np.float32)
    with pytest.raises(UserError, match="five landmarks"):
        YuNet("any.onnx")


def test_no_file_says_where_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MODEL_VARIABLE, raising=False)
    with pytest.raises(UserError, match=r"found neither; .*opencv_zoo"):
        find_model(None)
    with pytest.raises(UserError, match=r"found none at .*opencv_zoo"):
        find_model(tmp_path / "none.onnx")
    there = tmp_path / "yunet.onnx"
    there.write_bytes(b"")
    monkeypatch.setenv(MODEL_VARIABLE, str(there))
    assert find_model(None) == there


@pytest.mark.parametrize("data", [b"", b"hello", bytes(5000)])
def test_a_file_that_is_no_network_is_refused(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "other.onnx"
    file.write_bytes(data)
    with pytest.raises(UserError, match=r"YuNet that OpenCV .* can run, found"):
        YuNet(file)


@pytest.mark.parametrize("score", [0, 1, -0.5, float("nan")])
def test_scores_out_of_range_are_refused(score: float) -> None:
    with pytest.raises(UserError, match="between 0 and 1"):
        YuNet("any.onnx", score=score)


def test_the_log_of_opencv_is_left_as_it_was(network: Network) -> None:
    log = SimpleNamespace(LOG_LEVEL_ERROR=2, level=3)

    def set_level(level: int) -> int:
        before, log.level = log.level, level
        return before

    log.setLogLevel = set_level
    with module._hushed(SimpleNamespace(utils=SimpleNamespace(logging=log))):
        assert log.level == 2
    assert log.level == 3
    with module._hushed(SimpleNamespace(utils=SimpleNamespace())):
        pass


@pytest.fixture(scope="module")
def rendered() -> list[Pixels]:
    pytest.importorskip("anny", reason="rendering a face to find needs the extra 'synthetic'")
    from proxylesskd.data.decode import decode
    from proxylesskd.synthetic.faces import face_jpeg

    return [decode(face_jpeg(0, identity, 0)).transpose(1, 2, 0) for identity in (0, 2, 3)]


@needs_model
@pytest.mark.parametrize("scale", [1, 2, 5])
def test_yunet_finds_rendered_faces_where_they_are(rendered: list[Pixels], scale: int) -> None:
    yunet, side = YuNet(MODEL), 112 * scale
    for face in rendered:
        scene = np.full((side + 90 * scale, side + 140 * scale, 3), 120, np.uint8)
        at = np.array([60, 40]) * scale
        scene[at[1] : at[1] + side, at[0] : at[0] + side] = cv2.resize(face, (side, side))
        (found,) = yunet(scene).landmarks
        truth = (TEMPLATE + 0.5) * scale - 0.5 + at
        assert np.hypot(*(found - truth).T).mean() < 6 * scale  # the eyes are 35 apart


@needs_model
def test_yunet_finds_nothing_where_nothing_is() -> None:
    assert len(YuNet(MODEL)(photo(height=300, width=400))) == 0
