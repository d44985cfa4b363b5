from __future__ import annotations

import pytest
import torch

from proxylesskd.models import create_model
from proxylesskd.models.count import count_multiply_adds, count_parameters


def sizes_by_the_table(dim: int = 512) -> tuple[int, int]:
    """Parameters and multiply-adds at 112 pixels, line by line of the paper's table."""
    parameters = multiply_adds = 0

    def conv(inputs: int, outputs: int, kernel: int, side: int, *, groups: int = 1, bend: bool = True) -> None:
        nonlocal parameters, multiply_adds
        weights = inputs // groups * outputs * kernel**2
        parameters += weights + 2 * outputs + (outputs if bend else 0)
        multiply_adds += weights * side**2

    conv(3, 64, 3, 56)
    conv(64, 64, 3, 56, groups=64)
    inputs, side = 64, 56
    for t, c, n, s in [(2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1)]:
        for number in range(n):
            hidden, after = t * inputs, side // (s if number == 0 else 1)
            conv(inputs, hidden, 1, side)
            conv(hidden, hidden, 3, after, groups=hidden)
            conv(hidden, c, 1, after, bend=False)
            inputs, side = c, after
    conv(128, 512, 1, 7)
    conv(512, 512, 7, 1, groups=512, bend=False)
    conv(512, dim, 1, 1, bend=False)
    return parameters, multiply_adds


def test_size_equals_the_papers() -> None:
    model = create_model("mobilefacenet", dim=512)
    counted = count_parameters(model), count_multiply_adds(model, 112)
    assert counted == sizes_by_the_table()
    assert round(counted[0] / 1e6, 2) == 1.20
    assert round(counted[1] / 1e6) == 221


@pytest.mark.parametrize(("width", "size"), [(0.5, 112), (0.25, 96), (0.25, 64), (0.5, 56), (0.3, 50)])
def test_width_and_image_size(width: float, size: int) -> None:
    model = create_model("mobilefacenet", dim=24, width=width, image_size=size)
    output = model(torch.randn(2, 3, size, size))
    assert output.shape == (2, 24)
    output.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    channels = [m.out_channels for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    assert all(c % 8 == 0 for c in channels)


def test_the_global_kernel_weighs_every_place() -> None:
    model = create_model("mobilefacenet", dim=8, width=0.125, image_size=112)
    (kernel,) = [m.kernel_size for m in model.modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size > (3, 3)]
    assert kernel == (7, 7)


def test_fifteen_bottlenecks_twelve_of_them_residual() -> None:
    model = create_model("mobilefacenet", width=0.125, image_size=56)
    residual = [m.residual for m in model.modules() if hasattr(m, "residual")]
    assert len(residual) == 15
    assert sum(residual) == 4 + 6 + 2  # all but the first of a strided row


def test_a_residual_block_adds_its_input() -> None:
    model = create_model("mobilefacenet", width=0.25, image_size=56).eval()
    block = next(m for m in model.modules() if getattr(m, "residual", False))
    x = torch.randn(1, 16, 7, 7)
    with torch.no_grad():
        block.project[1].weight.zero_()  # silences the branch
        torch.testing.assert_close(block(x), x)


def test_it_learns() -> None:
    torch.manual_seed(0)
    model = create_model("mobilefacenet", dim=8, width=0.125, image_size=32)
    x, target = torch.randn(8, 3, 32, 32), torch.randn(8, 8)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(40):
        loss = (model(x) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
