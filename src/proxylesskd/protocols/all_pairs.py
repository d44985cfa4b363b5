"""Verification of every pair of a labelled set: TAR at FARs for which published lists of pairs are too short."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from proxylesskd.data.source import Source, open_source
from proxylesskd.evaluation.all_pairs import AllPairs
from proxylesskd.evaluation.evaluation import FARS, check_fars
from proxylesskd.evaluation.exact_quantiles import Ints, Scores, SortedScores, bins_of
from proxylesskd.evaluation.exact_roc import exact_eer, exact_rates, grid_roc
from proxylesskd.evaluation.gallery import Model
from proxylesskd.evaluation.result import Rate, thin
from proxylesskd.evaluation.tail_bootstrap import tail_intervals
from proxylesskd.protocols.csv_list import read_rows
from proxylesskd.protocols.embed_set import Images, Models, embed_set, listed_images, source_images
from proxylesskd.protocols.outcome import Curve, Measure, Outcome

COLUMNS = ("path", "identity")
BARS = 128  # of the picture of scores


@dataclass(frozen=True)
class Labelled:
    """Images and who is on them.

    Attributes:
        name: what a person would call the set.
        images: all N of them.
        identities: ``[N]``.
    """

    name: str
    images: Images
    identities: Ints


def labelled(where: Labelled | Source | Path | str, root: Path | str | None = None) -> Labelled:
    """Open a labelled set: a source, its URI, or a CSV ``path,identity``.

    Raises:
        UserError: it cannot be opened.
    """
    if isinstance(where, Labelled):
        return where
    if isinstance(where, (str, Path)) and str(where).endswith(".csv") and Path(where).is_file():
        return _listed(Path(where), root)
    source = open_source(str(where)) if isinstance(where, (str, Path)) else where
    name = Path(str(where)).name if isinstance(where, (str, Path)) else "faces"
    return Labelled(name, source_images(source), source.labels)


def _listed(path: Path, root: Path | str | None) -> Labelled:
    names, who = zip(*read_rows(path, COLUMNS), strict=True)
    identities = np.unique(who, return_inverse=True)[1].astype(np.int64)
    images = listed_images(path.parent if root is None else Path(root), names)
    return Labelled(path.stem, images, identities)


def evaluate_all_pairs(
    model: Model,
    where: Labelled | Source | Path | str,
    *,
    root: Path | str | None = None,
    gallery: Model | None = None,
    projection: Tensor | str | Path | None = None,
    flip: bool = False,
    fars: Sequence[float] = FARS,
    replicates: int = 1000,
    seed: int = 0,
    cache: str | Path | None = None,
    progress: bool = False,
    name: str | None = None,
) -> Outcome:
    """Compare every image with every other one, and across models where a gallery model is given.

    In single-model mode each pair counts once; in cross-model mode both orders count, for each image may be enrolled.
    Thresholds and rates are those of sorting all scores, which are never held.

    Args:
        model: embeds the probes, and in single-model mode the gallery.
        where: labelled images: a source, its URI, or a CSV ``path,identity``.
        root: folder to which the paths of a CSV are relative.
        gallery: embeds the gallery in cross-model mode.
        projection: for the gallery, see :func:`proxylesskd.evaluation.evaluate`.
        flip: add the embedding of the mirror image.
        fars: false accept rates in (0, 1]; one that allows fewer than one impostor pair has no value.
        replicates: of the bootstrap over identities; 0 for no intervals. A FAR that allows more than a million
            impostor pairs has none.
        seed: of the bootstrap.
        cache: folder of embeddings.
        progress: draw progress bars.
        name: of the model, for tables.

    Raises:
        UserError: the set, the models or a rate cannot be used.
    """
    check_fars(fars)
    chosen, models = labelled(where, root), Models.of(model, gallery, projection)
    probes = embed_set(models.probe, chosen.images, flip=flip, cache=cache, progress=progress)
    measures: dict[str, Mapping[str, Measure]] = {}
    curves: dict[str, Mapping[str, Curve]] = {}
    counts = {"images": len(probes), "identities": len(np.unique(chosen.identities))}
    for mode, embedder in models.enrolling().items():
        same = embedder is models.probe
        enrolled = None if same else embed_set(embedder, chosen.images, flip=flip, cache=cache, progress=progress)
        pairs = AllPairs.of(probes, chosen.identities, enrolled)
        if same:
            counts |= {"genuine pairs": pairs.genuine_count, "impostor pairs": pairs.impostor_count}
        measures[mode], curves[mode] = measure_all_pairs(pairs, fars, replicates=replicates, seed=seed)
    return Outcome(
        protocol=f"all pairs, {chosen.name}",
        model=name or models.probe.name,
        gallery=models.gallery_name,
        counts=counts,
        measures=measures,
        curves=curves,
        drawn={"unit": "identities", "replicates": replicates, "seed": seed} if replicates else {},
    )


def measure_all_pairs(
    pairs: AllPairs, fars: Sequence[float] = FARS, *, replicates: int = 0, seed: int = 0
) -> tuple[dict[str, Measure], dict[str, Curve]]:
    """Return TAR at every FAR and the equal error rate, and the ROC, the DET and how the scores are distributed."""
    genuine, impostors = pairs.genuine(), SortedScores(pairs.impostors)
    rates = exact_rates(genuine.scores, impostors, fars)
    supported = [far for far, rate in rates.items() if rate.allowed]
    bounds = tail_intervals(pairs, genuine, impostors, supported, replicates=replicates, seed=seed)
    measures = {f"tar@far={far!r}": _measure(rate, bounds.get(far)) for far, rate in rates.items()}
    eer, threshold = exact_eer(genuine.scores, impostors)
    return measures | {"eer": Measure(eer, threshold=threshold)}, _curves(genuine.scores, impostors)


def _measure(rate: Rate, bounds: tuple[float, float] | None) -> Measure:
    found = Measure(None if rate.tar is None else rate.tar.value, threshold=rate.threshold, allowed=rate.allowed)
    return found if bounds is None else replace(found, lower=bounds[0], upper=bounds[1])


def _curves(genuine: Scores, impostors: SortedScores) -> dict[str, Curve]:
    roc = thin(grid_roc(genuine, impostors))
    mine = np.bincount(bins_of(genuine), minlength=len(impostors.grid))
    middle = (np.arange(BARS) + 0.5) * 2 / BARS - 1
    return {
        "ROC": Curve("roc", roc.far, roc.tar),
        "DET": Curve("det", roc.far, 1 - roc.tar),
        "genuine scores": Curve("density", middle, mine.reshape(BARS, -1).sum(axis=1) / mine.sum()),
        "impostor scores": Curve("density", middle, impostors.grid.reshape(BARS, -1).sum(axis=1) / len(impostors)),
    }
