from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from proxylesskd.errors import UserError
from proxylesskd.export.onnx_file import write_onnx

ort = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        return self.layer(left) + right, right * 2


def test_a_file_takes_any_batch(tmp_path: Path) -> None:
    network = Pair()
    path = write_onnx(
        tmp_path / "a.onnx", network, [torch.randn(2, 3), torch.randn(2, 2)], ["l", "r"], ["sum", "twice"]
    )
    left, right = np.random.default_rng(0).normal(size=(5, 3)), np.random.default_rng(1).normal(size=(5, 2))
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    total, twice = session.run(["sum", "twice"], {"l": left.astype(np.float32), "r": right.astype(np.float32)})
    weight, bias = (one.detach().numpy() for one in network.layer.parameters())
    assert np.allclose(total, left @ weight.T + bias + right, atol=1e-5)
    assert np.allclose(twice, 2 * right, atol=1e-6)


class Noisy(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return values + torch.rand_like(values)


class Stubborn(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return values if values.detach().numpy().sum() > 0 else -values


@pytest.mark.parametrize("network", [Noisy(), Stubborn()])
def test_what_differs_or_cannot_be_held_is_not_written(tmp_path: Path, network: nn.Module) -> None:
    with pytest.raises(UserError, match="ONNX"):
        write_onnx(tmp_path / "a.onnx", network, [torch.ones(2, 3)], ["x"], ["y"])
    assert not list(tmp_path.iterdir())
