"""BLUFR on LFW (Liao, Lei, Yi and Li, "A benchmark study of large-scale unconstrained face recognition", IJCB 2014).

Ten trials split all identities at random. Of each trial's test identities every pair of images is verified (TAR at FAR
0.1 %: 47 million pairs on LFW), and 1,000 identities with one image each are a gallery that all their other images,
mated, and all images of the other identities search (TPIR at FPIR 1 % and rank 1: the paper's DIR at FAR 1 %).

Reported are the mean over the trials, their sample standard deviation, and mean minus deviation, by which the paper
ranks. The paper trains on the other 1,500 identities; a model that saw none of LFW is evaluated without.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from proxylesskd.data.source import Source
from proxylesskd.errors import UserError
from proxylesskd.evaluation.all_pairs import AllPairs
from proxylesskd.evaluation.evaluation import check_fars
from proxylesskd.evaluation.exact_quantiles import Ints, SortedScores
from proxylesskd.evaluation.exact_roc import exact_rates
from proxylesskd.evaluation.gallery import Model
from proxylesskd.protocols.all_pairs import Labelled, labelled
from proxylesskd.protocols.csv_list import one_of, read_rows
from proxylesskd.protocols.embed_set import Embeddings, Models, embed_set, listed_images
from proxylesskd.protocols.identification import identify
from proxylesskd.protocols.identification_rates import check_fpirs, tpir_at_fpir
from proxylesskd.protocols.outcome import Measure, Outcome

TRIALS = 10
TRAINING = 1500  # identities of LFW's 5,749; elsewhere the same share
GALLERY = 1000
LFW = 5749
FARS, FPIRS = (1e-3,), (1e-2,)
COLUMNS = ("trial", "path", "identity", "role")
ROLES = ("gallery", "probe")


@dataclass(frozen=True)
class Trial:
    """One split.

    Attributes:
        gallery: images that are enrolled, one an identity.
        probes: all other test images.
    """

    gallery: Ints
    probes: Ints

    @property
    def test(self) -> Ints:
        """All test images."""
        return np.sort(np.concatenate([self.gallery, self.probes]))


def draw_trials(identities: Ints, *, trials: int = TRIALS, seed: int = 0) -> list[Trial]:
    """Draw splits by the published procedure.

    1,500 of LFW's 5,749 identities, in another set the same share, are left out for training. 1,000 of the others that
    have two images or more, in another set the same share of all, are enrolled with one image each.

    Args:
        identities: ``[N]``.
        trials: how many.
        seed: of the draws.

    Raises:
        UserError: too few identities.
    """
    names, counts = np.unique(identities, return_counts=True)
    left_out = round(len(names) * TRAINING / LFW)
    enrolled = max(1, round(len(names) * GALLERY / LFW))
    random = np.random.default_rng(seed)
    found = []
    for _ in range(trials):
        test = random.permutation(len(names))[left_out:]
        several = test[counts[test] > 1]
        if len(several) < 1 or len(test) <= min(enrolled, len(several)):
            raise UserError(
                f"expected test identities with one image and with several, found {len(names)} identities of which "
                f"{int((counts > 1).sum())} have several; give a larger set"
            )
        found.append(_split(identities, names[test], names[several[:enrolled]], random))
    return found


def _split(identities: Ints, test: Ints, enrolled: Ints, random: np.random.Generator) -> Trial:
    shuffled = random.permutation(len(identities))
    mine = shuffled[np.isin(identities[shuffled], enrolled)]
    gallery = np.sort(mine[np.unique(identities[mine], return_index=True)[1]])
    rest = np.setdiff1d(np.flatnonzero(np.isin(identities, test)), gallery)
    return Trial(gallery, rest)


def read_trials(path: Path | str, root: Path | str | None = None) -> tuple[Labelled, list[Trial]]:
    """Read published splits from a CSV ``trial,path,identity,role`` with the roles ``gallery`` and ``probe``.

    Args:
        path: the CSV; its images of a trial are that trial's test set.
        root: folder to which its paths are relative; by default its own.

    Raises:
        UserError: the list is of another form, an image has two identities, stands twice in a trial, or is missing.
    """
    path = Path(path)
    rows = read_rows(path, COLUMNS)
    of = {name: identity for _, name, identity, _ in rows}
    names = list(of)
    if any(of[name] != identity for _, name, identity, _ in rows):
        raise UserError(f"expected one identity for each image of '{path}', found images with several")
    at = {name: number for number, name in enumerate(names)}
    identities = np.unique(list(of.values()), return_inverse=True)[1].astype(np.int64)
    trials: dict[str, tuple[list[int], list[int]]] = {}
    for number, name, _, role in rows:
        trials.setdefault(number, ([], []))[one_of(role, ROLES, "role", path)].append(at[name])
    found = [Trial(np.array(gallery, np.int64), np.array(probes, np.int64)) for gallery, probes in trials.values()]
    for number, trial in zip(trials, found, strict=True):
        _check_trial(path, number, trial)
    images = listed_images(path.parent if root is None else Path(root), names)
    return Labelled(path.stem, images, identities), found


def _check_trial(path: Path, number: str, trial: Trial) -> None:
    if not len(trial.gallery) or not len(trial.probes):
        raise UserError(f"expected gallery and probe images in trial {number} of '{path}', found none of one role")
    if len(np.unique(trial.test)) < len(trial.test):
        raise UserError(f"expected every image once in trial {number} of '{path}', found one twice")


def evaluate_blufr(
    model: Model,
    where: Source | Path | str,
    *,
    root: Path | str | None = None,
    gallery: Model | None = None,
    projection: Tensor | str | Path | None = None,
    flip: bool = False,
    fars: Sequence[float] = FARS,
    fpirs: Sequence[float] = FPIRS,
    trials: int = TRIALS,
    seed: int = 0,
    cache: str | Path | None = None,
    progress: bool = False,
    name: str | None = None,
) -> Outcome:
    """Verify and identify in every trial, and across models where a gallery model is given.

    Args:
        model: embeds the probes, and in single-model mode the gallery.
        where: all of LFW as a source or its URI, whose splits are drawn, or a CSV of published splits.
        root: folder to which the paths of a CSV are relative.
        gallery: embeds the gallery in cross-model mode.
        projection: for the gallery, see :func:`proxylesskd.evaluation.evaluate`.
        flip: add the embedding of the mirror image.
        fars: false accept rates of verification.
        fpirs: false positive identification rates.
        trials: drawn, unless the splits are given.
        seed: of the splits.
        cache: folder of embeddings.
        progress: draw progress bars.
        name: of the model, for tables.

    Returns:
        ``tar@far=0.001`` and ``tpir@fpir=0.01`` are means over trials; ``std/…`` is their deviation and ``fused/…``
        mean minus deviation. There are no intervals: trials share images, so their spread is none.

    Raises:
        UserError: the set, the models or a rate cannot be used.
    """
    check_fars(fars)
    check_fpirs(fpirs)
    chosen, splits = _open(where, root, trials, seed)
    models = Models.of(model, gallery, projection)
    probes = embed_set(models.probe, chosen.images, flip=flip, cache=cache, progress=progress)
    measures: dict[str, Mapping[str, Measure]] = {}
    for mode, embedder in models.enrolling().items():
        same = embedder is models.probe
        enrolled = probes if same else embed_set(embedder, chosen.images, flip=flip, cache=cache, progress=progress)
        found = [run_trial(trial, chosen.identities, probes, enrolled, fars, fpirs) for trial in splits]
        measures[mode] = fuse(found)
    drawn = {} if _is_list(where) else {"unit": "splits", "replicates": 0, "seed": seed}
    return Outcome(
        protocol=f"BLUFR, {chosen.name}",
        model=name or models.probe.name,
        gallery=models.gallery_name,
        counts={
            "trials": len(splits),
            "test images of the first": len(splits[0].test),
            "gallery images of the first": len(splits[0].gallery),
        },
        measures=measures,
        drawn=drawn,
    )


def _is_list(where: Source | Path | str) -> bool:
    return isinstance(where, (str, Path)) and str(where).endswith(".csv")


def _open(where: Source | Path | str, root: Path | str | None, trials: int, seed: int) -> tuple[Labelled, list[Trial]]:
    if _is_list(where):
        return read_trials(str(where), root)
    chosen = labelled(where)
    return chosen, draw_trials(chosen.identities, trials=trials, seed=seed)


def run_trial(
    trial: Trial,
    identities: Ints,
    probes: Embeddings,
    enrolled: Embeddings,
    fars: Sequence[float],
    fpirs: Sequence[float],
) -> dict[str, Measure]:
    """Return the rates of one trial from ``[N, D]`` embeddings of all images by the probe's and the gallery's model."""
    test = trial.test
    pairs = AllPairs.of(probes[test], identities[test], None if enrolled is probes else enrolled[test])
    rates = exact_rates(pairs.genuine().scores, SortedScores(pairs.impostors), fars)
    ranked = identify(
        probes[trial.probes], enrolled[trial.gallery], identities[trial.probes], identities[trial.gallery]
    )
    verified = {
        f"tar@far={far!r}": Measure(
            rate.tar.value if rate.tar else None, threshold=rate.threshold, allowed=rate.allowed
        )
        for far, rate in rates.items()
    }
    return verified | tpir_at_fpir(ranked, fpirs)


def fuse(trials: Sequence[Mapping[str, Measure]]) -> dict[str, Measure]:
    """Return mean, sample standard deviation and their difference; None where a trial has no value."""
    found: dict[str, dict[str, Measure]] = {"": {}, "std/": {}, "fused/": {}}
    for name in trials[0]:
        values = [value for trial in trials if (value := trial[name].value) is not None]
        allowed = min((trial[name].allowed or 0) for trial in trials)
        whole = len(values) == len(trials)
        mean = float(np.mean(values)) if whole else None
        std = statistics.stdev(values) if whole and len(values) > 1 else None
        found[""][name] = Measure(mean, allowed=allowed)
        found["std/"][name] = Measure(std)
        found["fused/"][name] = Measure(None if mean is None or std is None else mean - std)
    return {prefix + name: measure for prefix, by_name in found.items() for name, measure in by_name.items()}
