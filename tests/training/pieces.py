"""A method small enough to recompute by hand, and batches that are functions of their number."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

from proxylesskd.methods.method import Batch
from proxylesskd.training.loop import fit
from proxylesskd.training.result import FitResult

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


def normalise(images: Tensor, indices: Tensor, step: int) -> Tensor:
    return images.float() / 127.5 - 1.0


def double(images: Tensor, indices: Tensor, step: int) -> Tensor:
    return images.double() / 127.5 - 1.0


def fit_quietly(method: LeastSquares, batches: Any, **settings: Any) -> FitResult:
    defaults = {"steps": 12, "steps_per_epoch": 4, "prepare": normalise, "lr": 0.05, "warmup": 3, "quiet": True}
    defaults |= {"console": Console(file=io.StringIO())}
    return fit(method, batches, **{**defaults, **settings})


def parameters_of(method: LeastSquares) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in method.student.state_dict().items()}


def assert_equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def poison(numbers: Any) -> Callable[[Tensor, Tensor, int], Tensor]:
    def prepare(images: Tensor, indices: Tensor, step: int) -> Tensor:
        return double(images, indices, step) * (float("nan") if step in numbers else 1.0)

    return prepare
