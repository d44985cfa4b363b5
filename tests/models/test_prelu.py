from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proxylesskd.models import prelu
from proxylesskd.models.prelu import PReLU, prelu_gradients


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_equal_those_of_torch_across_slices(
    monkeypatch: pytest.MonkeyPatch, layout: torch.memory_format
) -> None:
    monkeypatch.setattr(prelu, "_SLICE", 2 * 3 * 5 * 5)  # 7 images in slices of 2
    torch.manual_seed(0)
    x = torch.randn(7, 3, 5, 5, dtype=torch.float64).contiguous(memory_format=layout)
    x[0, :, 0, 0] = 0.0
    gradient = torch.randn_like(x)
    theirs, ours = nn.PReLU(3).double(), PReLU(3).double()
    with torch.no_grad():
        theirs.weight.copy_(torch.tensor([0.25, -0.5, 1.5]))
    ours.load_state_dict(theirs.state_dict())
    results = []
    for module in (theirs, ours):
        leaf = x.clone().requires_grad_()
        output = module(leaf)
        output.backward(gradient)
        results.append((output.detach(), leaf.grad, module.weight.grad))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_gradients_by_finite_differences() -> None:
    torch.manual_seed(1)
    x = torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(prelu._SlicedPReLU.apply, (x, weight))


def test_an_empty_batch() -> None:
    empty = torch.zeros(0, 3, 2, 2)
    of_x, of_weight = prelu_gradients(empty, empty, torch.ones(3))
    assert of_x.shape == empty.shape
    assert of_weight.tolist() == [0, 0, 0]


def test_only_training_takes_the_own_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    def own(*_: Tensor) -> Tensor:
        raise AssertionError

    monkeypatch.setattr(prelu._SlicedPReLU, "apply", own)
    module, x = PReLU(3), torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(module.eval()(x), F.prelu(x, module.weight))
    with pytest.raises(AssertionError):
        module.train()(x.requires_grad_())
