"""From a trained network to the files that leave the house: ONNX, what was measured about it, and the card."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from proxylesskd.export.card import write_card
from proxylesskd.export.onnx import ExportReport, export_onnx
from proxylesskd.export.run_folder import read_json, read_toml
from proxylesskd.export.speed import Speed, measure_speed
from proxylesskd.models.count import count_multiply_adds, count_parameters
from proxylesskd.models.preprocess import Preprocessing


@dataclass(frozen=True)
class Shipment:
    """What :func:`ship` wrote.

    Attributes:
        export: the ONNX file and its check.
        speed: its size and latency on this machine.
        card: path of ``card.md``.
    """

    export: ExportReport
    speed: Speed
    card: Path


def ship(
    folder: Path,
    model: nn.Module,
    preprocessing: Preprocessing,
    *,
    images: npt.NDArray[np.uint8] | Tensor,
    name: str = "student",
    limit: float = 0.9999,
    repeats: int = 20,
    metadata: Mapping[str, str] | None = None,
) -> Shipment:
    """Export a network into a run folder: ``<name>.onnx``, ``export.json`` and ``card.md``.

    Args:
        folder: the run folder.
        model: ``[B, 3, S, S] float -> [B, D]`` un-normalised embedding.
        preprocessing: how the model wants its images.
        images: ``[M, 3, H, W] uint8`` RGB real faces for the check.
        name: of the file, without its ending.
        limit: cosine to PyTorch that every image must reach.
        repeats: timed calls per batch size.
        metadata: provenance, recorded as text in the file and on the card beside what the run folder says.

    Raises:
        UserError: the exported file fails its check, or a file of the run is malformed.
    """
    path = folder / f"{name}.onnx"
    told = {**provenance(folder), **(metadata or {})}
    report = export_onnx(model, preprocessing, path, images=images, limit=limit, metadata=told)
    speed = measure_speed(path, repeats=repeats)
    counts = {
        "parameters": count_parameters(model),
        "multiply_adds": count_multiply_adds(model, preprocessing.size),
    }
    write_json(folder / "export.json", {**report.to_dict(), **speed.to_dict(), **counts})
    return Shipment(report, speed, write_card(folder))


def provenance(folder: Path) -> dict[str, str]:
    """Return where a run's network comes from, as far as ``recipe.toml`` and ``classifier.json`` say.

    Raises:
        UserError: one of the files is malformed.
    """
    recipe, classifier = read_toml(folder / "recipe.toml") or {}, read_json(folder / "classifier.json") or {}
    found = {
        "made_by": f"proxylesskd {importlib.metadata.version('proxylesskd')}",
        "architecture": _at(recipe, "model", "name"),
        "method": _at(recipe, "method", "name"),
        "training_data": _at(recipe, "data", "train"),
        "classifier": classifier.get("fingerprint"),
        "teacher": _at(classifier, "provenance", "teacher") or _at(classifier, "provenance", "run"),
    }
    return {key: str(value) for key, value in found.items() if value}


def _at(tables: Mapping[str, Any], table: str, key: str) -> Any:
    inner = tables.get(table)
    return inner.get(key) if isinstance(inner, Mapping) else None


def write_json(path: Path, values: Mapping[str, object]) -> None:
    """Write a JSON object so that the file appears whole or not at all."""
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(json.dumps(values, indent=1, ensure_ascii=False), encoding="utf-8")
    temporary.replace(path)
