"""Batch norm over processes against torch's own on the whole batch, in float64."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from proxylesskd.models.synced_norm import SyncedNorm, synchronised
from tests.distributed.ring import run_together

SHAPES = {"vectors": (12, 5), "maps": (12, 4, 3, 5), "volumes": (12, 3, 2, 2, 2)}
KINDS: dict[str, Any] = {"vectors": nn.BatchNorm1d, "maps": nn.BatchNorm2d, "volumes": nn.BatchNorm3d}
SETTINGS: list[dict[str, Any]] = [
    {},
    {"affine": False, "momentum": None},
    {"track_running_stats": False, "eps": 0.1},
]


def _norm(kind: str, settings: dict[str, Any]) -> nn.Sequential:
    torch.manual_seed(3)
    norm = KINDS[kind](SHAPES[kind][1], **settings).double()
    for parameter in norm.parameters():
        nn.init.normal_(parameter, 1.0)
    return nn.Sequential(norm)


def _draw(kind: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    x, weights = (torch.randn(SHAPES[kind], generator=generator, dtype=torch.float64) for _ in range(2))
    x = 3 * x + 7
    if kind == "maps":
        x = x.to(memory_format=torch.channels_last)
    return x, weights


def _pass(network: nn.Module, kind: str, rank: int = 0, world: int = 1) -> dict[str, Tensor]:
    """Two training passes, so that running statistics move twice, and one in evaluation mode."""
    x, weights = (tensor.chunk(world)[rank].clone() for tensor in _draw(kind))
    x.requires_grad_()
    network(x.detach() * 0.5)
    y = network(x)
    (y.square() * weights).mean().backward()
    found = {"y": y.detach(), "x": x.grad, **{name: p.grad for name, p in network.named_parameters()}}
    if network[0].running_mean is not None:
        network.eval()
        found["evaluated"] = network(x.detach())
    return {**found, **{f"state.{name}": value for name, value in network.state_dict().items()}}


def in_process(rank: int, world: int, place: str) -> None:
    for kind in KINDS:
        for number, settings in enumerate(SETTINGS):
            network = _norm(kind, settings)
            with synchronised(network):
                assert isinstance(network[0], SyncedNorm)
                found = _pass(network, kind, rank, world)
            torch.save(found, Path(place) / f"{kind}-{number}-{rank}.pt")


@pytest.fixture(scope="module", params=[2, 3])
def place(request: Any, tmp_path_factory: Any) -> tuple[int, Path]:
    folder = tmp_path_factory.mktemp("norms")
    assert run_together(request.param, in_process, str(folder)) == [0] * request.param
    return request.param, folder


@pytest.mark.parametrize("number", range(len(SETTINGS)))
@pytest.mark.parametrize("kind", list(KINDS))
def test_equals_one_batch_norm_on_the_whole_batch(place: tuple[int, Path], kind: str, number: int) -> None:
    world, folder = place
    whole = _pass(_norm(kind, SETTINGS[number]), kind)
    shares = [torch.load(folder / f"{kind}-{number}-{rank}.pt") for rank in range(world)]
    for name, expected in whole.items():
        if name in ("y", "evaluated"):
            found = torch.cat([share[name] for share in shares])
        elif name == "x":  # each process took the mean of its share
            found = torch.cat([share[name] for share in shares]) / world
        elif name.startswith("state."):
            assert all(torch.equal(share[name], shares[0][name]) for share in shares)
            found = shares[0][name]
        else:
            found = torch.stack([share[name] for share in shares]).mean(0)
        assert torch.allclose(found.double(), expected.double(), rtol=1e-11, atol=1e-13), name
    assert shares[0]["y"].is_contiguous(memory_format=torch.channels_last) or kind != "maps"


def low_precision(rank: int, world: int, place: str) -> None:
    """bfloat16 maps, as autocast hands them on: statistics and parameters stay float32."""
    x, weights = (t.float() for t in _draw("maps"))
    network = _norm("maps", {}).float()
    with synchronised(network):
        share = x.chunk(world)[rank].bfloat16().requires_grad_()
        y = network(share)
        (y.float() * weights.chunk(world)[rank]).mean().backward()
    assert (y.dtype, share.grad.dtype, network[0].weight.grad.dtype) == (torch.bfloat16, torch.bfloat16, torch.float32)
    expected = _norm("maps", {}).float()
    expected(x.bfloat16().float())
    assert torch.allclose(network[0].running_var, expected[0].running_var, rtol=1e-5)
    Path(place, f"{rank}").touch()


def test_low_precision(tmp_path: Path) -> None:
    assert run_together(2, low_precision, str(tmp_path)) == [0, 0]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.fixture
def group_of_one(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("group_of_one")
@pytest.mark.parametrize("kind", list(KINDS))
def test_gradient_by_finite_differences(kind: str) -> None:
    norm = SyncedNorm(_norm(kind, {})[0])
    x = _draw(kind)[0][:3].requires_grad_()
    assert torch.autograd.gradcheck(norm, (x,))
    norm.original[0].weight.requires_grad_(False)
    assert torch.autograd.gradcheck(lambda bias: torch.func.functional_call(norm, {"bias": bias}, x), norm.bias)
    norm.eval()
    expected = norm.original[0].eval()(x)
    assert torch.equal(norm(x), expected)


@pytest.mark.usefixtures("group_of_one")
def test_a_compiled_network_pauses_for_it() -> None:
    found = []
    for backend in (None, "eager"):
        network = nn.Sequential(nn.Conv2d(4, 4, 1), _norm("maps", {})[0], nn.PReLU(4)).double()
        nn.init.ones_(network[0].weight)
        with synchronised(network):
            if backend is not None:
                network.compile(backend=backend)
            network(_draw("maps")[0]).square().mean().backward()
        found.append([network[0].weight.grad, network[1].weight.grad, network[1].running_var])
    assert all(torch.allclose(a, b, rtol=1e-12) for a, b in zip(*found, strict=True))


@pytest.mark.usefixtures("group_of_one")
def test_without_scale_and_statistics() -> None:
    whole = _pass(_norm("maps", {"affine": False, "track_running_stats": False}), "maps")
    network = _norm("maps", {"affine": False, "track_running_stats": False})
    with synchronised(network):
        found = _pass(network, "maps")
    assert list(found) == list(whole) == ["y", "x"]
    assert all(torch.allclose(found[name], whole[name], rtol=1e-11, atol=1e-13) for name in whole)


class Own(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:
        return input


def test_the_originals_return_with_what_was_learnt() -> None:
    network = nn.Sequential(nn.Sequential(nn.BatchNorm2d(3)), Own(3), nn.InstanceNorm2d(3), nn.BatchNorm1d(2))
    before = list(network.modules())
    names = list(network.state_dict())
    with synchronised(network):
        kinds = [type(module).__name__ for module in network.modules()]
        assert kinds[2:] == ["SyncedNorm", "Own", "InstanceNorm2d", "SyncedNorm"]
        assert list(network.state_dict()) == names
        network.to(torch.float64)
        network[3].weight.data.fill_(5.0)
        network.eval()
    assert list(network.modules()) == before
    assert network[3].weight.tolist() == [5.0, 5.0]
    assert network[3].running_mean.dtype == torch.float64
    assert not any(module.training for module in network.modules())
    with synchronised(network, wanted=False):
        assert list(network.modules()) == before
