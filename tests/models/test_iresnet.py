from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from proxylesskd.models import create_model
from proxylesskd.models.count import count_multiply_adds, count_parameters
from proxylesskd.models.iresnet import BLOCKS, IResidual

# Totals with the constant scale of the last normalisation (512 values): a parameter there, a buffer here.
TOTALS = {"iresnet18": 24_025_600, "iresnet34": 34_139_328, "iresnet50": 43_590_848, "iresnet100": 65_156_160}


def parameters_by_formula(blocks: tuple[int, ...], dim: int, side: int) -> int:
    """Convolutions have no bias; a normalisation has 2 parameters per channel, a PReLU one."""
    total, inputs = 3 * 64 * 9 + 2 * 64 + 64, 64
    for count, c in zip(blocks, (64, 128, 256, 512), strict=True):
        for number in range(count):
            i = inputs if number == 0 else c
            total += 2 * i + 9 * i * c + 2 * c + c + 9 * c * c + 2 * c
            total += (i * c + 2 * c) if number == 0 else 0
        inputs = c
    return total + 2 * 512 + 512 * side**2 * dim + dim + 2 * dim


def multiply_adds_by_formula(blocks: tuple[int, ...], dim: int) -> int:
    total, inputs, side = 3 * 64 * 9 * 112**2, 64, 112
    for count, c in zip(blocks, (64, 128, 256, 512), strict=True):
        half = side // 2
        total += 9 * inputs * c * side**2 + 9 * c * c * half**2 + inputs * c * half**2
        total += (count - 1) * 2 * 9 * c * c * half**2
        inputs, side = c, half
    return total + 512 * 7 * 7 * dim


@pytest.mark.parametrize("name", BLOCKS)
def test_size_equals_the_formula(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name)
    with_constant_scale = count_parameters(model) + 512
    assert with_constant_scale == parameters_by_formula(BLOCKS[name], 512, 7) == TOTALS[name]


def test_multiply_adds() -> None:
    assert count_multiply_adds(create_model("iresnet18"), 112) == multiply_adds_by_formula(BLOCKS["iresnet18"], 512)


def published_names(blocks: tuple[int, ...]) -> set[str]:
    """The keys of a checkpoint of InsightFace, written down without our modules."""
    statistics = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]

    def norm(prefix: str) -> list[str]:
        return [f"{prefix}.{part}" for part in statistics]

    names = ["conv1.weight", "prelu.weight", "fc.weight", "fc.bias", *norm("bn1"), *norm("bn2"), *norm("features")]
    for stage, count in enumerate(blocks, start=1):
        for block in range(count):
            at = f"layer{stage}.{block}"
            names += [f"{at}.conv1.weight", f"{at}.conv2.weight", f"{at}.prelu.weight"]
            names += [*norm(f"{at}.bn1"), *norm(f"{at}.bn2"), *norm(f"{at}.bn3")]
        names += [f"layer{stage}.0.downsample.0.weight", *norm(f"layer{stage}.0.downsample.1")]
    return set(names)


@pytest.mark.parametrize("name", BLOCKS)
def test_names_are_the_published_ones(name: str) -> None:
    with torch.device("meta"):
        assert set(create_model(name).state_dict()) == published_names(BLOCKS[name])


def forward_by_functions(state: dict[str, Tensor], blocks: tuple[int, ...], x: Tensor) -> Tensor:
    """The network as one function of published weights."""

    def norm(at: str, x: Tensor) -> Tensor:
        mean, var = state[f"{at}.running_mean"], state[f"{at}.running_var"]
        shape = (1, -1) + (1,) * (x.ndim - 2)
        scaled = (x - mean.view(shape)) / (var.view(shape) + 1e-5).sqrt()
        return scaled * state[f"{at}.weight"].view(shape) + state[f"{at}.bias"].view(shape)

    def bend(at: str, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, x * state[f"{at}.weight"].view(1, -1, 1, 1))

    x = bend("prelu", norm("bn1", F.conv2d(x, state["conv1.weight"], padding=1)))
    for stage, count in enumerate(blocks, start=1):
        for block in range(count):
            at, stride = f"layer{stage}.{block}", 2 if block == 0 else 1
            y = norm(f"{at}.bn2", F.conv2d(norm(f"{at}.bn1", x), state[f"{at}.conv1.weight"], padding=1))
            y = norm(f"{at}.bn3", F.conv2d(bend(f"{at}.prelu", y), state[f"{at}.conv2.weight"], None, stride, 1))
            if block == 0:
                short = F.conv2d(x, state[f"{at}.downsample.0.weight"], stride=2)
                x = norm(f"{at}.downsample.1", short)
            x = x + y
    flat = norm("bn2", x).reshape(len(x), -1)
    return norm("features", flat @ state["fc.weight"].T + state["fc.bias"])


@pytest.mark.parametrize("name", ["iresnet18", "iresnet34"])
def test_forward_against_functions(name: str) -> None:
    torch.manual_seed(0)
    model = create_model(name, dim=24, width=0.125, image_size=48).double().eval()
    for key, tensor in model.state_dict().items():
        if tensor.is_floating_point() and "conv" not in key and "downsample.0" not in key:
            tensor.copy_(torch.rand_like(tensor) + 0.5)
    x = torch.randn(2, 3, 48, 48, dtype=torch.float64)
    expected = forward_by_functions(model.state_dict(), BLOCKS[name], x)
    torch.testing.assert_close(model(x), expected, rtol=1e-9, atol=1e-9)


def test_the_scale_of_the_last_normalisation_never_trains() -> None:
    model = create_model("iresnet18", dim=8, width=0.125, image_size=16)
    assert "features.weight" not in dict(model.named_parameters())
    model(torch.randn(4, 3, 16, 16)).square().sum().backward()
    assert model.get_buffer("features.weight").tolist() == [1.0] * 8
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_a_strided_shortcut_is_trained_as_the_strided_convolution() -> None:
    torch.manual_seed(0)
    block = IResidual(3, 5, stride=2).double()
    x = torch.randn(4, 3, 8, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 5, 4, 3, dtype=torch.float64)
    found, expected = [], []
    for forward, told in ((block._shortcut, found), (block.downsample, expected)):
        block.zero_grad()
        x.grad = None
        (output := forward(x)).mul(weight).sum().backward()
        told += [output, x.grad, *(p.grad for p in block.downsample.parameters())]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


TRAINED = """
import torch, proxylesskd
torch.set_num_threads(1)
model = proxylesskd.create_model("iresnet18", dim=16, width=0.125).to(memory_format=torch.channels_last)
for _ in range(4):
    model(torch.randn(16, 3, 112, 112).contiguous(memory_format=torch.channels_last)).square().mean().backward()
"""


def test_narrow_networks_survive_training() -> None:
    """A strided convolution of one pixel, channels last, wrote past its buffers: the process ended, not a test."""
    done = subprocess.run([sys.executable, "-c", TRAINED], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
