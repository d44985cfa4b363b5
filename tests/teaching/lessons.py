"""A teacher that sees left from right and knows lengths, and a course that remembers what it was told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from proxylesskd.methods.method import Batch
from tests.faces import ColourEmbedder


class Teacher(ColourEmbedder):
    """Counts the images it was shown."""

    fingerprint = "long-1"

    def __init__(self) -> None:
        self.images = 0

    def measure(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.images += len(images)
        return super().embed(images), 1 + images[..., :50].float().mean((1, 2, 3))

    def embed(self, images: Tensor) -> Tensor:
        return self.measure(images)[0]


class Listener:
    """Learns nothing."""

    def __init__(self, *needs: str) -> None:
        self.student = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 1))
        self.needs = frozenset(needs)
        self.heard: list[Batch] = []

    def step(self, batch: Batch) -> dict[str, Tensor]:
        self.heard.append(batch)
        return {"loss": self.student(batch.images).mean()}

    def to(self, device: torch.device) -> None:
        pass

    def trainable(self) -> Iterator[tuple[str, nn.Parameter]]:
        return self.student.named_parameters()

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass
