from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor

from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.classifier.from_checkpoint import inherit_from_checkpoint, own_classifier, read_head
from proxylesskd.classifier.head import NoHeadError
from proxylesskd.errors import UserError

C, D = 23, 6


def rows(count: int = C, dim: int = D, seed: int = 0) -> Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def save(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def backbone() -> dict[str, Tensor]:
    return {"conv1.weight": torch.randn(4, 3, 3, 3), "fc.weight": torch.randn(D, 50), "fc.bias": torch.randn(D)}


LAYER = rows()
# What is written, the key that must be found, and the words that must name the kind.
FORMATS: dict[str, tuple[Any, str, str]] = {
    "bare tensor": (LAYER, "", "last layer"),
    "bare parameter": (torch.nn.Parameter(LAYER), "", "last layer"),
    "weight": ({"weight": LAYER}, "weight", "last layer"),
    "head.weight": ({"head.weight": LAYER, "head.bias": torch.zeros(C)}, "head.weight", "last layer"),
    "fc.weight": ({"fc.weight": LAYER, "fc.bias": torch.zeros(C)}, "fc.weight", "last layer"),
    "classifier.weight": ({"classifier.weight": LAYER}, "classifier.weight", "last layer"),
    "under any name": ({"prototypes": LAYER, "step": 7}, "prototypes", "last layer"),
    "data parallel": ({"module.margin.weight": LAYER, **backbone()}, "module.margin.weight", "last layer"),
    "kernel": ({"kernel": LAYER.T.contiguous()}, "kernel", "kernel"),
    "fc.kernel": ({"fc.kernel": LAYER.T.contiguous(), "t": torch.zeros(1)}, "fc.kernel", "kernel"),
    "InsightFace": (
        {
            "epoch": 20,
            "global_step": 9000,
            "state_dict_backbone": backbone(),
            "state_dict_softmax_fc": {"weight": LAYER},
            "state_optimizer": {"state": {0: {"momentum_buffer": rows(seed=1)}}, "param_groups": [{"lr": 0.1}]},
            "state_lr_scheduler": {"last_epoch": 3},
        },
        "state_dict_softmax_fc.weight",
        "InsightFace checkpoint",
    ),
    "AdaFace": (
        {
            "epoch": 3,
            "state_dict": {
                **{f"model.{name}": tensor for name, tensor in backbone().items()},
                "head.kernel": LAYER.T.contiguous(),
                "head.t": torch.zeros(1),
                "head.batch_mean": torch.ones(1) * 20,
            },
            "optimizer_states": [{"state": {0: {"momentum_buffer": LAYER.T * 2}}}],
        },
        "state_dict.head.kernel",
        "AdaFace head",
    ),
    "CVLface centres": (
        {"center": LAYER, "batch_mean": torch.ones(1), "batch_std": torch.ones(1)},
        "center",
        "centres",
    ),
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("count", [None, C])
def test_formats_of_one_file(tmp_path: Path, name: str, count: int | None) -> None:
    content, key, kind = FORMATS[name]
    head = read_head(save(tmp_path / "t.pth", content), count=count)
    assert head.rows.dtype == torch.float32
    np.testing.assert_array_equal(head.rows.numpy(), LAYER.numpy())
    assert head.key.endswith(key)
    assert kind in head.kind
    assert (head.files, head.padding, head.identities) == (["t.pth"], 0, None)


@pytest.mark.parametrize("name", ["AdaFace", "InsightFace"])
def test_lightning_and_old_files(tmp_path: Path, name: str) -> None:
    torch.save(FORMATS[name][0], tmp_path / "t.ckpt", _use_new_zipfile_serialization=False)
    assert torch.equal(read_head(tmp_path / "t.ckpt").rows, LAYER)


def test_safetensors(tmp_path: Path) -> None:
    safetensors.torch.save_file({"classifier.weight": LAYER}, tmp_path / "classifier.safetensors")
    assert own_classifier(tmp_path) is None
    assert torch.equal(read_head(tmp_path / "classifier.safetensors").rows, LAYER)
    assert torch.equal(read_head(tmp_path).rows, LAYER)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32_exactly(tmp_path: Path, kind: torch.dtype) -> None:
    stored = LAYER.to(kind)
    head = read_head(save(tmp_path / "t.pt", {"weight": stored}))
    # Every float16 and bfloat16 is a float64, which numpy rounds to float32 by itself.
    np.testing.assert_array_equal(head.rows.numpy(), stored.double().numpy().astype(np.float32))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["<f2", "<f4", ">f4", "<f8"])
def test_arrays_of_numpy(tmp_path: Path, kind: str, order: str) -> None:
    array = np.asarray(LAYER.numpy().astype(kind), order=order)
    np.save(tmp_path / "w.npy", array)
    np.savez(tmp_path / "w.npz", weight=array, step=np.array(3))
    np.savez_compressed(tmp_path / "c.npz", center=array, other=np.zeros((2, 2, 2)))
    for name in ("w.npy", "w.npz", "c.npz"):
        np.testing.assert_array_equal(read_head(tmp_path / name).rows.numpy(), array.astype(np.float32))


def test_a_key_names_one_of_several(tmp_path: Path) -> None:
    first, second = rows(seed=1), rows(seed=2)
    path = save(tmp_path / "t.pt", {"state_dict": {"a.weight": first, "b.weight": second, "c": torch.zeros(2)}})
    assert torch.equal(read_head(path, key="b.weight").rows, second)
    assert torch.equal(read_head(path, key="state_dict.a.weight").rows, first)
    for options, message in [
        ({}, r"none among state_dict.a.weight \[23, 6\]"),
        ({"count": C}, r"several that fit: state_dict.a.weight \[23, 6\], .*--key"),
        ({"key": "weight"}, "found several"),
        ({"key": "d.weight"}, "expected a matrix 'd.weight'"),
        ({"key": "c"}, "expected a matrix 'c'"),
    ]:
        with pytest.raises(UserError, match=message):
            read_head(path, **options)  # type: ignore[arg-type]


def test_a_number_of_rows_finds_the_layer(tmp_path: Path) -> None:
    path = save(tmp_path / "t.pt", {"a": rows(9), "b": rows(10), "c": rows(11), "d.kernel": rows(9, 10)})
    with pytest.raises(UserError, match=r"several that fit: b .*, d.kernel"):
        read_head(path, count=10)
    assert torch.equal(read_head(path, count=9).rows, rows(9))


@pytest.mark.parametrize("state", [backbone(), {"fc.weight": rows(D, 50), "bn.running_mean": torch.zeros(D)}])
def test_a_backbone_has_no_head(tmp_path: Path, state: dict[str, Tensor]) -> None:
    with pytest.raises(NoHeadError, match="estimate the rows"):
        read_head(save(tmp_path / "t.pt", {"state_dict_backbone": state}), count=D)
    with pytest.raises(NoHeadError, match="estimate the rows"):
        read_head(save(tmp_path / "t.pt", state))
    with pytest.raises(NoHeadError, match="found none"):
        read_head(save(tmp_path / "t.pt", {"epoch": 3}))


@pytest.mark.parametrize("name", ["head.weight", "classifier.weight", "fc.weight"])
def test_names_that_backbones_share(tmp_path: Path, name: str) -> None:
    """A vision transformer's head makes the embedding; such a layer is taken only where its size tells."""
    around = {"blocks.0.weight": torch.zeros(3, 3), "conv.weight": torch.zeros(2, 2, 1, 1)}
    embedding = save(tmp_path / "e.pt", {name: rows(512, 384), **around})
    for options in ({}, {"count": 10_000}, {"count": 400}, {"dim": 512}):
        with pytest.raises(NoHeadError):
            read_head(embedding, **options)  # type: ignore[arg-type]
    assert len(read_head(embedding, key=name).rows) == 512
    assert len(read_head(embedding, count=512).rows) == 512
    wide = save(tmp_path / "w.pt", {name: rows(3000, 8), **around})
    assert len(read_head(wide).rows) == 3000
    with pytest.raises(UserError, match="each of 2,900 identities, found 3,000 rows") as caught:
        read_head(wide, count=2900)
    assert not isinstance(caught.value, NoHeadError)
    padded = torch.cat([LAYER, LAYER[-2:]])
    assert torch.equal(read_head(save(tmp_path / "p.pt", {name: padded, **around}), count=C).rows, LAYER)
    assert torch.equal(read_head(save(tmp_path / "n.pt", {name: LAYER[:4], **around}), count=4).rows, LAYER[:4])


def test_which_way_round_is_asked_for(tmp_path: Path) -> None:
    wide, square = save(tmp_path / "wide.pt", LAYER.T.contiguous()), save(tmp_path / "square.pt", rows(D, D))
    for path in (wide, square):
        with pytest.raises(UserError, match=r"--transposed if every identity is a column, --no-transposed"):
            read_head(path)
    assert torch.equal(read_head(wide, transposed=True).rows, LAYER)
    assert torch.equal(read_head(wide, count=C).rows, LAYER)
    assert torch.equal(read_head(wide, dim=D).rows, LAYER)
    assert torch.equal(read_head(wide, transposed=False).rows, LAYER.T)
    assert torch.equal(read_head(square, transposed=True).rows, rows(D, D).T)
    assert torch.equal(read_head(square, transposed=False).rows, rows(D, D))
    # A kernel is known to stand [D, C] unless the user says otherwise.
    kernel = save(tmp_path / "kernel.pt", {"kernel": rows(D, D)})
    assert torch.equal(read_head(kernel).rows, rows(D, D).T)
    assert torch.equal(read_head(kernel, transposed=False).rows, rows(D, D))


def test_another_dimension_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="dimension 8, found 6"):
        read_head(save(tmp_path / "t.pt", {"weight": LAYER}), dim=8)
    weak = {"fc.weight": LAYER, "conv.weight": torch.zeros(2, 2, 1, 1)}
    assert torch.equal(read_head(save(tmp_path / "t.pt", weak), dim=D).rows, LAYER)


def test_a_bias_is_refused_unless_the_layer_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "t.pt", {"head.weight": LAYER, "head.bias": torch.arange(float(C))})
    with pytest.raises(UserError, match=r"without a bias.*give --key head.weight"):
        read_head(path)
    head = read_head(path, key="head.weight")
    assert torch.equal(head.rows, LAYER)
    assert head.notes == ["the layer's bias was left out"]


def test_the_own_last_layer_of_a_run(tmp_path: Path) -> None:
    own = InheritedClassifier(torch.eye(3), ["a", "b", "c"], {"how": "trained"})
    own.save(tmp_path / "classifier.safetensors")
    own.save(tmp_path / "elsewhere.safetensors")
    for path in (tmp_path, tmp_path / "classifier.safetensors", tmp_path / "elsewhere.safetensors"):
        assert inherit_from_checkpoint(path).fingerprint == own.fingerprint
        head = read_head(path)
        assert (head.identities, head.key) == (["a", "b", "c"], "rows")
        assert torch.equal(head.rows, torch.eye(3))


def test_the_classifier_says_where_it_comes_from(tmp_path: Path) -> None:
    padded = torch.cat([LAYER, torch.zeros(2, D)])
    path = save(tmp_path / "t.pt", {"head.weight": padded})
    names = [f"id-{i}" for i in range(C)]
    classifier = inherit_from_checkpoint(path, identities=names)
    torch.testing.assert_close(classifier.rows, F.normalize(LAYER, dim=1))
    assert classifier.identities == names
    told = classifier.provenance
    assert (told["files"], told["key"], told["padding_rows_removed"]) == (["t.pt"], "head.weight", 2)
    assert "25 rows" in told["kind"]
    assert inherit_from_checkpoint(save(path, LAYER)).identities == [str(i) for i in range(C)]
    wide = save(path, LAYER.T.contiguous())
    assert len(inherit_from_checkpoint(wide, transposed=True).rows) == C


def test_places_without_a_head(tmp_path: Path) -> None:
    (tmp_path / "readme.md").write_text("hello")
    with pytest.raises(NoHeadError, match=r"found readme\.md; give the file"):
        read_head(tmp_path)
    with pytest.raises(UserError, match="found nothing"):
        read_head(tmp_path / "no.pt")
