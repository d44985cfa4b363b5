"""Evaluate a model on a verification set, in both modes of ProxylessKD (arXiv 2011.00265).

Single-model: gallery and probe by the student. Cross-model: the gallery by the teacher, the probe by the student, as
where millions are enrolled and cannot be enrolled again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from proxylesskd.data.pairs import Pairs, read_pairs
from proxylesskd.errors import UserError
from proxylesskd.evaluation.bootstrap import bootstrap, interval, make_metric
from proxylesskd.evaluation.embed import embed_images, pair_scores
from proxylesskd.evaluation.gallery import Model, gallery_in_space_of
from proxylesskd.evaluation.maker import maker_of
from proxylesskd.evaluation.resample import Resampling
from proxylesskd.evaluation.result import Estimate, ModeResult, Rate
from proxylesskd.evaluation.roc import (
    Floats,
    area_under,
    check_kinds,
    equal_error_rate,
    impostors_allowed,
    roc_curve,
    tar_at_far,
)
from proxylesskd.evaluation.verification import check_folds, fold_accuracy

if TYPE_CHECKING:
    from rich.table import Table

FARS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


@dataclass(frozen=True)
class Evaluation:
    """What was found about one model.

    Attributes:
        name: of the model.
        pairs: name of the verification set.
        single: gallery and probe by the model.
        cross: gallery by another model, or None.
        gallery: name of that model, or None.
        resampling: what the bootstrap drew, how often and with which seed.
        made_by: hashes and preprocessing of the model, see :func:`proxylesskd.evaluation.maker.maker_of`.
    """

    name: str
    pairs: str
    single: ModeResult
    cross: ModeResult | None
    gallery: str | None
    resampling: Mapping[str, Any]
    made_by: Mapping[str, Any] = field(default_factory=dict)

    def modes(self) -> dict[str, ModeResult]:
        """Return the modes by name."""
        return {"single": self.single} | ({} if self.cross is None else {"cross": self.cross})

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for ``evaluation.json``: rates in [0, 1], thresholds as cosines in [-1, 1]."""
        genuine = int(self.single.same.sum())
        return {
            "model": self.name,
            "made_by": dict(self.made_by),
            "gallery": self.gallery,
            "pairs": {"name": self.pairs, "genuine": genuine, "impostor": len(self.single.same) - genuine},
            "bootstrap": dict(self.resampling),
            **{mode: result.to_dict() for mode, result in self.modes().items()},
        }

    def save(self, folder: str | Path, *, pictures: bool = True) -> None:
        """Write ``evaluation.json``, ``scores.npz`` and the pictures ``roc.svg`` and ``histogram.svg``."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "evaluation.json").write_text(json.dumps(self.to_dict(), indent=1, allow_nan=False), encoding="utf-8")
        scores = {mode: result.scores for mode, result in self.modes().items()}
        np.savez_compressed(folder / "scores.npz", same=self.single.same, **scores)  # type: ignore[arg-type]
        if pictures:
            self._draw(folder)

    def _draw(self, folder: Path) -> None:
        from proxylesskd.evaluation.plots import histogram_svg, roc_svg

        titles = {"single": "single-model", "cross": f"cross-model, gallery by {self.gallery}"}
        curves = {titles[mode]: result.roc() for mode, result in self.modes().items()}
        (folder / "roc.svg").write_text(roc_svg(curves, title=f"{self.name} on {self.pairs}"), encoding="utf-8")
        panels = {titles[mode]: (result.scores, result.same) for mode, result in self.modes().items()}
        (folder / "histogram.svg").write_text(histogram_svg(panels), encoding="utf-8")

    def table(self) -> Table:
        """Return a table of this evaluation alone."""
        from proxylesskd.evaluation.tables import comparison_table

        return comparison_table({self.name: self})


def evaluate(
    model: Model,
    pairs: Pairs | str | Path,
    *,
    gallery: Model | None = None,
    projection: Tensor | str | Path | None = None,
    flip: bool = False,
    replicates: int = 1000,
    seed: int = 0,
    name: str | None = None,
    fars: Sequence[float] = FARS,
    progress: bool = False,
) -> Evaluation:
    """Evaluate a model on pairs, and across models where a gallery model is given.

    Args:
        model: the probe model: an embedder, a module, or a path that :func:`proxylesskd.load_teacher` takes.
        pairs: a verification set or its path.
        gallery: the model that made the gallery; for the cross-model mode. Where it is of another dimension than the
            probe, and the probe is a run folder that holds the projection it was trained with, the gallery is projected
            through that, and the result names it so.
        projection: for the gallery: ``[gallery's dimension, probe's dimension]``, or the path of the classifier that
            holds it; needed where the probe is no run folder.
        flip: add the embedding of the mirror image.
        replicates: of the bootstrap; 0 for no intervals.
        seed: of the bootstrap.
        name: of the model, for tables.
        fars: false accept rates of interest, in (0, 1].
        progress: draw progress bars.

    Raises:
        UserError: dimensions of the two models differ and no projection leads from one to the other, embeddings are
            not finite, the pairs are of one kind or in one fold, or a rate or the number of replicates is out of range.
    """
    from proxylesskd.teacher import as_embedder

    pairs = pairs if isinstance(pairs, Pairs) else read_pairs(pairs)
    _check_request(pairs, replicates, fars)
    if projection is not None and gallery is None:
        raise UserError("expected a gallery model for the projection, found none; give gallery, or no projection")
    probe = as_embedder(model)
    other = None if gallery is None else gallery_in_space_of(probe, model, as_embedder(gallery), projection)
    probes = embed_images(probe, pairs.images, flip=flip, progress=progress, names=pairs.image_names)
    single = measure(pair_scores(probes, probes, pairs), pairs, replicates=replicates, seed=seed, fars=fars)
    cross = None
    if other is not None:
        enrolled = embed_images(other, pairs.images, flip=flip, progress=progress, names=pairs.image_names)
        cross = measure(pair_scores(enrolled, probes, pairs), pairs, replicates=replicates, seed=seed, fars=fars)
    drawn = {"unit": Resampling.of(pairs).unit, "replicates": replicates, "seed": seed}
    enrolling = None if other is None else other.name
    return Evaluation(name or probe.name, pairs.name, single, cross, enrolling, drawn, maker_of(model, probe))


def _check_request(pairs: Pairs, replicates: int, fars: Sequence[float]) -> None:
    """Stop before an hour of embedding on what could not be measured after it."""
    check_kinds(pairs.same)
    check_folds(pairs.fold)
    check_fars(fars)
    if replicates < 0:
        raise UserError(f"expected a number of bootstrap replicates, 0 for no intervals, found {replicates}")


def check_fars(fars: Sequence[float]) -> None:
    """Stop on false accept rates that are none.

    Raises:
        UserError: one is outside (0, 1].
    """
    wrong = [far for far in fars if not 0 < far <= 1]
    if wrong:
        raise UserError(f"expected false accept rates in (0, 1], found {wrong[0]:g}")


def measure(
    scores: Floats, pairs: Pairs, *, replicates: int = 1000, seed: int = 0, fars: Sequence[float] = FARS
) -> ModeResult:
    """Turn the scores of all pairs into every number that is reported.

    Args:
        scores: ``[P]`` similarities.
        pairs: labels, folds and identities.
        replicates: of the bootstrap; 0 for no intervals.
        seed: of the bootstrap.
        fars: false accept rates; one that allows fewer than one impostor pair is reported as unsupported.

    Raises:
        UserError: the scores or the pairs cannot be evaluated.
    """
    _check_request(pairs, replicates, fars)
    roc = roc_curve(scores, pairs.same)
    folds = fold_accuracy(scores, pairs.same, pairs.fold)
    eer, eer_threshold = equal_error_rate(roc)
    impostors = int((~pairs.same).sum())
    allowed = {float(far): int(impostors_allowed(far, impostors)) for far in fars}
    names = {far: f"tar@far={far!r}" for far, most in allowed.items() if most}
    bounds = _bounds(["accuracy", "auc", *names.values()], scores, pairs, replicates, seed)
    rates = {far: Rate(far, None, None, most) for far, most in allowed.items()}
    for far, name in names.items():
        tar, threshold = tar_at_far(roc, far)
        rates[far] = Rate(far, Estimate(tar, *bounds[name]), threshold, allowed[far])
    return ModeResult(
        accuracy=Estimate(folds.mean, *bounds["accuracy"]),
        accuracy_std=folds.std,
        threshold=folds.threshold,
        auc=Estimate(area_under(roc), *bounds["auc"]),
        eer=eer,
        eer_threshold=eer_threshold,
        tar=rates,
        scores=scores,
        same=pairs.same,
    )


def _bounds(
    names: Sequence[str], scores: Floats, pairs: Pairs, replicates: int, seed: int
) -> dict[str, tuple[float | None, float | None]]:
    """Return the interval of every metric from the same replicates; (None, None) where there is none."""
    if replicates == 0:
        return dict.fromkeys(names, (None, None))
    metrics = {name: make_metric(name) for name in names}
    drawn = bootstrap(metrics, scores, pairs, replicates=replicates, seed=seed)
    return {name: interval(values) or (None, None) for name, values in drawn.items()}
