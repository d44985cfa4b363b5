"""A method small enough to recompute by hand, and batches that are functions of their number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from proxylesskd.methods.method import Batch

CLASSES = 5


class LeastSquares:
    """``½ mean_i |f(x_i) - onehot(y_i)|²``: the simplest thing that satisfies the Protocol."""

    def __init__(self, student: nn.Module, needs: frozenset[str] = frozenset()) -> None:
        self.student = student
        self.needs = needs
        self.seen: list[Batch] = []
        self.count = torch.zeros(())

    def step(self, batch: Batch) -> dict[str, Tensor]:
        self.seen.append(batch)
        self.count = self.count + 1
        outputs = self.student(batch.images)
        errors = outputs - F.one_hot(batch.labels, CLASSES)
        accuracy = (outputs.argmax(1) == batch.labels).float().mean()
        return {"loss": 0.5 * errors.square().sum(1).mean(), "accuracy": accuracy, "bias": errors.mean()}

    def trainable(self) -> Iterator[tuple[str, nn.Parameter]]:
        return self.student.named_parameters()

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.count = state["count"]


def linear() -> LeastSquares:
    torch.manual_seed(1)
    return LeastSquares(nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, CLASSES)).double())


def convolutional() -> LeastSquares:
    """Everything whose state could be forgotten: batch norm's buffers, PReLU, dropout's random numbers."""
    torch.manual_seed(1)
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(4), nn.Dropout(0.3), nn.Flatten(), nn.Linear(16, CLASSES)]
    return LeastSquares(nn.Sequential(*layers))


def load(number: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    indices = torch.arange(number * size, (number + 1) * size)
    images = torch.stack([torch.arange(48) * (7 * i + 3) % 251 for i in indices.tolist()])
    return images.reshape(size, 3, 4, 4).to(torch.uint8), indices % CLASSES, indices


def make_batches(size: int) -> Callable[[int, int], Iterator[tuple[int, Tensor, Tensor, Tensor]]]:
    def batches(start: int, stop: int) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
        for number in range(start, stop):
            yield number, *load(number, size)

    return batches


@pytest.fixture
def make_linear() -> Callable[[], LeastSquares]:
    return linear


@pytest.fixture
def make_convolutional() -> Callable[[], LeastSquares]:
    return convolutional


@pytest.fixture
def batches_of() -> Callable[[int], Callable[[int, int], Iterator[tuple[int, Tensor, Tensor, Tensor]]]]:
    return make_batches
