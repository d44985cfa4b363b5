from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from proxylesskd.errors import UserError
from proxylesskd.models import create_model, list_models, memory_format_of, register_model, registry, spec_of
from proxylesskd.models.registry import ModelSpec

OWN = """
import torch

class Pool(torch.nn.Module):
    def __init__(self, dim, side=1):
        super().__init__()
        self.fc = torch.nn.Linear(3 * side * side, dim)
        self.side = side
    def forward(self, x):
        return self.fc(torch.nn.functional.adaptive_avg_pool2d(x, self.side).flatten(1))

def pool(dim): return Pool(dim)
def anything(**options): return Pool(options["dim"], options["image_size"] // 16)
def positional(dim, /): return Pool(dim)
def wrong_shape(dim): return Pool(dim + 1)
def no_module(): return 3
def fails(dim): return torch.nn.Linear(7, dim)
def tuple_out(dim):
    class Two(torch.nn.Module):
        def forward(self, x): return x, x
    return Two()
constant = 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"own_{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)  # a console script finds it there although the folder is not on the path
    return name


def test_the_built_in_names() -> None:
    expected = ["iresnet100", "iresnet18", "iresnet34", "iresnet50", "mobilefacenet"]
    assert [name for name in list_models() if name in expected] == expected


def test_a_model_carries_its_spec() -> None:
    model = create_model("mobilefacenet", dim=16, width=0.25, image_size=32)
    assert spec_of(model) == ModelSpec("mobilefacenet", 16, 0.25, 32)
    wrapped = nn.Module()
    wrapped.module = model
    assert spec_of(wrapped).dim == 16
    assert memory_format_of(model) is torch.channels_last
    assert memory_format_of(wrapped) is torch.channels_last


def test_a_bare_module_has_no_spec() -> None:
    assert memory_format_of(nn.Flatten()) is torch.contiguous_format
    with pytest.raises(UserError, match="found a bare Flatten"):
        spec_of(nn.Flatten())


def test_equal_seeds_give_equal_weights() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(create_model("mobilefacenet", width=0.125, image_size=16).state_dict())
    assert all(torch.equal(a, b) for a, b in zip(*(s.values() for s in states), strict=True))


def test_the_nearest_name_is_offered() -> None:
    with pytest.raises(UserError, match="did you mean 'mobilefacenet'"):
        create_model("mobilefacnet")


@pytest.mark.parametrize(
    "bad", [{"dim": 0}, {"width": 0.0}, {"width": float("nan")}, {"image_size": 8}, {"dim": 1.5}, {"dim": 10**9}]
)
def test_sizes_out_of_range(bad: dict) -> None:
    with pytest.raises(UserError, match=r"expected dim in 1\.\.65536"):
        create_model("mobilefacenet", **bad)


def test_registering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_FACTORIES", {})
    register_model("flat")(lambda dim: nn.Sequential(nn.Flatten(), nn.LazyLinear(dim)))
    assert list_models() == ["flat"]
    assert spec_of(create_model("flat", dim=4)) == ModelSpec("flat", 4)
    with pytest.raises(ValueError, match="registered already"):
        register_model("flat")(nn.Flatten)


def test_a_factory_gets_what_its_signature_accepts(own: str) -> None:
    model = create_model(f"{own}:pool", dim=5)
    assert model(torch.zeros(2, 3, 112, 112)).shape == (2, 5)
    assert memory_format_of(model) is torch.contiguous_format
    assert create_model(f"{own}:anything", dim=5, image_size=32).side == 2


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("pol", "expected a callable 'pol' .*did you mean 'pool'"),
        ("constant", "expected a callable 'constant'"),
        ("wrong_shape", r"to give embeddings \[1, 6\], found \[1, 7\]"),
        ("positional", "expected to build .* by no arguments, found: .*positional"),
        ("no_module", "to return a torch.nn.Module, found int"),
        ("fails", r"to take \[1, 3, 112, 112\], found"),
        ("tuple_out", "found tuple"),
    ],
)
def test_mistakes_in_own_modules(own: str, factory: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        create_model(f"{own}:{factory}", dim=6)


def test_a_module_that_does_not_exist_or_needs_another(own: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="importable module for 'no_such_module:f'"):
        create_model("no_such_module:f")
    (tmp_path / "needs_other.py").write_text("import no_such_package_at_all")
    with pytest.raises(UserError, match="no_such_package_at_all"):
        create_model("needs_other:f")
