from __future__ import annotations

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor

from proxylesskd.data.decode import decode
from proxylesskd.errors import UserError
from proxylesskd.models.preprocess import Preprocessing
from proxylesskd.teacher import as_embedder, load_teacher
from tests.models.graphs import DIM, SIZE, embed_by_loops, images, unit, write_graph

REAL_DATA = "PROXYLESSKD_REAL_DATA"


@pytest.mark.parametrize(
    ("quirk", "options"),
    [
        ({}, {}),
        ({"batch": 1, "tail": (1, -1), "weights_as_inputs": True}, {"mean": 0.0, "std": 1.0}),
        ({"batch": 2, "tail": (2, DIM), "nhwc": True}, {"mean": 127.0, "std": 128.0, "order": "bgr"}),
    ],
)
def test_an_onnx_teacher_against_numpy(tmp_path: Path, quirk: dict, options: dict) -> None:
    teacher = load_teacher(write_graph(tmp_path / "m.onnx", **quirk), threads=1, **options)
    pixels = images(5)
    shown = pixels[:, ::-1] if options.get("order") == "bgr" else pixels
    normalised = (shown.astype(np.float64) - options.get("mean", 127.5)) / options.get("std", 127.5)
    found = teacher.embed(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(found, unit(embed_by_loops(normalised)), atol=1e-4)
    assert (teacher.batch, teacher.dim, teacher.name) == (None, DIM, "m")


def test_a_fixed_batch_is_filled_up(tmp_path: Path) -> None:
    path = write_graph(
        tmp_path / "m.onnx",
        batch=2,
        tail=(2 * DIM,),
        after=[helper.make_node("Reshape", ["flat", "rows"], ["embedding"])],
        constants={"rows": np.array([2, DIM], np.int64)},
        output=("embedding", [2, DIM]),
    )
    teacher = load_teacher(path, threads=1, mean=0.0, std=1.0)
    assert "batch 2 (fixed)" in teacher.describe()
    pixels = images(5)
    found = teacher.embed(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(found, unit(embed_by_loops(pixels)), atol=1e-4)


def test_a_graph_that_normalises_itself_is_fed_pixels(tmp_path: Path) -> None:
    nodes = [helper.make_node("Sub", ["input", "c"], ["v"]), helper.make_node("Mul", ["v", "s"], ["w"])]
    constants = {"c": np.array([127.5], np.float32), "s": np.array([1 / 128], np.float32)}
    path = write_graph(tmp_path / "m.onnx", before=nodes, pixels="w", constants=constants)
    teacher = load_teacher(path, threads=1)
    assert (teacher.preprocessing.mean, teacher.preprocessing.std) == (0.0, 1.0)
    pixels = images(3)
    expected = unit(embed_by_loops((pixels.astype(np.float64) - 127.5) / 128))
    np.testing.assert_allclose(teacher.embed(torch.from_numpy(pixels)).numpy(), expected, atol=1e-4)


def test_the_description_says_what_was_found_and_what_was_assumed(tmp_path: Path) -> None:
    path = write_graph(tmp_path / "m.onnx", batch=2, tail=(2, DIM), nhwc=True)
    assert load_teacher(path, threads=1, std=128).describe() == (
        "m: 16-d; size 16 (detected), mean 127.5 (assumed), std 128 (given), order rgb (assumed), "
        "layout nhwc (detected); batch any"
    )


def test_options_may_ride_on_the_path_and_arguments_go_before_them(tmp_path: Path) -> None:
    path = write_graph(tmp_path / "m.onnx")
    teacher = load_teacher(f"{path}:mean=127,std=64,order=bgr", threads=1, std=128)
    assert teacher.preprocessing == Preprocessing(size=SIZE, mean=127.0, std=128.0, order="bgr")
    assert as_embedder(f"{path}:mean=127,std=128,order=bgr").fingerprint == teacher.fingerprint
    with pytest.raises(UserError, match="expected embeddings of dim=9"):
        load_teacher(f"{path}:dim=9")


def test_equal_files_have_equal_fingerprints(tmp_path: Path) -> None:
    first = load_teacher(write_graph(tmp_path / "a.onnx"), threads=1).fingerprint
    assert load_teacher(write_graph(tmp_path / "b.onnx"), threads=1).fingerprint == first
    assert load_teacher(tmp_path / "a.onnx", threads=1, order="bgr").fingerprint != first
    other = write_graph(tmp_path / "c.onnx", constants={"more": np.ones(1, np.float32)})
    assert load_teacher(other, threads=1).fingerprint != first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "nhwc"}, "expected layout=nchw .* found nhwc"),
        ({"size": 112}, "expected size=16 .* found size=112"),
        ({"architecture": "iresnet50"}, "expected no architecture"),
        ({"width": 0.5}, "expected no width"),
        ({"dim": 512}, "expected embeddings of dim=512 .* found 16"),
        ({"std": 0.0}, "non-zero std"),
    ],
)
def test_options_that_contradict_an_onnx_file(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_teacher(write_graph(tmp_path / "m.onnx"), threads=1, **options)


def test_a_detector_is_no_teacher(tmp_path: Path) -> None:
    boxes = helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, 4, 4])
    reshape = helper.make_node("Reshape", ["maps", "four"], ["boxes"])
    path = write_graph(
        tmp_path / "d.onnx",
        batch=1,
        tail=(1, 4, 4),
        after=[reshape],
        constants={"four": np.array([1, 4, 4], np.int64)},
        output=("flat", [1, 4, 4]),
        extra_outputs=[boxes],
    )
    with pytest.raises(UserError, match=r"no face-recognition model: expected one output \[B, D\].*found 2 output"):
        load_teacher(path)


RIGHT = {
    "face_recognition_sface_2021dec_int8bq": {"mean": 0.0, "std": 1.0},
    "mobilefacenet_192d_nhwc": {"mean": 127.5, "std": 128.0},
    "faceplugin_fr_feature_512d": {"mean": 127.0, "std": 128.0},
}


@pytest.fixture(scope="module")
def real() -> Path:
    if REAL_DATA not in os.environ:
        pytest.skip(f"set {REAL_DATA} to the folder with teachers/ and lfw-pairs-aligned.tar")
    return Path(os.environ[REAL_DATA])


def _two_faces_each(archive: Path, people: int) -> Tensor:
    """[2 * people, 3, 112, 112]: first and second image of the first people who have two."""
    by_person: dict[str, list[bytes]] = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile():
                content = tar.extractfile(member)
                assert content is not None
                by_person.setdefault(Path(member.name).parent.name, []).append(content.read())
            if sum(len(found) >= 2 for found in by_person.values()) > people:
                break
    chosen = [found[:2] for found in by_person.values() if len(found) >= 2][:people]
    return torch.from_numpy(np.stack([decode(data) for pair in chosen for data in pair]))


@pytest.mark.parametrize("name", RIGHT)
def test_real_teachers_work_by_detection_alone(real: Path, name: str) -> None:
    faces = _two_faces_each(real / "lfw-pairs-aligned.tar", 12)
    detected = load_teacher(real / "teachers" / f"{name}.onnx")
    right = load_teacher(real / "teachers" / f"{name}.onnx", **RIGHT[name])
    assert detected.batch is None
    embeddings = detected.embed(faces)
    assert float((embeddings * right.embed(faces)).sum(1).min()) > 0.999
    similar = (embeddings @ embeddings.T).numpy()
    same = np.array([similar[2 * i, 2 * i + 1] for i in range(12)])
    different = similar[::2, 1::2][~np.eye(12, dtype=bool)]
    assert same.mean() > different.mean() + 0.4


def test_a_real_detector_is_no_teacher(real: Path) -> None:
    with pytest.raises(UserError, match="no face-recognition model"):
        load_teacher(real / "teachers" / "face_detection_yunet_2023mar_int8bq.onnx")
