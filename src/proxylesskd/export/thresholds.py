"""From which similarity on two faces count as one person: what an exported file carries with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from proxylesskd.data.pairs import Pairs
from proxylesskd.evaluation.embed import embed_images, pair_scores
from proxylesskd.evaluation.evaluation import measure
from proxylesskd.export.measured import read_evaluation
from proxylesskd.export.run_folder import read_json
from proxylesskd.models.embedder import Embedder

Modes = dict[str, dict[str, float]]


def thresholds_of(
    folder: Path, pairs: Pairs | None, reference: npt.NDArray[np.float32], teacher: Embedder | None, *, flip: bool
) -> tuple[Modes, Modes]:
    """Return thresholds and calibration by mode: of the run's evaluation, or measured where that does not apply.

    Args:
        folder: the run folder.
        pairs: on which they are measured where the folder holds no evaluation, or one without the mirrored face.
        reference: ``[M, D]`` embeddings of the pairs' images.
        teacher: that made the gallery across models; one of another dimension is left out.
        flip: whether the embeddings are of both views.
    """
    told = read_json(folder / "evaluation.json")
    if told is not None and not flip:
        read_evaluation(folder / "evaluation.json")  # says what is wrong with it
        return _of_evaluation(told)
    if pairs is None:
        return {}, {}
    unit = reference / np.linalg.norm(reference, axis=1, keepdims=True)
    galleries = {"single": unit}
    if teacher is not None and teacher.dim == unit.shape[1]:
        galleries["cross"] = embed_images(teacher, pairs.images)
    modes = {name: measure(pair_scores(one, unit, pairs), pairs, replicates=0) for name, one in galleries.items()}
    return _of_evaluation({name: mode.to_dict() for name, mode in modes.items()})


def _of_evaluation(told: Mapping[str, Any]) -> tuple[Modes, Modes]:
    modes = {name: told[name] for name in ("single", "cross") if name in told}
    thresholds = {
        name: {
            far_key(rate["far"]): rate["threshold"]
            for rate in mode["tar"]
            if rate["threshold"] is not None and 1e-6 <= rate["far"] <= 1e-2
        }
        for name, mode in modes.items()
    }
    return thresholds, {name: mode["calibration"] for name, mode in modes.items() if mode.get("calibration")}


def far_key(far: float) -> str:
    """Return how a contract writes a false accept rate: ``1e-3``."""
    return np.format_float_scientific(far, trim="-", exp_digits=1)
