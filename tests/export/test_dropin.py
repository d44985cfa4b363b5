"""Exported files in other people's software, called as that software's own users call it."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from proxylesskd.export.assemble import KINDS, calling_of
from proxylesskd.export.contract import TEMPLATE, Contract
from proxylesskd.export.onnx import describe, embed_reference, float_file, frozen_copy
from proxylesskd.photos.transform import crop
from tests.export.conftest import PREPROCESSING, Exported

cv2 = pytest.importorskip("cv2")

EXAMPLE = Path(__file__).parents[2] / "examples" / "embed_with_onnxruntime.py"
# This network pools unevenly, for which OpenCV 4 lacks GatherND; no backbone of ours does.
OPENCV_5 = pytest.mark.skipif(int(cv2.__version__.split(".")[0]) < 5, reason="OpenCV 4 does not pool 13 into 4")
BOTH = pytest.mark.parametrize("flip", [False, True])
Array = npt.NDArray[Any]


def write(exported: Exported, folder: Path, kind: str, *, flip: bool = False) -> Path:
    """Write the network as a file of a kind: one of 56 pixels, BGR, mean 120 and std 64, so that a slip shows."""
    proto = float_file(exported.body, PREPROCESSING, KINDS[kind], flip_fusion=flip)
    calling = calling_of(PREPROCESSING, KINDS[kind])
    thresholds = {"single": {"1e-3": 0.25}}
    told = Contract(calling, 6, True, TEMPLATE, {}, KINDS[kind].dtype, flip, thresholds=thresholds)
    describe(proto, told)
    path = folder / f"{kind}.onnx"
    onnx.save(proto, path)
    return path


def wanted(exported: Exported, faces: Array, *, flip: bool = False) -> Array:
    """Return ``[M, D]`` of unit length by PyTorch."""
    found = embed_reference(frozen_copy(exported.model), PREPROCESSING, faces, flip=flip)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))


def as_bgr(faces: Array) -> list[Array]:
    """Return faces as OpenCV reads them."""
    return [np.ascontiguousarray(face.transpose(1, 2, 0)[..., ::-1]) for face in faces]


def worst(found: Array, expected: Array) -> float:
    """Return the least cosine of two sets of embeddings, row by row."""
    found = np.asarray(found, np.float64)
    return float((found / np.linalg.norm(found, axis=1, keepdims=True) * expected).sum(axis=1).min())


def photo(faces: Array) -> tuple[Array, Array, Array]:
    """Return a BGR photo of 128x128, the five points of a turned face in it, and the crop that we make of it."""
    picture = np.kron(faces[0].transpose(1, 2, 0)[:64, :64], np.ones((2, 2, 1), np.uint8))
    turn = np.array([[0.9, -0.2], [0.2, 0.9]])
    points = (np.array(TEMPLATE) - 56) @ turn.T * 0.8 + 60
    ours = crop(np.ascontiguousarray(picture), points.astype(np.float32))
    return np.ascontiguousarray(picture[..., ::-1]), points.astype(np.float32), ours.transpose(2, 0, 1)[None]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_example_reads_the_preprocessing_in_the_file(exported: Exported, tmp_path: Path, kind: str) -> None:
    import onnxruntime

    path, faces = write(exported, tmp_path, kind), exported.faces[:4]
    for number, face in enumerate(faces):
        Image.fromarray(face.transpose(1, 2, 0)).save(tmp_path / f"{number}.png")
    embed = runpy.run_path(str(EXAMPLE))["embed"]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = embed(session, [str(tmp_path / f"{number}.png") for number in range(4)])
    assert worst(found, wanted(exported, faces)) > 0.9999


def test_the_example_needs_nothing_of_ours(exported: Exported, tmp_path: Path) -> None:
    path, faces = write(exported, tmp_path, "pixels"), exported.faces[:2]
    for name, face in zip("ab", faces, strict=True):
        Image.fromarray(face.transpose(1, 2, 0)).save(tmp_path / f"{name}.png")
    without = "import sys, runpy; sys.modules['proxylesskd'] = sys.modules['torch'] = None; "
    run = f"{without}runpy.run_path({str(EXAMPLE)!r}, run_name='__main__')"
    given = [str(path), str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    done = subprocess.run([sys.executable, "-c", run, *given], capture_output=True, text=True, check=True)
    first, second = wanted(exported, faces)
    assert f"similarity {first @ second:.4f}, of one person from 0.25" in done.stdout


@OPENCV_5
@BOTH
def test_opencv_takes_it_as_its_recogniser(exported: Exported, tmp_path: Path, flip: bool) -> None:
    recogniser = cv2.FaceRecognizerSF.create(str(write(exported, tmp_path, "pixels", flip=flip)), "")
    faces = exported.faces[:3]
    found = np.concatenate([recogniser.feature(face) for face in as_bgr(faces)])
    expected = wanted(exported, faces, flip=flip)
    assert worst(found, expected) > 0.9999
    assert recogniser.match(found[:1], found[1:2], 0) == pytest.approx(float(expected[0] @ expected[1]), abs=1e-4)


@OPENCV_5
def test_opencv_aligns_as_we_do(exported: Exported, tmp_path: Path) -> None:
    recogniser = cv2.FaceRecognizerSF.create(str(write(exported, tmp_path, "pixels")), "")
    picture, points, ours = photo(exported.faces)
    row = np.concatenate([[10, 10, 100, 100], points.ravel(), [0.9]]).astype(np.float32)[None]
    found = recogniser.feature(recogniser.alignCrop(picture, row))
    assert worst(found, wanted(exported, ours)) > 0.999


def test_opencv_4_knows_every_operator(exported: Exported, tmp_path: Path) -> None:
    # its importer has neither of these, and the OpenCV of these tests may be a later one
    for flip in (False, True):
        nodes = onnx.load(write(exported, tmp_path, "pixels", flip=flip)).graph.node
        assert not {"LpNormalization", "Slice", "PRelu"} & {node.op_type for node in nodes}


@BOTH
def test_insightface_takes_it_from_its_model_zoo(exported: Exported, tmp_path: Path, flip: bool) -> None:
    zoo = pytest.importorskip("insightface.model_zoo", reason="insightface is not installed")
    model = zoo.get_model(str(write(exported, tmp_path, "pixels", flip=flip)), providers=["CPUExecutionProvider"])
    assert (type(model).__name__, model.taskname, model.input_size) == ("ArcFaceONNX", "recognition", (112, 112))
    assert (model.input_mean, model.input_std) == (0.0, 1.0)
    expected = wanted(exported, exported.faces, flip=flip)
    assert worst(model.get_feat(as_bgr(exported.faces)), expected) > 0.9999
    assert worst(model.get_feat(as_bgr(exported.faces)[2]), expected[2:3]) > 0.9999


def test_insightface_aligns_and_embeds_every_face_of_a_photo(exported: Exported, tmp_path: Path) -> None:
    app = pytest.importorskip("insightface.app", reason="insightface is not installed")
    picture, points, ours = photo(exported.faces)
    write_detector(tmp_path / "detector.onnx", points)
    write(exported, tmp_path, "pixels")
    analysis = app.FaceAnalysis(str(tmp_path), providers=["CPUExecutionProvider"])
    analysis.prepare(ctx_id=-1, det_size=(128, 128))
    (face,) = analysis.get(picture)
    assert np.abs(face.kps - points).max() < 0.01
    assert worst(face.normed_embedding[None], wanted(exported, ours)) > 0.999


def test_uniface_takes_it_with_its_preprocessing_switched_off(exported: Exported, tmp_path: Path) -> None:
    base = pytest.importorskip("uniface.recognition.base", reason="uniface is not installed")

    class Student(base.BaseRecognizer):  # type: ignore[name-defined, misc]
        def __init__(self, path: str) -> None:
            told = base.PreprocessConfig(input_mean=0.0, input_std=1.0)
            super().__init__(model_path=path, preprocessing=told, providers=["CPUExecutionProvider"])

    student = Student(str(write(exported, tmp_path, "pixels")))
    expected = wanted(exported, exported.faces[:1])
    assert worst(student.get_embedding(as_bgr(exported.faces)[0]), expected) > 0.9999
    picture, points, ours = photo(exported.faces)
    assert worst(student.get_normalized_embedding(picture, points)[None], wanted(exported, ours)) > 0.999


def write_detector(path: Path, points: Array) -> None:
    """Write a detector in the form of SCRFD that finds one face with these points, whatever it sees."""
    said: list[Array] = []
    for width in (1, 4, 10):
        said += [np.zeros((2 * (128 // stride) ** 2, width), np.float32) for stride in (8, 16, 32)]
    row = 2 * (7 * 16 + 7)  # the first anchor of the cell at (56, 56)
    said[0][row] = 0.9
    said[3][row] = 40 / 8
    said[6][row] = ((points - 56) / 8).ravel()
    names = [f"out{number}" for number in range(9)]
    constants = [numpy_helper.from_array(value, f"said{number}") for number, value in enumerate(said)]
    nodes = [helper.make_node("Identity", [one.name], [name]) for one, name in zip(constants, names, strict=True)]
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 128, 128])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
