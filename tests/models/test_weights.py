from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from proxylesskd.errors import UserError
from proxylesskd.models import create_model, spec_of
from proxylesskd.models.preprocess import Preprocessing
from proxylesskd.models.weights import check_fit, is_saved_model, load_model, read_metadata, read_tensors, save_model

KEY = "proxylesskd.model"
PREPARE = Preprocessing(size=32, mean=127.0, std=128.0, order="bgr")


def _model() -> nn.Module:
    torch.manual_seed(0)
    return create_model("mobilefacenet", dim=8, width=0.125, image_size=32)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_model(tmp_path / "m.safetensors", _model(), PREPARE, {"note": "é", "steps": 3})
    return tmp_path / "m.safetensors"


def _with_header(path: Path, **changes: object) -> Path:
    tensors = safetensors.torch.load_file(path)
    header = {**read_metadata(path), **changes}
    other = path.with_name("changed.safetensors")
    safetensors.torch.save_file(tensors, other, {KEY: json.dumps(header)})
    return other


def test_there_and_back(saved: Path) -> None:
    state = torch.random.get_rng_state()
    model, preprocessing = load_model(saved)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert preprocessing == PREPARE
    assert spec_of(model) == spec_of(_model())
    assert not model.training
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model(x), _model().eval()(x), rtol=0, atol=0)
    assert read_metadata(saved)["extra"] == {"note": "é", "steps": 3}
    assert is_saved_model(saved)


def test_a_channels_last_model_in_a_wrapper(tmp_path: Path) -> None:
    wrapper = nn.Module()
    wrapper.module = _model().to(memory_format=torch.channels_last)
    save_model(tmp_path / "w.safetensors", wrapper, PREPARE)
    loaded, _ = load_model(tmp_path / "w.safetensors")
    for name, tensor in _model().state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_a_crash_leaves_the_old_file_and_nothing_else(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def crash(self: Path, target: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(UserError, match=r"able to write .* disk full"):
        save_model(saved, _model(), PREPARE)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_others_may_read_the_file_as_the_umask_says(saved: Path) -> None:
    plain = saved.with_name("plain")
    plain.write_bytes(b"")
    assert stat.S_IMODE(saved.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_a_model_without_spec_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="with a spec"):
        save_model(tmp_path / "x.safetensors", nn.Flatten(), PREPARE)


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b'\x10\x00\x00\x00\x00\x00\x00\x00{"a": nonsense}'])
def test_other_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match="expected a safetensors file at"):
        load_model(path)


def test_truncated_files_folders_and_nothing(saved: Path) -> None:
    short = saved.with_name("short.safetensors")
    short.write_bytes(saved.read_bytes()[:-100])
    with pytest.raises(UserError, match="expected a safetensors file"):
        load_model(short)
    with pytest.raises(UserError, match="found a folder"):
        load_model(saved.parent)
    with pytest.raises(UserError, match="found nothing"):
        load_model(saved.with_name("absent.safetensors"))


def test_a_foreign_safetensors_file(tmp_path: Path) -> None:
    path = tmp_path / "f.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(1)}, path)
    assert not is_saved_model(path)
    with pytest.raises(UserError, match=r"without a spec.*name its architecture"):
        load_model(path)


@pytest.mark.parametrize("text", ["{", "3", '{"format": 99}', "[" * 100_000])
def test_a_header_that_is_none(saved: Path, text: str) -> None:
    other = saved.with_name("o.safetensors")
    safetensors.torch.save_file({"a": torch.zeros(1)}, other, {KEY: text})
    with pytest.raises(UserError, match=r"expected a (JSON header|model file of format 1)"):
        load_model(other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spec": None}, "expected spec and preprocessing"),
        ({"spec": {"name": "mobilefacenet", "depth": 3}}, "expected spec and preprocessing"),
        ({"preprocessing": {"meen": 1.0}}, "did you mean 'mean'"),
        ({"spec": {"name": "mobilefacnet"}}, "did you mean 'mobilefacenet'"),
        ({"spec": {"name": "mobilefacenet", "dim": 10**12}}, r"dim in 1\.\.65536"),
        # 2 TB of weights, were they allocated before the shapes are compared
        (
            {"spec": {"name": "iresnet18", "dim": 65536, "width": 64, "image_size": 1024}},
            "found others in .*missing conv1.weight",
        ),
        (
            {"spec": {"name": "mobilefacenet", "dim": 9, "width": 0.125, "image_size": 32}},
            r"embedding.0.weight is \[8, 64\] instead of \[9, 64\]",
        ),
    ],
)
def test_headers_that_do_not_fit(saved: Path, changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_model(_with_header(saved, **changes))


def test_only_the_first_problems_are_listed(saved: Path) -> None:
    other = _with_header(saved, spec={"name": "iresnet18", "dim": 8, "width": 0.125, "image_size": 32})
    with pytest.raises(UserError) as caught:
        load_model(other)
    assert str(caught.value).count(";") == 3
    assert "more" in str(caught.value)


def test_a_file_alone_never_imports_a_module(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trap_module.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    spec = {"name": "trap_module:f", "dim": 8, "width": 1.0, "image_size": 32}
    with pytest.raises(UserError, match="architecture=trap_module:f' to run that code"):
        load_model(_with_header(saved, spec=spec))
    assert not (tmp_path / "sprung").exists()


def test_ones_own_module_loads_when_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["import torch", "def net(dim): return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, dim))"]
    (tmp_path / "own_linear.py").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    model = create_model("own_linear:net", dim=4, image_size=16)
    save_model("own.safetensors", model, Preprocessing(size=16))
    loaded, _ = load_model("own.safetensors", architecture="own_linear:net")
    assert torch.equal(loaded[1].weight, model[1].weight)


def test_misfits_of_a_bare_module_are_named_by_its_class() -> None:
    with pytest.raises(UserError, match=r"expected weights of Linear, found others in x: missing bias"):
        check_fit(nn.Linear(1, 1), {"weight": torch.zeros(1, 1)}, "x")


def test_reading_tensors_of_another_file(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"no")
    with pytest.raises(UserError, match="expected a safetensors file"):
        read_tensors(tmp_path / "x.safetensors")
