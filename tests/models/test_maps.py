from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from proxylesskd.models import create_model
from proxylesskd.models.iresnet import IResNet
from proxylesskd.models.maps import deepest_pairs, map_shapes, recording_maps, resized
from proxylesskd.models.mobilefacenet import MobileFaceNet


def _record(network: nn.Module, images: Tensor) -> list[Tensor]:
    with recording_maps(network) as maps:
        network(images)
    return maps


def test_an_iresnet_gives_what_ends_its_stages() -> None:
    torch.manual_seed(0)
    network = IResNet((2, 1, 2, 1), dim=8, width=0.125, image_size=32).eval()
    images = torch.randn(3, 3, 32, 32)
    x = network.prelu(network.bn1(network.conv1(images)))
    expected = [x]
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        expected.append(x := stage(x))
    expected[-1] = network.bn2(x)
    found = _record(network, images)
    assert [list(each.shape) for each in found] == [[3, 8, 32, 32], *([3, c, s, s] for c, s in _CHANNELS)]
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs)


_CHANNELS = ((8, 16), (16, 8), (32, 4), (64, 2))


def test_a_mobilefacenet_gives_what_ends_its_stages() -> None:
    torch.manual_seed(0)
    network = MobileFaceNet(dim=8, width=0.25, image_size=48).eval()
    images = torch.randn(2, 3, 48, 48)
    x = network.stem(images)
    expected = [x]
    for start, stop in ((0, 5), (5, 12), (12, 15)):
        for block in network.stages[start:stop]:
            x = block(x)
        expected.append(x)
    expected[-1] = network.head(x)
    found = _record(network, images)
    assert [each.shape[-1] for each in found] == [24, 12, 6, 3]
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize(("name", "count"), [("iresnet18", 5), ("mobilefacenet", 4)])
def test_the_shapes_are_those_of_the_maps(name: str, count: int) -> None:
    network = create_model(name, dim=8, width=0.125, image_size=56).train()
    shapes = map_shapes(network, 56)
    assert network.training
    assert len(shapes) == count
    assert [tuple(each.shape[1:]) for each in _record(network, torch.randn(2, 3, 56, 56))] == list(shapes)


def test_hooks_are_gone_afterwards_and_results_as_before() -> None:
    network = create_model("mobilefacenet", dim=8, width=0.125, image_size=32).eval()
    images = torch.randn(2, 3, 32, 32)
    before = network(images)
    with recording_maps(network) as maps:
        torch.testing.assert_close(network(images), before)
        first = [each.clone() for each in maps]
        network(images[:1])
        assert [len(each) for each in maps] == [1] * len(first)
    with pytest.raises(ZeroDivisionError), recording_maps(network) as maps:
        raise ZeroDivisionError
    network(images)
    assert maps == []
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in network.modules())


def test_maps_have_a_gradient_where_the_network_ran_with_one() -> None:
    network = create_model("mobilefacenet", dim=8, width=0.125, image_size=32).train()
    images = torch.randn(2, 3, 32, 32)
    maps = _record(network, images)
    sum(each.square().mean() for each in maps).backward()  # type: ignore[union-attr]
    assert network.stem[0][0].weight.grad.abs().sum() > 0  # type: ignore[union-attr, index]
    with torch.no_grad():
        assert not any(each.requires_grad for each in _record(network, images))


class _Excited(nn.Module):
    """Squeeze and excitation: a side branch of smaller maps."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze, self.gate = nn.AdaptiveAvgPool2d(2), nn.Conv2d(4, 4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.squeeze(x)).sigmoid()


class _Trunk(nn.Module):
    """Neither a Sequential nor the network itself."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.same, self.side = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 1, 1), _Excited()
        self.last = nn.Conv2d(4, 6, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        excited: Tensor = self.last(self.side(self.same(self.down(x))))
        return excited


class _Other(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.embedding = _Trunk(), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        embedding: Tensor = self.embedding(self.trunk(x).mean((2, 3)))
        return embedding


def test_other_networks() -> None:
    network, images = _Other().eval(), torch.randn(2, 3, 16, 16)
    trunk = network.trunk
    excited = trunk.side(trunk.same(trunk.down(images)))
    found = _record(network, images)
    assert map_shapes(network, 16) == ((4, 8, 8), (6, 4, 4))
    torch.testing.assert_close(found[0], excited)
    torch.testing.assert_close(found[1], trunk.last(excited))
    assert map_shapes(nn.Sequential(nn.Flatten(), nn.Linear(768, 4)), 16) == ()
    assert map_shapes(nn.Flatten(), 16) == ()


def test_maps_are_matched_from_the_deep_end() -> None:
    student = [torch.randn(2, c, s, s) for c, s in ((3, 6), (4, 3))]
    teacher = [torch.randn(2, c, s, s) for c, s in ((2, 24), (5, 12), (7, 6))]
    pairs = deepest_pairs(student, teacher)
    assert [own is each for (own, _), each in zip(pairs, student, strict=True)] == [True, True]
    for (own, other), whole in zip(pairs, teacher[1:], strict=True):
        side = own.shape[2]
        values = whole.double().numpy()
        cells = values.reshape(2, values.shape[1], side, 2, side, 2)
        np.testing.assert_allclose(other.numpy(), cells.mean(axis=(3, 5)), atol=1e-6)
    assert len(deepest_pairs(teacher, student)) == 2
    assert resized(student[0], (6, 6)) is student[0]
