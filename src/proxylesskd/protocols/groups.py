"""Verification by group, as RFW (Wang et al., ICCV 2019) and audits of demographic differentials report it.

Every group has its own accuracy, TAR at FAR, and FAR and TAR at *one* threshold for all: that of a FAR over the
impostor pairs of all groups together, as a system in use has one. A gap is the highest minus the lowest rate of the
groups.

A replicate of the bootstrap draws identities of all groups together, so identities in several groups are drawn for all
of them at once; where identities are unknown (InsightFace's .bin) pairs are drawn. The gap is taken within a replicate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from proxylesskd.data.pairs import Pairs
from proxylesskd.evaluation.bootstrap import Metric, Ranking, Replicates, evaluate_replicates, interval, make_metric
from proxylesskd.evaluation.embed import pair_scores
from proxylesskd.evaluation.evaluation import check_fars
from proxylesskd.evaluation.gallery import Model
from proxylesskd.evaluation.resample import Resampling
from proxylesskd.evaluation.result import thin
from proxylesskd.evaluation.roc import Bools, Floats, Roc, impostors_allowed, roc_curve, tar_at_far
from proxylesskd.evaluation.verification import fold_accuracy
from proxylesskd.protocols.embed_set import Embeddings, Images, Models, embed_set
from proxylesskd.protocols.group_sets import Grouped, joint_resampling, read_groups
from proxylesskd.protocols.outcome import Curve, Measure, Outcome

FARS = (1e-2, 1e-3)
COMMON = 1e-3


def evaluate_groups(
    model: Model,
    where: Grouped | Path | str,
    *,
    root: Path | str | None = None,
    gallery: Model | None = None,
    projection: Tensor | str | Path | None = None,
    flip: bool = False,
    fars: Sequence[float] = FARS,
    common: float = COMMON,
    replicates: int = 1000,
    seed: int = 0,
    cache: str | Path | None = None,
    progress: bool = False,
    name: str | None = None,
) -> Outcome:
    """Verify the pairs of each group, and across models where a gallery model is given.

    Args:
        model: embeds the probes, and in single-model mode the gallery.
        where: the groups, a folder of ``.bin`` files, or a CSV.
        root: folder to which the paths of a CSV are relative.
        gallery: embeds the gallery in cross-model mode.
        projection: for the gallery, see :func:`proxylesskd.evaluation.evaluate`.
        flip: add the embedding of the mirror image.
        fars: false accept rates within each group.
        common: false accept rate over all groups, whose threshold all of them share.
        replicates: of the bootstrap; 0 for no intervals.
        seed: of the bootstrap.
        cache: folder of embeddings.
        progress: draw progress bars.
        name: of the model, for tables.

    Raises:
        UserError: the set, the models or a rate cannot be used.
    """
    check_fars([*fars, common])
    chosen = where if isinstance(where, Grouped) else read_groups(where, root)
    models = Models.of(model, gallery, projection)
    groups, scores = _score(chosen, models, flip, cache, progress)
    resampling = joint_resampling(groups, shared=chosen.shared)
    found = {mode: _measures(groups, s, resampling, fars, common, replicates, seed) for mode, s in scores.items()}
    curves = {mode: _curves(groups, by_group) for mode, by_group in scores.items()}
    drawn = {"unit": next(iter(resampling.values())).unit, "replicates": replicates, "seed": seed}
    return Outcome(
        protocol=f"groups, {chosen.name}",
        model=name or models.probe.name,
        gallery=models.gallery_name,
        counts={f"pairs of {group}": len(pairs) for group, pairs in groups.items()},
        measures=found,
        curves=curves,
        drawn=drawn if replicates else {},
    )


Scores = Mapping[str, Floats]


def _score(
    chosen: Grouped, models: Models, flip: bool, cache: str | Path | None, progress: bool
) -> tuple[dict[str, Pairs], dict[str, dict[str, Floats]]]:
    """Return the pairs of each group without their images, and ``[P]`` scores by mode and group."""
    groups: dict[str, Pairs] = {}
    scores: dict[str, dict[str, Floats]] = {mode: {} for mode in models.enrolling()}
    embeddings: dict[str, Embeddings] = {}
    for group in chosen.load:
        pairs = chosen.read(group)
        if not (chosen.shared and embeddings):
            images = Images(pairs.image_names, lambda i, p=pairs: p.images[i])  # type: ignore[misc]
            embeddings = {
                mode: embed_set(embedder, images, flip=flip, cache=cache, progress=progress)
                for mode, embedder in models.enrolling().items()
            }
        for mode, enrolled in embeddings.items():
            scores[mode][group] = pair_scores(enrolled, embeddings["single"], pairs)
        groups[group] = replace(pairs, images=pairs.images[:0].copy())
    return groups, scores


@dataclass(frozen=True)
class _Found:
    """One rate of one group.

    Attributes:
        measure: the rate.
        drawn: ``[replicates]`` of it.
    """

    measure: Measure
    drawn: Floats


def _measures(
    groups: Mapping[str, Pairs],
    scores: Scores,
    resampling: Mapping[str, Resampling],
    fars: Sequence[float],
    common: float,
    replicates: int,
    seed: int,
) -> dict[str, Measure]:
    shared = common_threshold(groups, scores, common)
    found = {
        group: _group(pairs, scores[group], resampling[group], fars, common, shared, replicates, seed)
        for group, pairs in groups.items()
    }
    measures = {"common threshold/far": shared}
    for metric in next(iter(found.values())):
        measures |= {f"{group}/{metric}": by_metric[metric].measure for group, by_metric in found.items()}
        measures |= _over_groups(metric, [by_metric[metric] for by_metric in found.values()])
    return measures


def common_threshold(groups: Mapping[str, Pairs], scores: Scores, far: float) -> Measure:
    """Return the FAR over all groups together that is attained at its threshold; None where it allows no pair."""
    same = np.concatenate([pairs.same for pairs in groups.values()])
    every = np.concatenate([scores[group] for group in groups])
    allowed = int(impostors_allowed(far, (~same).sum()))
    if allowed < 1:
        return Measure(None, allowed=allowed)
    threshold = tar_at_far(roc_curve(every, same), far)[1]
    return Measure(float((every[~same] >= threshold).mean()), threshold=threshold, allowed=allowed)


def _group(
    pairs: Pairs,
    scores: Floats,
    resampling: Resampling,
    fars: Sequence[float],
    common: float,
    shared: Measure,
    replicates: int,
    seed: int,
) -> dict[str, _Found]:
    folds = fold_accuracy(scores, pairs.same, pairs.fold)
    measures = {"accuracy": Measure(folds.mean, threshold=folds.threshold)}
    measures |= {f"tar@far={far!r}": _tar(roc_curve(scores, pairs.same), far, pairs.same) for far in fars}
    metrics = {name: make_metric(name) for name, measure in measures.items() if measure.value is not None}
    if shared.threshold is not None:
        for rate, kind in (("far", ~pairs.same), ("tar", pairs.same)):
            value = float((scores[kind] >= shared.threshold).mean())
            measures[f"{rate}@common-far={common!r}"] = Measure(value, threshold=shared.threshold)
            metrics[f"{rate}@common-far={common!r}"] = _held(rate, scores, pairs.same, shared.threshold)
    blocks = resampling.draw(replicates, seed)
    drawn = evaluate_replicates(metrics, Ranking.of(scores, pairs), resampling, blocks)
    return {name: _found(measure, drawn.get(name, np.empty(0))) for name, measure in measures.items()}


def _tar(roc: Roc, far: float, same: Bools) -> Measure:
    allowed = int(impostors_allowed(far, (~same).sum()))
    if allowed < 1:
        return Measure(None, allowed=allowed)
    tar, threshold = tar_at_far(roc, far)
    return Measure(tar, threshold=threshold, allowed=allowed)


def _held(rate: str, scores: Floats, same: Bools, threshold: float) -> Metric:
    """Return the metric "share of one kind that scores at least a threshold", which is held."""
    kind = same if rate == "tar" else ~same
    accepted = int((scores[kind] >= threshold).sum())

    def metric(drawn: Replicates) -> Floats:
        sums = drawn.genuine_sums if rate == "tar" else drawn.impostor_sums
        share: Floats = sums[:, accepted] / sums[:, -1]
        return share

    return metric


def _found(measure: Measure, drawn: Floats) -> _Found:
    bounds = interval(drawn)
    return _Found(measure if bounds is None else replace(measure, lower=bounds[0], upper=bounds[1]), drawn)


def _over_groups(metric: str, groups: Sequence[_Found]) -> dict[str, Measure]:
    """Return how far the groups lie apart: highest minus lowest, and the population standard deviation."""
    values = [group.measure.value for group in groups]
    known = np.array([value for value in values if value is not None])
    if len(known) < len(values):
        return {f"gap/{metric}": Measure(None), f"std/{metric}": Measure(None)}
    drawn = np.stack([group.drawn for group in groups])  # [groups, replicates]
    gap = _found(Measure(float(np.ptp(known))), np.ptp(drawn, axis=0))
    spread = _found(Measure(float(known.std())), drawn.std(axis=0))
    return {f"gap/{metric}": gap.measure, f"std/{metric}": spread.measure}


def _curves(groups: Mapping[str, Pairs], scores: Scores) -> dict[str, Curve]:
    thinned = {group: thin(roc_curve(scores[group], pairs.same)) for group, pairs in groups.items()}
    return {f"ROC {group}": Curve("roc", roc.far, roc.tar) for group, roc in thinned.items()}
