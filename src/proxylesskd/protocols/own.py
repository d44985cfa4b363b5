"""One's own set: the header of a CSV tells what is to be measured.

==============================  ============================================
``first,second,same[,fold]``    verification of pairs
``first,second,same,group``     verification by group
``path,identity``               verification of all pairs
``path,identity,role``          open-set identification
``trial,path,identity,role``    verification and identification in trials
==============================  ============================================
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from proxylesskd.data.pairs import read_pairs
from proxylesskd.errors import UserError
from proxylesskd.evaluation.evaluation import Evaluation, evaluate
from proxylesskd.evaluation.gallery import Model
from proxylesskd.evaluation.result import Estimate, ModeResult, bin_edges, thin
from proxylesskd.protocols import all_pairs, blufr, group_sets, open_set
from proxylesskd.protocols.all_pairs import evaluate_all_pairs
from proxylesskd.protocols.blufr import evaluate_blufr
from proxylesskd.protocols.csv_list import read_header
from proxylesskd.protocols.groups import evaluate_groups
from proxylesskd.protocols.open_set import evaluate_open_set
from proxylesskd.protocols.outcome import Curve, Measure, Outcome

PAIRS = ("first", "second", "same")
KINDS = {  # the first whose columns are all there
    "blufr": blufr.COLUMNS,
    "open set": open_set.COLUMNS,
    "groups": group_sets.COLUMNS,
    "pairs": PAIRS,
    "all pairs": all_pairs.COLUMNS,
}


def kind_of(path: Path | str) -> str:
    """Return what the header of a CSV asks for: a key of :data:`KINDS`.

    Raises:
        UserError: none of them.
    """
    found = read_header(Path(path))
    for kind, columns in KINDS.items():
        if set(columns) <= set(found):
            return kind
    known = " or ".join(",".join(columns) for columns in KINDS.values())
    raise UserError(f"expected a header {known} in '{path}', found {','.join(found)[:80] or 'an empty line'}")


def evaluate_own(
    model: Model,
    where: Path | str,
    *,
    root: Path | str | None = None,
    gallery: Model | None = None,
    projection: Tensor | str | Path | None = None,
    flip: bool = False,
    replicates: int = 1000,
    seed: int = 0,
    cache: str | Path | None = None,
    progress: bool = False,
    name: str | None = None,
) -> Outcome:
    """Evaluate a model on a CSV of one's own, and across models where a gallery model is given.

    Args:
        model: embeds the probes, and in single-model mode the gallery.
        where: the CSV, see :mod:`proxylesskd.protocols.own`.
        root: folder to which its paths are relative; by default its own.
        gallery: embeds the gallery in cross-model mode.
        projection: for the gallery, see :func:`proxylesskd.evaluation.evaluate`.
        flip: add the embedding of the mirror image.
        replicates: of the bootstrap; 0 for no intervals.
        seed: of the bootstrap.
        cache: folder of embeddings; a list of pairs is embedded anew.
        progress: draw progress bars.
        name: of the model, for tables.

    Raises:
        UserError: the header is of no protocol, or see the protocol.
    """
    kind = kind_of(where)
    common: dict[str, Any] = {"gallery": gallery, "projection": projection, "flip": flip}
    common |= {"progress": progress, "name": name}
    if kind == "pairs":
        return outcome_of(evaluate(model, read_pairs(where, root), replicates=replicates, seed=seed, **common))
    common |= {"root": root, "cache": cache}
    if kind == "blufr":
        return evaluate_blufr(model, where, **common)
    common |= {"replicates": replicates, "seed": seed}
    runs: dict[str, Callable[..., Outcome]] = {"open set": evaluate_open_set, "groups": evaluate_groups}
    return runs.get(kind, evaluate_all_pairs)(model, where, **common)


def outcome_of(evaluation: Evaluation) -> Outcome:
    """Return the outcome of a verification of pairs."""
    same = evaluation.single.same
    return Outcome(
        protocol=f"pairs, {evaluation.pairs}",
        model=evaluation.name,
        gallery=evaluation.gallery,
        counts={"genuine pairs": int(same.sum()), "impostor pairs": int((~same).sum())},
        measures={mode: _measures(result) for mode, result in evaluation.modes().items()},
        curves={mode: _curves(result) for mode, result in evaluation.modes().items()},
        drawn=dict(evaluation.resampling) if evaluation.resampling["replicates"] else {},
    )


def _measures(result: ModeResult) -> dict[str, Measure]:
    found = {"accuracy": _measure(result.accuracy, result.threshold), "auc": _measure(result.auc)}
    found["eer"] = Measure(result.eer, threshold=result.eer_threshold)
    return found | {
        f"tar@far={far!r}": Measure(None, allowed=rate.allowed)
        if rate.tar is None
        else _measure(rate.tar, rate.threshold, rate.allowed)
        for far, rate in result.tar.items()
    }


def _measure(estimate: Estimate, threshold: float | None = None, allowed: int | None = None) -> Measure:
    return Measure(estimate.value, estimate.lower, estimate.upper, threshold, allowed)


def _curves(result: ModeResult) -> dict[str, Curve]:
    roc, edges = thin(result.roc()), bin_edges(result.scores)
    middle = (edges[1:] + edges[:-1]) / 2
    return {"ROC": Curve("roc", roc.far, roc.tar), "DET": Curve("det", roc.far, 1 - roc.tar)} | {
        f"{kind} scores": Curve("density", middle, np.histogram(result.scores[chosen], edges)[0] / chosen.sum())
        for kind, chosen in (("genuine", result.same), ("impostor", ~result.same))
    }
