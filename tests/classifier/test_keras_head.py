from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from proxylesskd.classifier.from_checkpoint import read_head
from proxylesskd.classifier.head import NoHeadError
from proxylesskd.errors import UserError

h5py = pytest.importorskip("h5py")

C, D = 40, 6
ROWS = np.random.default_rng(0).normal(size=(C, D)).astype(np.float32)
BACKBONE = {
    "conv/conv/kernel:0": np.zeros((3, 3, 3, 4), np.float32),
    "se/se/kernel:0": np.ones((2, 8), np.float32),
    "embedding/embedding/kernel:0": np.ones((50, D), np.float32),
    "bn/bn/gamma:0": np.ones(D, np.float32),
}


def write(path: Path, datasets: dict[str, np.ndarray], **options: object) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in datasets.items():
            file.create_dataset(name, data=array, **options)
    return path


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, ">f4"])
@pytest.mark.parametrize("root", ["", "model_weights/"])
@pytest.mark.parametrize("layer", ["arcface/arcface/norm_dense_w:0", "logits_1/logits_1/kernel:0"])
def test_named_layers_of_whole_models(tmp_path: Path, kind: str, root: str, layer: str) -> None:
    stored = ROWS.T.astype(kind)
    content = {root + name: array for name, array in {**BACKBONE, layer: stored}.items()}
    content["optimizer_weights/SGD/" + layer.replace(":0", "/momentum:0")] = -stored
    head = read_head(write(tmp_path / "t.h5", content))
    np.testing.assert_array_equal(head.rows.numpy(), stored.T.astype(np.float32))
    assert head.key == (root + layer).removesuffix(":0").replace("/", ".")
    assert head.kind == f"Keras kernel, {C} rows"


def test_two_named_layers_are_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "t.h5", {"logits/kernel:0": ROWS.T, "arcface/norm_dense_w:0": ROWS[:30].T})
    with pytest.raises(UserError, match=r"several that fit: arcface.norm_dense_w \[6, 30\], logits.kernel \[6, 40\]"):
        read_head(path)
    np.testing.assert_array_equal(read_head(path, count=30).rows.numpy(), ROWS[:30])


def test_keras_3(tmp_path: Path) -> None:
    content = {
        "layers/dense/vars/0": np.ones((50, D), np.float32),
        "layers/dense/vars/1": np.ones(D, np.float32),
        "layers/dense_1/vars/0": ROWS.T,
        "layers/dense_1/vars/1": np.zeros(C, np.float32),
        "optimizer/vars/0": ROWS.T,
    }
    weights = write(tmp_path / "model.weights.h5", content)
    with zipfile.ZipFile(tmp_path / "t.keras", "w") as archive:
        archive.write(weights, "model.weights.h5")
        archive.writestr("config.json", "{}")
    for path in (weights, tmp_path / "t.keras"):
        np.testing.assert_array_equal(read_head(path, count=C).rows.numpy(), ROWS)
        with pytest.raises(NoHeadError, match=r"none among layers.dense.vars.0 \[50, 6\], .*--key"):
            read_head(path)
        np.testing.assert_array_equal(read_head(path, key="layers.dense_1.vars.0").rows.numpy(), ROWS)


def test_a_bias_is_refused(tmp_path: Path) -> None:
    names = {"dense/kernel:0": ROWS.T, "dense/bias:0": np.ones(C, np.float32)}
    path = write(tmp_path / "t.hdf5", names)
    with pytest.raises(UserError, match=r"without a bias, found dense.kernel"):
        read_head(path)
    np.testing.assert_array_equal(read_head(path, key="dense.kernel").rows.numpy(), ROWS)
    for name in ("dense", "head"):
        third = {f"layers/{name}/vars/0": ROWS.T, f"layers/{name}/vars/1": np.ones(C, np.float32)}
        with pytest.raises(UserError, match="without a bias"):
            read_head(write(path, third), count=C)


def test_an_embedder_has_no_head(tmp_path: Path) -> None:
    with pytest.raises(NoHeadError, match="estimate the rows"):
        read_head(write(tmp_path / "t.h5", BACKBONE))
    with pytest.raises(NoHeadError, match="no matrices at all"):
        read_head(write(tmp_path / "t.h5", {"step": np.array(3)}))


@pytest.mark.parametrize("packing", ["gzip", "lzf"])
def test_honest_compression(tmp_path: Path, packing: str) -> None:
    path = write(tmp_path / "t.h5", {"kernel": ROWS.T}, compression=packing, shuffle=True, chunks=(D, 8))
    np.testing.assert_array_equal(read_head(path).rows.numpy(), ROWS)


def test_the_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "t.h5", {"kernel": ROWS.T})
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UserError, match=r"needs the package 'h5py': pip install 'proxylesskd\[keras\]'"):
        read_head(path)


def test_an_archive_without_weights(tmp_path: Path) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("config.json", "{}")
    (tmp_path / "t.keras").write_bytes(content.getvalue())
    with pytest.raises(UserError, match="expected Keras weights"):
        read_head(tmp_path / "t.keras")
