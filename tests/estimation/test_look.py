from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from proxylesskd.estimation import look
from proxylesskd.estimation.look import largest_batch, smaller_batch


def test_time_and_memory_bound_the_trial() -> None:
    assert largest_batch(128, 0.1, 1e6, allowed=60, free=1e9) == 128
    assert largest_batch(128, 1.0, 1e6, allowed=60, free=1e9) == 60
    assert largest_batch(128, 0.1, 1e7, allowed=60, free=5.5e8) == 54  # even: half of it is tried as well
    assert largest_batch(128, 60.0, 1e6, allowed=60, free=1e9) == 8
    assert largest_batch(4, 60.0, 1e6, allowed=60, free=1e9) == 8


class Keeper(nn.Module):
    """Keeps exactly its input of 3 * 8 * 8 numbers an image for the backward pass, and its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(192, 5))

    def forward(self, images: Tensor) -> Tensor:
        return (images.flatten(1) + 0.0) @ self.weight


def test_what_is_kept_for_the_backward_pass_is_counted() -> None:
    student = Keeper()
    assert look._once(student, torch.zeros(4, 3, 8, 8)) == 4 * 192 * 4
    assert student.weight.grad is None


def test_a_student_that_is_too_large_is_tried_with_fewer_images(monkeypatch: pytest.MonkeyPatch) -> None:
    assert smaller_batch(Keeper(), 8, 128, 7, allowed=1e6) == 0
    assert smaller_batch(Keeper(), 8, 2, 7, allowed=1e6) == 0
    assert smaller_batch(Keeper(), 8, 128, 7, allowed=0.0) == 8
    per_image = 192 * 4 * 1.5
    monkeypatch.setattr(look, "available_memory", lambda: int(20 * per_image / 0.6) + 1)
    assert smaller_batch(Keeper(), 8, 128, 7, allowed=1e6) == 20
