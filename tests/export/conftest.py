"""One exported network that the tests of this room share: exporting costs seconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from proxylesskd.export import onnx as exporter
from proxylesskd.export.onnx import ExportReport, export_onnx, frozen_copy, network_graph
from proxylesskd.models.preprocess import Preprocessing
from tests.faces import face

# values that nothing else uses, so that a lost or swapped one shows
PREPROCESSING = Preprocessing(size=56, mean=120.0, std=64.0, order="bgr")


class Tiny(nn.Module):
    """Convolution, batch norm, PReLU and a linear layer: what face networks are made of."""

    def __init__(self, dim: int = 6) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 5, 4, bias=False), nn.BatchNorm2d(8), nn.PReLU(8), nn.AdaptiveAvgPool2d(4), nn.Flatten()
        )
        self.head = nn.Sequential(nn.Linear(128, dim), nn.BatchNorm1d(dim))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        embedding: torch.Tensor = self.head(self.body(image))
        return embedding


def make_tiny(size: int) -> Tiny:
    """A network whose batch norms have seen something, left in training mode."""
    torch.manual_seed(5)
    model = Tiny()
    for _ in range(3):
        model(torch.randn(8, 3, size, size))
    return model


def make_faces(count: int) -> npt.NDArray[np.uint8]:
    """[count, 3, 112, 112] different faces."""
    return np.stack([face(i, 0).transpose(2, 0, 1) for i in range(count)])


@dataclass
class Exported:
    """The network, alone as a graph too, the faces of its check and what came out."""

    model: Tiny
    body: Any
    faces: npt.NDArray[np.uint8]
    report: ExportReport

    @property
    def path(self) -> Path:
        return self.report.path


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    path = tmp_path_factory.mktemp("export") / "tiny.onnx"
    model, faces = make_tiny(56), make_faces(9)
    body = network_graph(frozen_copy(model), PREPROCESSING)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporter, "network_graph", lambda *_: body)
        told = {"licence": "none at all", "data": "ü"}
        report = export_onnx(model, PREPROCESSING, path, images=faces, metadata=told)
    return Exported(model, body, faces, report)
