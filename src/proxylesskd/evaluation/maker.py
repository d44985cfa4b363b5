"""Which model an evaluation is of, by hash, so that its thresholds are not taken for another's."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from proxylesskd.models.embedder import Embedder
from proxylesskd.models.location import split_location
from proxylesskd.models.onnx_graph import recorded_preprocessing, recorded_weights
from proxylesskd.models.weights import RUN_WEIGHTS


def maker_of(model: object, probe: Embedder) -> dict[str, Any]:
    """Return what tells a model from others.

    Args:
        model: as it was asked for: a path, perhaps with options, or something in memory.
        probe: what was opened.

    Returns:
        As far as they are known: ``fingerprint`` (weights and preprocessing), ``preprocessing``, ``file`` (sha256 of
        the file) and ``weights``: the sha256 that all files share which were exported from one network.
    """
    preprocessing = getattr(probe, "preprocessing", None)
    told: dict[str, Any] = {
        "fingerprint": getattr(probe, "fingerprint", None),
        "preprocessing": None if preprocessing is None else preprocessing.to_dict(),
    }
    if isinstance(model, (str, Path)):
        plain, options = split_location(model)
        file = plain if plain.is_file() else next(one for name in RUN_WEIGHTS if (one := plain / name).is_file())
        told["file"] = hashlib.sha256(file.read_bytes()).hexdigest()
        told["weights"] = None if options else _shared(file, told["file"], probe)
    return {key: value for key, value in told.items() if value}


def _shared(file: Path, digest: str, probe: Embedder) -> str | None:
    graph = getattr(getattr(probe, "network", None), "graph", None)
    if graph is not None:
        return (recorded_weights(graph) or digest) if recorded_preprocessing(graph) else None
    return digest if file.name in RUN_WEIGHTS else None
