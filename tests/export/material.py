"""One network with everything a delivery is made from, small enough for tests."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import nn

from proxylesskd.data.pairs import Pairs
from proxylesskd.export.assemble import InputKind, calling_of
from proxylesskd.export.contract import TEMPLATE, Contract
from proxylesskd.export.deliver import Material
from proxylesskd.export.faults import Truth
from proxylesskd.export.onnx import embed_reference, frozen_copy, network_graph
from proxylesskd.models.preprocess import Preprocessing
from tests.faces import face

# numbers that nothing else uses, so that a lost or swapped one shows
WANTED = Preprocessing(size=56, mean=120.0, std=64.0, order="bgr")
IDENTITIES, EACH = 12, 4


class Small(nn.Module):
    """Three convolutions, one of them by channel, with a residual sum: what mobile face networks are made of."""

    def __init__(self, dim: int = 16) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 5, 4, bias=False), nn.BatchNorm2d(8), nn.PReLU(8))
        self.second = nn.Sequential(
            nn.Conv2d(8, 8, 3, 1, padding=1, groups=8, bias=False), nn.BatchNorm2d(8), nn.PReLU(8)
        )
        self.third = nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8))
        self.last = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, dim), nn.BatchNorm1d(dim))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        first = self.first(image)
        embedding: torch.Tensor = self.last(first + self.third(self.second(first)))
        return embedding


def make_small() -> nn.Module:
    """A network whose norms have seen faces."""
    torch.manual_seed(3)
    model, faces = Small(), torch.from_numpy(make_pairs_set().images)
    for _ in range(20):
        model(WANTED(faces))
    return model.eval()


def make_pairs_set() -> Pairs:
    """Faces of twelve identities, all genuine pairs and as many impostor pairs as 120."""
    images = np.stack([face(i, j).transpose(2, 0, 1) for i in range(IDENTITIES) for j in range(EACH)])
    labels = np.repeat(np.arange(IDENTITIES), EACH)
    first, second = np.triu_indices(len(labels), 1)
    same = labels[first] == labels[second]
    chosen = np.sort(np.concatenate([np.flatnonzero(same), np.flatnonzero(~same)[::8]]))
    first, second = first[chosen].astype(np.int64), second[chosen].astype(np.int64)
    names = [f"{i}/{j}" for i in range(IDENTITIES) for j in range(EACH)]
    return Pairs("small", images, first, second, labels[first] == labels[second], first % 3, labels, names)


def make_material(model: nn.Module, body: Any, kind: InputKind, *, flip_fusion: bool = False) -> Material:
    """Everything that files of one kind are made from."""
    pairs, network = make_pairs_set(), frozen_copy(model)
    reference = embed_reference(network, WANTED, pairs.images, flip=flip_fusion)
    contract = Contract(
        calling_of(WANTED, kind), 16, True, TEMPLATE, {"made_by": "a test"}, dtype=kind.dtype, flip_fusion=flip_fusion
    )
    truth = Truth(WANTED, body, pairs.images, reference)
    return Material(network, WANTED, kind, flip_fusion, contract, truth, pairs, pairs.images, "the card")


def retold(material: Material, **changes: Any) -> Material:
    """The same, with a contract that says something else about preprocessing."""
    preprocessing = dataclasses.replace(material.contract.preprocessing, **changes)
    return dataclasses.replace(material, contract=dataclasses.replace(material.contract, preprocessing=preprocessing))


def small_body(model: nn.Module) -> Any:
    """The network alone as a graph."""
    return network_graph(frozen_copy(model), WANTED)
