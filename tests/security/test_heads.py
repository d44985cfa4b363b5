"""Hostile and broken files instead of a last layer: nothing runs, nothing fills the memory, all are refused."""

from __future__ import annotations

import os
import tempfile
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from proxylesskd.classifier.from_checkpoint import read_head
from proxylesskd.errors import UserError
from tests.models.graphs import DIM, write_graph

h5py = pytest.importorskip("h5py")

ROWS = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))


def assert_refused(path: Path, message: str, **options: Any) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read_head(path, **options)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1500 + len(str(path))


class Trap:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.witness),)


@pytest.mark.parametrize("name", ["t.pt", "t.ckpt", "softmax_fc_gpu_0.pt", "classifier_rank0.pt", "center.pth"])
@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_with_code_are_refused_and_not_run(tmp_path: Path, name: str, zipped: bool) -> None:
    witness = tmp_path / "sprung"
    torch.save({"weight": ROWS, "more": Trap(witness)}, tmp_path / name, _use_new_zipfile_serialization=zipped)
    assert_refused(tmp_path / name, "other pickles can execute code")
    assert not witness.exists()
    torch.load(tmp_path / name, weights_only=False)
    assert witness.exists(), "the file was harmless: the test would prove nothing"


def test_objects_in_arrays_are_refused(tmp_path: Path) -> None:
    witness = tmp_path / "sprung"
    objects = np.array([[Trap(witness), Trap(witness)]], dtype=object)
    np.save(tmp_path / "t.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "t.npz", weight=objects)
    for name in ("t.npy", "t.npz"):
        assert_refused(tmp_path / name, "expected arrays of numpy")
    assert not witness.exists()


VIEWS = {
    "rows repeated by a stride of zero": torch.ones(1, 4).expand(10**9, 4),
    "one number as a matrix": torch.ones(1).expand(10**6, 10**6),
    "no rows": torch.ones(0, 4),
    "no columns": torch.ones(4, 0),
    "another device": torch.ones(10**6, 10**6, device="meta"),
    "sparse": torch.eye(5).to_sparse(),
}


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_that_claim_more_than_they_hold(tmp_path: Path, name: str, zipped: bool) -> None:
    torch.save({"weight": VIEWS[name]}, tmp_path / "t.pt", _use_new_zipfile_serialization=zipped)
    assert_refused(tmp_path / "t.pt", "refused|expected a matrix")
    torch.save(VIEWS[name], tmp_path / "rank_0_softmax_weight.pt", _use_new_zipfile_serialization=zipped)
    assert_refused(tmp_path, "refused|expected a matrix")


@pytest.mark.parametrize("kind", [torch.int8, torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn])
def test_other_numbers_are_no_rows(tmp_path: Path, kind: torch.dtype) -> None:
    torch.save({"weight": ROWS.to(kind)}, tmp_path / "t.pt")
    assert_refused(tmp_path / "t.pt", "no matrices at all")


def test_a_patched_size_reads_nothing_beyond(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(4, 3)}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as source, zipfile.ZipFile(tmp_path / "t.pt", "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename.endswith("data.pkl"):
                larger = content.replace(b"K\x0ct", b"M\xff\xfft").replace(b"K\x04K\x03\x86", b"M\xff\x3fK\x03\x86")
                assert larger != content
                content = larger
            target.writestr(entry, content)
    assert_refused(tmp_path / "t.pt", "expected a PyTorch checkpoint|refused")


def test_packed_archives_are_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1 << 18, 4)}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as source, zipfile.ZipFile(tmp_path / "t.pt", "w", 8) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    assert_refused(tmp_path / "t.pt", "bytes packed into")
    np.savez_compressed(tmp_path / "t.npz", weight=np.zeros((1 << 22, 8), np.float32))
    assert (tmp_path / "t.npz").stat().st_size < 1 << 20
    assert_refused(tmp_path / "t.npz", "bytes packed into")


def test_headers_of_arrays_that_lie(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((9, 4), np.float32))
    lie = (tmp_path / "a.npy").read_bytes().replace(b"(9, 4), }  ", b"(9000000000, 4), }")[: 80 + 9 + 144]
    (tmp_path / "t.npy").write_bytes(lie)
    assert_refused(tmp_path / "t.npy", "expected arrays of numpy")
    with zipfile.ZipFile(tmp_path / "t.npz", "w") as archive:
        archive.writestr("weight.npy", lie)
    assert_refused(tmp_path / "t.npz", "expected arrays of numpy")


def _keras(path: Path, make: Any) -> Path:
    with h5py.File(path, "w") as file:
        make(file)
    return path


def test_keras_files_that_claim_more_than_they_hold(tmp_path: Path) -> None:
    empty = _keras(tmp_path / "a.h5", lambda f: f.create_dataset("kernel", (1 << 20, 1 << 20), "f4", chunks=(64, 64)))
    assert_refused(empty, "claims .* bytes, and the file holds 0")
    packed = _keras(
        tmp_path / "b.h5",
        lambda f: f.create_dataset("kernel", data=np.zeros((64, 1 << 19), np.float32), compression="gzip"),
    )
    assert packed.stat().st_size < 1 << 20
    assert_refused(packed, "claims .* bytes, and the file holds")
    absurd = _keras(tmp_path / "c.h5", lambda f: f.create_dataset("kernel", (1 << 40, 1 << 20), "f4", chunks=(1, 1)))
    assert_refused(absurd, "no matrices at all")


def test_keras_files_that_point_elsewhere(tmp_path: Path) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(ROWS.numpy().tobytes())
    other = _keras(tmp_path / "other.h5", lambda f: f.create_dataset("kernel", data=ROWS.numpy()))
    outside = [(str(secret), 0, h5py.h5f.UNLIMITED)]
    raw = _keras(tmp_path / "raw.h5", lambda f: f.create_dataset("kernel", (9, 4), "f4", external=outside))
    assert_refused(raw, "kept in another file")

    def virtual(file: Any) -> None:
        layout = h5py.VirtualLayout((9, 4), "f4")
        layout[:] = h5py.VirtualSource(str(other), "kernel", (9, 4))
        file.create_virtual_dataset("kernel", layout)

    assert_refused(_keras(tmp_path / "virtual.h5", virtual), "kept in another file")
    for link in (h5py.ExternalLink(str(other), "kernel"), h5py.SoftLink("/nowhere")):
        path = tmp_path / "link.h5"
        assert_refused(_keras(path, lambda f, link=link: f.__setitem__("kernel", link)), "no matrices at all")


def test_an_archive_of_keras_that_inflates(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "t.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", bytes((1 << 26) + 1))
    assert_refused(tmp_path / "t.keras", "bytes packed into")


def test_names_cannot_break_a_message(tmp_path: Path) -> None:
    names = {f"evil\n\x1b[31m{i}{'x' * 5000}": ROWS for i in range(50)}
    torch.save(names, tmp_path / "t.pt")
    with pytest.raises(UserError) as caught:
        read_head(tmp_path / "t.pt", count=9)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 2000
    assert_refused(tmp_path / "t.pt", "expected a matrix 'n.*and 44 more", key="n")


def test_mappings_in_circles(tmp_path: Path) -> None:
    circle: dict[str, Any] = {f"k{i}": {} for i in range(30)}
    for inner in circle.values():
        inner.update(circle)
    torch.save(circle, tmp_path / "t.pt")
    assert_refused(tmp_path / "t.pt", "found none")


@cache
def seed(name: str) -> bytes:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / name
        if name.endswith(".pt"):
            torch.save({"weight": ROWS}, path, _use_new_zipfile_serialization=name != "old.pt")
        elif name == "a.npy":
            np.save(path, ROWS.numpy())
        elif name == "a.npz":
            np.savez_compressed(path, weight=ROWS.numpy())
        elif name == "a.safetensors":
            safetensors.torch.save_file({"weight": ROWS}, path)
        else:
            matmul = [helper.make_node("MatMul", ["flat", "w"], ["x"])]
            write_graph(path, after=matmul, constants={"w": np.ones((DIM, 20), "f4")}, output=("x", ["n", 20]))
        return path.read_bytes()


NAMES = ["a.pt", "old.pt", "a.npy", "a.npz", "a.safetensors", "a.onnx"]


@pytest.mark.parametrize("name", NAMES)
def test_files_cut_short(tmp_path: Path, name: str) -> None:
    content = seed(name)
    (tmp_path / name).write_bytes(content)
    for length in {0, 1, 7, *range(9, len(content) - 1, max(1, len(content) // 25))}:
        (tmp_path / name).write_bytes(content[:length])
        with pytest.raises(UserError):
            read_head(tmp_path / name)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_files_raise_nothing_else(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(NAMES))
    content = bytearray(seed(name))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("fuzz") / name
    path.write_bytes(bytes(content))
    try:
        head = read_head(path)
    except UserError:
        return
    assert head.rows.ndim == 2
    assert head.rows.numel() * 2 <= len(content)
