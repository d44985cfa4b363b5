"""Is the teacher fed as it was trained? Tries other colour orders and scalings on a few images."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from proxylesskd.audit.finding import Finding
from proxylesskd.audit.search import TIE, nearest_rows, unit
from proxylesskd.errors import UserError
from proxylesskd.models.preprocess import Preprocessing
from proxylesskd.progress import track
from proxylesskd.teacher import Teacher

SCALINGS = ((127.5, 127.5), (127.5, 128.0), (0.0, 1.0), (0.0, 255.0), (127.0, 128.0))  # mean, std of known teachers
POINTS = 0.1  # a gain in top-1 below this is no wrong preprocessing
SIGMAS = 4.0
POOR = 0.5  # top-1 below which both are tried together
LEAST = 20  # images


Embed = Callable[[Preprocessing, Tensor], Tensor]


@dataclass(frozen=True)
class Trial:
    """How well the images are recognised under one preprocessing.

    Attributes:
        preprocessing: what was tried.
        options: what differs from the present one, as options of a teacher's path; empty for the present one.
        through_rows: top-1 in [0, 1] through the given rows, or None without rows.
        through_centres: top-1 in [0, 1] with class centres made under the same preprocessing, each image left out
            of its own.
    """

    preprocessing: Preprocessing
    options: str
    through_rows: float | None
    through_centres: float


def check_preprocessing(
    embed: Embed,
    present: Preprocessing,
    images: Tensor,
    labels: Tensor,
    rows: Tensor | None = None,
    *,
    progress: bool = False,
) -> Finding:
    """Compare the present preprocessing with the usual others.

    Rows of the teacher's own last layer are recognised best under the right preprocessing. Rows that were estimated
    under a wrong one agree with it, so the class centres are also made anew under every preprocessing.

    Args:
        embed: images to ``[n, D] float32`` unit embeddings under a preprocessing, in the space of the rows.
        present: the preprocessing in use.
        images: ``[n, 3, H, W] uint8`` RGB, two images and more of every identity.
        labels: ``[n] int64`` in [0, R).
        rows: ``[R, D] float32`` unit rows, or None.
        progress: draw a progress bar.
    """
    if len(images) < LEAST or len(set(labels.tolist())) < 2:
        message = f"not tried: {len(images)} images of identities that have two are too few"
        return Finding("preprocessing", "passed", message, {"images": len(images)})
    trials = [_try(embed, present, present, images, labels, rows)]
    for other in _track(variants(present), progress):
        trials.append(_try(embed, present, other, images, labels, rows))
    for other in _track(_second_look(present, trials, len(images)), progress):
        trials.append(_try(embed, present, other, images, labels, rows))
    return _judge(trials, len(images))


def variants(present: Preprocessing) -> list[Preprocessing]:
    """Return what else a teacher may have been trained with: the other colour order, and the usual scalings."""
    scaled = [_scaled(present, mean, std) for mean, std in SCALINGS]
    return [_swapped(present), *(other for other in scaled if other != present)]


def _second_look(present: Preprocessing, trials: Sequence[Trial], count: int) -> list[Preprocessing]:
    """Return what to try when two things may be wrong at once, the colour order and the scaling."""
    best = max(trials[1:], key=_rank)
    if not _gain(trials[0], best, count):
        # Nothing alone helps: if hardly anything is recognised, nothing but both together may.
        return [_swapped(other) for other in variants(present)[1:]] if _rank(trials[0]) < POOR else []
    if best.preprocessing.order == present.order:
        return [_swapped(best.preprocessing)]
    return [_swapped(other) for other in variants(present)[1:]]


def embed_under(teacher: Teacher) -> Embed:
    """Return a function that embeds images by the teacher's network under any preprocessing."""

    def embed(preprocessing: Preprocessing, images: Tensor) -> Tensor:
        other = copy.copy(teacher)  # shares the network
        other.preprocessing = preprocessing
        return other.embed(images)

    return embed


def _swapped(preprocessing: Preprocessing) -> Preprocessing:
    return dataclasses.replace(preprocessing, order="rgb" if preprocessing.order == "bgr" else "bgr")


def _scaled(preprocessing: Preprocessing, mean: float, std: float) -> Preprocessing:
    return dataclasses.replace(preprocessing, mean=mean, std=std)


def _options(present: Preprocessing, other: Preprocessing) -> str:
    """Say what differs, as options of a teacher's path: ``order=bgr,mean=0,std=255``."""
    now, then = present.to_dict(), other.to_dict()
    changed = {key for key in then if then[key] != now[key]}
    if changed & {"mean", "std"}:
        changed |= {"mean", "std"}
    shown = {key: value if isinstance(value, str) else f"{value:g}" for key, value in then.items()}
    return ",".join(f"{key}={shown[key]}" for key in ("order", "mean", "std") if key in changed)


def _try(
    embed: Embed, present: Preprocessing, other: Preprocessing, images: Tensor, labels: Tensor, rows: Tensor | None
) -> Trial:
    try:
        embeddings = embed(other, images)
    except UserError:
        if other == present:
            raise
        # Fed quite wrongly, a network may answer with infinities; then this is not how it wants its images.
        return Trial(other, _options(present, other), None if rows is None else 0.0, 0.0)
    through = None if rows is None else float((nearest_rows(embeddings, rows)[1] == labels).float().mean())
    return Trial(other, _options(present, other), through, leave_one_out(embeddings, labels))


def leave_one_out(embeddings: Tensor, labels: Tensor) -> float:
    """Return the top-1 in [0, 1] of embeddings among class centres, each one left out of its own.

    Args:
        embeddings: ``[n, D] float32`` unit embeddings.
        labels: ``[n] int64``, any values; every one stands at least twice.
    """
    own = torch.from_numpy(np.unique(labels.numpy(), return_inverse=True)[1])
    sums = embeddings.new_zeros(int(own.max()) + 1, embeddings.shape[1]).index_add_(0, own, embeddings)
    mine = (unit(sums[own] - embeddings) * embeddings).sum(dim=1)
    stranger, _ = nearest_rows(embeddings, unit(sums), exclude=own)
    return float((mine > stranger + TIE).float().mean())


def _rank(trial: Trial) -> float:
    return max(trial.through_rows or 0.0, trial.through_centres)


def _gain(now: Trial, then: Trial, count: int) -> str:
    """Say by which measure the other preprocessing is sharply better: "rows", "centres" or neither."""
    if now.through_rows is not None and sharply(now.through_rows, then.through_rows or 0.0, count):
        return "rows"
    return "centres" if sharply(now.through_centres, then.through_centres, count) else ""


def sharply(now: float, then: float, count: int) -> bool:
    """Say whether the share ``then`` of ``count`` is above ``now`` by ten points and four standard errors."""
    mean = (now + then) / 2
    return then - now > max(POINTS, SIGMAS * math.sqrt(mean * (1 - mean) * 2 / count))


def _judge(trials: Sequence[Trial], count: int) -> Finding:
    now = trials[0]
    details = {
        "images": count,
        "tried": [
            {
                "options": trial.options or "present",
                "through_rows": trial.through_rows,
                "centres": trial.through_centres,
            }
            for trial in trials
        ],
    }
    measures: dict[str, tuple[str, Callable[[Trial], float]]] = {
        "rows": ("through the rows", lambda trial: trial.through_rows or 0.0),
        "centres": ("with class centres made under it", lambda trial: trial.through_centres),
    }
    for measure, (by, value) in measures.items():
        best = max(trials[1:], key=value)
        if _gain(now, best, count) == measure:
            again = "" if measure == "rows" else " and inherit the rows anew"
            message = (
                f"expected the teacher's own preprocessing to recognise its images best, found top-1 {value(now):.1%} "
                f"under the present one and {value(best):.1%} under {best.options} ({by}, {count} images); give the "
                f"teacher as PATH:{best.options}{again}"
            )
            return Finding("preprocessing", "failed", message, {**details, "options": best.options})
    message = (
        f"no other preprocessing is sharply better: top-1 {now.through_centres:.1%} under the present one, at best "
        f"{max(trial.through_centres for trial in trials[1:]):.1%} under {len(trials) - 1} others, on {count} images"
    )
    return Finding("preprocessing", "passed", message, details)


def _track(others: Sequence[Preprocessing], progress: bool) -> Iterable[Preprocessing]:
    return track(others, "audit: trying other preprocessing", quiet=not progress)
