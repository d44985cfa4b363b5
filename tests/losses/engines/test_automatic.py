from __future__ import annotations

import pytest
import torch

from proxylesskd.losses.engines import automatic as module
from proxylesskd.losses.engines.automatic import automatic


@pytest.mark.parametrize(
    ("batch", "count", "trained", "expected"),
    [(128, 2_000, False, "reference"), (128, 10_000, False, "chunked"), (128, 10_000, True, "reference")],
)
def test_few_logits_and_trained_rows_go_through_plain_pytorch(
    batch: int, count: int, trained: bool, expected: str
) -> None:
    assert automatic(batch, count, "cpu", trained=trained) == expected


@pytest.mark.parametrize(
    ("capability", "installed", "expected"),
    [((9, 0), True, "triton"), ((8, 0), True, "triton"), ((7, 5), True, "chunked"), ((9, 0), False, "chunked")],
)
def test_triton_needs_its_package_and_a_gpu_that_can(
    capability: tuple[int, int], installed: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(module, "find_spec", lambda _: object() if installed else None)
    assert automatic(512, 100_000, "cuda:0") == expected
    assert automatic(512, 100, "cuda:0") == "reference"
