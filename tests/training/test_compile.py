"""Compiling for the length of a training: same names, same parameters when resumed, no silent failure."""

from __future__ import annotations

import copy
import shutil
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from proxylesskd.errors import UserError
from proxylesskd.models.prelu import PReLU
from proxylesskd.models.registry import create_model
from proxylesskd.models.synced_norm import synchronised
from proxylesskd.training.compile import compiled, wants_compile
from tests.training.pieces import assert_equal, convolutional, fit_quietly, make_batches, parameters_of

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


class Counting:
    """A backend of torch.compile that counts the graphs it is given and leaves them as they are."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, _inputs: list[Tensor]) -> Any:
        self.graphs += 1
        return graph.forward


@pytest.fixture(autouse=True)
def _fresh() -> None:
    torch.compiler.reset()


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), PReLU(4), nn.Flatten(), nn.Linear(16, 5))


@pytest.mark.parametrize(
    ("choice", "device", "expected"), [("on", CPU, True), ("off", CUDA, False), ("auto", CPU, False)]
)
def test_where_a_student_is_compiled(choice: str, device: torch.device, expected: bool) -> None:
    assert wants_compile(choice, device) is expected


@pytest.mark.parametrize("installed", [True, False])
def test_auto_compiles_on_cuda_where_triton_is(monkeypatch: pytest.MonkeyPatch, installed: bool) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: "found" if installed and name == "triton" else None)
    assert wants_compile("auto", CUDA) is installed


def test_an_unknown_choice_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"found 'of'; did you mean 'off'"):
        wants_compile("of", CPU)


def test_training_passes_are_compiled_whole_and_others_are_not() -> None:
    network, images, count = _network(), torch.randn(8, 3, 4, 4), Counting()
    expected, names = copy.deepcopy(network)(images), list(network.state_dict())
    with compiled(network, True, backend=count):
        assert torch.equal(network(images), expected)
        assert count.graphs == 1  # one graph: nothing in our layers breaks it
        assert list(network.state_dict()) == names
        assert copy.deepcopy(network)(images).shape == (8, 5)
        network.eval()(images[:3])
        assert count.graphs == 1
    network.train()(images[:5])
    assert count.graphs == 1


def test_mobilefacenet_is_one_graph() -> None:
    network, count = create_model("mobilefacenet", dim=8, width=0.125, image_size=32).train(), Counting()
    with compiled(network, True, backend=count):
        network(torch.randn(2, 3, 32, 32).requires_grad_()).sum().backward()
    assert count.graphs == 1
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_compiled_network_pauses_at_norms_that_processes_share() -> None:
    network, images, count = _network(), torch.randn(8, 3, 4, 4), Counting()
    expected = copy.deepcopy(network)(images)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        with synchronised(network, True), compiled(network, True, backend=count):
            found = network(images)
            found.sum().backward()
    finally:
        dist.destroy_process_group()
    assert count.graphs > 0  # what can be is compiled
    assert sum(torch._dynamo.utils.counters["graph_break"].values()) > 0
    torch.testing.assert_close(found, expected)


def test_off_changes_nothing() -> None:
    network, count = _network(), Counting()
    with compiled(network, False, backend=count):
        network(torch.randn(2, 3, 4, 4))
    assert count.graphs == 0


def test_the_first_step_is_announced() -> None:
    said: list[str] = []
    with compiled(_network(), True, said.append, backend="eager"):
        pass
    assert "train.compile=off" in said[0]


def test_a_failed_compilation_says_how_to_turn_it_off() -> None:
    def broken(_graph: torch.fx.GraphModule, _inputs: list[Tensor]) -> Any:
        raise RuntimeError("no C++ compiler\nand a long story")

    network = _network()
    with (
        pytest.raises(
            UserError, match=r"^expected to compile the student, found RuntimeError: no C\+\+ compiler; train"
        ),
        compiled(network, True, backend=broken),
    ):
        network(torch.randn(2, 3, 4, 4))
    assert network(torch.randn(2, 3, 4, 4)).shape == (2, 5)  # and it is no longer compiled


def test_other_errors_pass_through() -> None:
    with pytest.raises(ZeroDivisionError), compiled(_network(), True, backend="eager"):
        _ = 1 // 0


def _train(folder: Path, stop: int, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> dict[str, Tensor]:
    monkeypatch.setattr("proxylesskd.training.loop.compiled", partial(compiled, backend=(count := Counting())))
    method = convolutional()
    torch.manual_seed(3)
    fit_quietly(method, Interrupted(stop), checkpoints=folder, compile="on", log_every=3, **settings)
    assert count.graphs >= 1
    return parameters_of(method)


class Interrupted:
    """Batches that ask the training to stop, as the system does, after some step."""

    def __init__(self, stop: int) -> None:
        self.stop, self.batches = stop, make_batches(8)

    def __call__(self, start: int, stop: int) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
        for loaded in self.batches(start, stop):
            if loaded[0] == self.stop:
                signal.raise_signal(signal.SIGTERM)
            yield loaded


def test_resuming_a_compiled_training_is_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _train(tmp_path / "a", -1, monkeypatch)
    torch.compiler.reset()  # as another process
    half = _train(tmp_path / "b", 5, monkeypatch)
    torch.compiler.reset()
    resumed = _train(tmp_path / "b", -1, monkeypatch, resume=True)
    assert_equal(resumed, whole)
    assert any(not torch.equal(half[name], whole[name]) for name in whole)


def test_a_run_is_not_resumed_with_another_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _train(tmp_path, 5, monkeypatch)
    with pytest.raises(UserError, match="compile"):
        fit_quietly(convolutional(), make_batches(8), checkpoints=tmp_path, resume=True, log_every=3)


def test_a_wrong_choice_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="compile"):
        fit_quietly(convolutional(), make_batches(8), checkpoints=tmp_path / "new", compile="yes")
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_a_compiled_step_is_the_plain_step() -> None:
    network, images = _network(), torch.randn(8, 3, 4, 4)
    other = copy.deepcopy(network)
    other(images).square().sum().backward()
    with compiled(network, True):
        network(images).square().sum().backward()
    for plain, fast in zip(other.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(fast.grad, plain.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network[1].running_var, other[1].running_var)
