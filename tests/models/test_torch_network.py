from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from proxylesskd.errors import UserError
from proxylesskd.models import create_model
from proxylesskd.models.preprocess import Preprocessing
from proxylesskd.models.torch_network import TorchNetwork


def _module() -> nn.Module:
    torch.manual_seed(0)
    return create_model("mobilefacenet", dim=8, width=0.125, image_size=32)


def test_a_live_module_is_left_as_it_is() -> None:
    module = _module().train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    network = TorchNetwork(module, Preprocessing(size=32))
    pixels = torch.randn(3, 3, 32, 32)
    found = network(pixels)
    assert network.dim == 8
    assert module.training
    assert not found.requires_grad
    assert all(p.requires_grad for p in module.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    torch.testing.assert_close(found, module.eval()(pixels), rtol=1e-4, atol=1e-5)


def test_the_digest_follows_the_weights() -> None:
    module = _module()
    network = TorchNetwork(module, Preprocessing(size=32))
    first = network.digest()
    assert TorchNetwork(_module(), Preprocessing(size=32)).digest() == first
    with torch.no_grad():
        next(module.parameters()).view(-1)[0] += 1e-3
    assert network.digest() != first


def test_the_digest_is_the_same_in_either_memory_format() -> None:
    first = TorchNetwork(_module(), Preprocessing(size=32)).digest()
    other = _module().to(memory_format=torch.channels_last)
    assert TorchNetwork(other, Preprocessing(size=32)).digest() == first


class _Pooled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.view(len(x), 3, -1).mean(2)  # view: such a module takes contiguous maps alone


def test_a_module_without_parameters_that_calls_view() -> None:
    assert TorchNetwork(_Pooled(), Preprocessing(size=16)).dim == 3


def test_an_input_with_channels_last_dimension() -> None:
    network = TorchNetwork(nn.Sequential(nn.Flatten(), nn.Linear(768, 4)), Preprocessing(size=16, layout="nhwc"))
    assert network.dim == 4


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Conv2d(3, 4, 3), r"embeddings \[B, D\], found \[1, 4, 14, 14\]"),
        (nn.Conv2d(1, 4, 3), "expected a network for images of 16x16"),
        (nn.ParameterDict(), "expected a network for images of 16x16"),
    ],
)
def test_other_networks_are_refused(module: nn.Module, message: str) -> None:
    with pytest.raises(UserError, match=message):
        TorchNetwork(module, Preprocessing(size=16))
