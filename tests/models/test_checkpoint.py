from __future__ import annotations

import argparse
import os
import pickle
import struct
import sys
import types
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from proxylesskd.errors import UserError
from proxylesskd.models import create_model
from proxylesskd.models.checkpoint import backbone_part, load_published, read_content, read_state_dict


def _iresnet(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return create_model("iresnet18", dim=8, width=0.125, image_size=16)


def _same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


STATE = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model": {"state_dict": s}},
        lambda s: {"epoch": 1, "state_dict_backbone": s, "state_dict_softmax_fc": {"weight": torch.zeros(2)}},
        lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}},
        lambda s: {f"module._orig_mod.{k}": v for k, v in s.items()},
    ],
)
def test_containers_and_wrappers_come_off(tmp_path: Path, wrap: object) -> None:
    torch.save(wrap(STATE), tmp_path / "c.pth")
    assert _same(read_state_dict(tmp_path / "c.pth"), STATE)


def test_safetensors(tmp_path: Path) -> None:
    safetensors.torch.save_file(STATE, tmp_path / "c.safetensors")
    assert _same(read_state_dict(tmp_path / "c.safetensors"), STATE)


def test_legacy_format(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "c.pt", _use_new_zipfile_serialization=False)
    assert _same(read_state_dict(tmp_path / "c.pt"), STATE)


class _Trap:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("new_format", [True, False])
def test_a_malicious_checkpoint_is_refused_and_not_executed(tmp_path: Path, new_format: bool) -> None:
    sprung, path = tmp_path / "sprung", tmp_path / "evil.pth"
    torch.save({**STATE, "evil": _Trap(sprung)}, path, _use_new_zipfile_serialization=new_format)
    with pytest.raises(UserError, match=r"refused .*other pickles can execute code") as caught:
        read_state_dict(path)
    assert "\n" not in str(caught.value)
    assert not sprung.exists()
    # The trap itself works: an ordinary load would have sprung it.
    torch.load(path, weights_only=False)
    assert sprung.exists()


def test_a_bare_malicious_pickle_is_refused(tmp_path: Path) -> None:
    sprung, path = tmp_path / "sprung", tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps(_Trap(sprung)))
    with pytest.raises(UserError, match="refused"):
        read_state_dict(path)
    assert not sprung.exists()


def test_an_archive_that_inflates_is_refused(tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain.pt", tmp_path / "packed.pt"
    torch.save({"a": torch.zeros(1 << 20)}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    assert packed.stat().st_size < plain.stat().st_size / 100
    with pytest.raises(UserError, match="bytes packed into"):
        read_state_dict(packed)


def test_a_mapping_that_contains_itself(tmp_path: Path) -> None:
    endless: dict[str, object] = {"a": torch.zeros(1)}
    endless["state_dict"] = endless
    torch.save(endless, tmp_path / "c.pt")
    with pytest.raises(UserError, match=r"expected named tensors .*found a mapping with 'a', 'state_dict'"):
        read_state_dict(tmp_path / "c.pt")


@pytest.mark.parametrize(("content", "found"), [({"epoch": 3}, "a mapping with 'epoch'"), ([1, 2], "a list")])
def test_no_tensors(tmp_path: Path, content: object, found: str) -> None:
    torch.save(content, tmp_path / "c.pt")
    with pytest.raises(UserError, match=f"expected named tensors in .*found {found}"):
        read_state_dict(tmp_path / "c.pt")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not really", b"hello world"])
def test_other_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"(expected a PyTorch checkpoint|refused)"):
        read_state_dict(tmp_path / "c.pt")


def test_files_cut_short_and_damaged_archives(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "c.pt")
    whole = (tmp_path / "c.pt").read_bytes()
    (tmp_path / "c.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="found one cut short; copy it again"):
        read_content(tmp_path / "c.pt")
    directory = whole.rindex(b"PK\x01\x02")
    (tmp_path / "c.pt").write_bytes(whole[:directory] + b"xx" + whole[directory + 2 :])
    with pytest.raises(UserError, match="found a damaged archive"):
        read_content(tmp_path / "c.pt")


def test_content_is_given_as_it_is(tmp_path: Path) -> None:
    torch.save(STATE["a.weight"], tmp_path / "c.pt")
    assert torch.equal(read_content(tmp_path / "c.pt"), STATE["a.weight"])
    torch.save({"epoch": 3, "state_dict": STATE}, tmp_path / "c.pt")
    assert read_content(tmp_path / "c.pt")["epoch"] == 3


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found nothing"):
        read_state_dict(tmp_path / "c.pt")


def test_the_backbone_without_its_head() -> None:
    state = {"backbone.a": torch.ones(1), "head.weight": torch.ones(2)}
    assert list(backbone_part(state)) == ["a"]
    assert list(backbone_part({"a": torch.ones(1)})) == ["a"]


def test_a_published_checkpoint_loads(tmp_path: Path) -> None:
    published = _iresnet(seed=1).state_dict()
    old = {k: v for k, v in published.items() if not k.endswith("num_batches_tracked")}
    torch.save({"state_dict": {f"module.backbone.{k}": v for k, v in old.items()}}, tmp_path / "c.pth")
    model = _iresnet(seed=2)
    load_published(model, read_state_dict(tmp_path / "c.pth"))
    assert _same(model.state_dict(), published)


def test_what_does_not_fit_is_listed() -> None:
    model = _iresnet()
    state = model.state_dict()
    before = {k: v.clone() for k, v in state.items()}
    broken = {k: v for k, v in state.items() if k != "conv1.weight"}
    broken |= {"extra.weight": torch.ones(1), "fc.bias": torch.ones(9)}
    with pytest.raises(UserError) as caught:
        load_published(model, broken)
    message = str(caught.value)
    assert "iresnet18 (dim=8, width=0.125, image_size=16)" in message
    assert "missing conv1.weight; unexpected extra.weight; fc.bias is [9] instead of [8]" in message
    assert _same(model.state_dict(), before)


def test_what_a_training_framework_leaves_beside_the_weights_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("pytorch_lightning.callbacks")
    callback = type(
        "ModelCheckpoint", (), {"__module__": module.__name__, "__setstate__": lambda *_: pytest.fail("ran")}
    )
    module.ModelCheckpoint = callback  # type: ignore[attr-defined]
    rows = torch.randn(5, 3)
    with monkeypatch.context() as present:
        present.setitem(sys.modules, "pytorch_lightning", types.ModuleType("pytorch_lightning"))
        present.setitem(sys.modules, module.__name__, module)
        state = callback()
        state.best = 0.9
        content = {"callbacks": {callback: state}, "hyper_parameters": argparse.Namespace(lr=0.1)}
        torch.save({"state_dict": {"head.kernel": rows}, **content}, tmp_path / "adaface.ckpt")
    assert torch.equal(read_state_dict(tmp_path / "adaface.ckpt")["head.kernel"], rows)


def test_a_stand_in_lets_no_other_code_through(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'harmed'}",)

    torch.save({"state_dict": {"w": torch.ones(2)}, "callbacks": argparse.Namespace(x=Harm())}, tmp_path / "t.ckpt")
    with pytest.raises(UserError, match="refused"):
        read_state_dict(tmp_path / "t.ckpt")
    assert not (tmp_path / "harmed").exists()


def test_an_archive_of_several_disks_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"weight": torch.zeros(2)}, path)
    data = bytearray(path.read_bytes())
    locator = data.rfind(b"PK\x06\x07")
    if locator < 0:  # an archive without one: put one where a reader looks, before its end
        end = data.rfind(b"PK\x05\x06")
        data[end:end] = b"PK\x06\x07" + struct.pack("<IQI", 1, 0, 2)
    else:
        data[locator + 16 : locator + 20] = struct.pack("<I", 2)
    path.write_bytes(data)
    with pytest.raises(UserError, match="damaged archive"):
        read_content(path)
