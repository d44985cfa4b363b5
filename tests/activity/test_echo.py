from __future__ import annotations

import math

import numpy as np
import torch

from proxylesskd.activity.echo import PatchEcho


def by_loops(net: PatchEcho, window: np.ndarray) -> list[np.ndarray]:
    """What both heads say of one window ``[C, T]``, in numpy."""
    weight, bias = net.patches.weight.detach().numpy(), net.patches.bias.detach().numpy()  # type: ignore[union-attr]
    patch, stride = net.patches.kernel_size[0], net.patches.stride[0]
    recurrent, arriving, leak = (
        t.numpy() for t in (net.reservoir.recurrent, net.reservoir.arriving, net.reservoir.leak)
    )

    def step(state: np.ndarray, token: np.ndarray) -> np.ndarray:
        return (1 - leak) * state + leak * np.tanh(recurrent @ state + arriving @ token)

    state = np.zeros(len(leak))
    for start in range(0, window.shape[1] - patch + 1, stride):
        part = window[:, start : start + patch]
        found = np.array([(w * part).sum() + b for w, b in zip(weight, bias, strict=True)])
        if isinstance(net.bent, torch.nn.Sequential):
            bend = net.bent[1]
            gelu = np.array([one * (1 + math.erf(one / math.sqrt(2))) / 2 for one in found])
            found = bend.weight[:, :, 0].detach().numpy() @ gelu + bend.bias.detach().numpy()
        state = step(state, found)
    said = []
    for head, token in zip(net.heads, net.asking.detach().numpy(), strict=True):
        said.append(head.weight.detach().numpy() @ step(state, token) + head.bias.detach().numpy())
    return said


def test_a_window_is_read_as_the_paper_says() -> None:
    torch.manual_seed(0)
    for stride, token, hidden in ((0, 0, 0), (1, 3, 0), (2, 5, 7)):
        net = PatchEcho(2, 3, patch=4, stride=stride, token=token, hidden=hidden, size=9, leaks=(1.0, 0.5), apart=True)
        torch.nn.init.normal_(net.asking)
        windows = torch.randn(3, 2, 13)
        said = net(windows).detach().numpy()
        for one, window in zip(said, windows.numpy(), strict=True):
            assert np.allclose(one, np.concatenate(by_loops(net, window)), atol=1e-5)


def test_together_is_the_mean_of_both_heads() -> None:
    net = PatchEcho(2, 3, patch=4, size=9)
    windows = torch.randn(2, 2, 12)
    together = net(windows)
    net.apart = True
    first, second = net(windows).split(3, dim=1)
    assert torch.allclose(together, (first + second) / 2)


def test_gradients_reach_the_tokeniser_through_the_frozen_recurrence() -> None:
    net = PatchEcho(2, 3, patch=4, size=9)
    before = {name: value.clone() for name, value in net.named_buffers()}
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    net(torch.randn(2, 2, 12)).square().sum().backward()
    assert all(one.grad is not None and one.grad.abs().sum() > 0 for one in net.parameters())
    optimiser.step()
    assert all(torch.equal(before[name], value) for name, value in net.named_buffers())


def test_trainable_sizes_are_the_published_ones() -> None:
    """arXiv 2505.22985: patch 32, 64 and 128 with 1,000, and 128 with 4,000 cells."""
    wanted = {(32, 1000): 19_184, (64, 1000): 28_496, (128, 1000): 65_552, (128, 4000): 113_552}
    for (patch, size), trained in wanted.items():
        net = PatchEcho(3, 8, patch=patch, size=size, seed=None)
        assert sum(one.numel() for one in net.parameters()) == trained
