"""Which labels does the teacher doubt? Images under a wrong name, two people under one name, one under two."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from proxylesskd.audit.leave_one_out import (
    COLUMNS,
    Bools,
    Centres,
    Floats,
    Ints,
    Space,
    centres,
    nearest_others,
    other_similarities,
    own_similarities,
    space_of,
)
from proxylesskd.audit.one_or_two import by_identity, merged_identities, split_identities
from proxylesskd.audit.suspects import Inconsistent, Levels, Mislabelled, Split, Suspects
from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.classifier.embedded import EmbeddedSource
from proxylesskd.errors import UserError

ROUNDS = 3
SAMPLE = 20_000_000  # cosines between images and other identities, from which strangers are known
MOST_SAMPLED = 4096
STRANGER, LOOKALIKE, MEMBER = 0.9, 0.999, 0.25
BINS = 80


def find_suspects(classifier: InheritedClassifier, embedded: EmbeddedSource, *, rounds: int = ROUNDS) -> Suspects:
    """Find images that look wrongly labelled, and identities that look merged or split.

    The rule for an image: it belongs to another identity when it is less similar to the other images of its own than
    a lookalike is (what one image in a thousand reaches to a foreign centre) and more similar to that one than a
    quarter of all images are to the others of their own. It belongs to nobody here when it is less similar to
    the other images of its own than strangers usually are (nine in ten are) while those others agree.

    Every image is judged against centres without itself, and without the images suspected in the round before. The
    classifier's rows stand for those identities alone that have no images here: any other row was made with the
    images that it would have to judge.

    Args:
        classifier: of the teacher that embedded the images.
        embedded: the labelled images. Memory beside them: O(C·D + N).
        rounds: how often suspected images are left out of the centres and all images judged again.

    Raises:
        UserError: the embeddings have another dimension than the classifier's teacher, or no image could be read.
    """
    space = space_of(classifier, embedded)
    readable = space.labels >= 0
    if not readable.any():
        raise UserError(f"expected readable images to judge, found none among {len(embedded)}; mend the source")
    inside = readable
    for _ in range(max(1, rounds)):
        view = _look(space, centres(space, inside))
        kept, _ = _without(space.labels, *_doubted(view))
        if np.array_equal(kept, inside):
            break
        inside = kept
    return _report(space, view)


@dataclass(frozen=True)
class _View:
    """All similarities of one round: ``[N]`` own; for the doubtful images ``[N]`` nearest other and its cosine."""

    centres: Centres
    own: Floats
    other: Ints
    similarity: Floats
    levels: Levels


def _look(space: Space, made: Centres) -> _View:
    """Compare every image with its own identity, and the doubtful ones with all others."""
    own = own_similarities(space, made)
    rows = made.unit(space.rows)
    levels = _levels(space, own, rows)
    other, similarity = np.full(len(own), -1, np.int64), np.full(len(own), np.nan, np.float32)
    doubtful = np.flatnonzero(own < levels.lookalike)
    where, which, cosine = nearest_others(space.at(doubtful), rows)
    other[where], similarity[where] = which, cosine
    return _View(made, own, other, similarity, levels)


def _levels(space: Space, own: Floats, rows: torch.Tensor) -> Levels:
    """Learn from a sample of the images what strangers reach, and from all of them what members reach."""
    fine = np.linspace(-1.0, 1.0, 4001)
    strangers = np.zeros(len(fine) - 1)
    nearest = []
    for embeddings, labels, _ in space.at(_sample(space.labels, len(rows))):
        closest = torch.full((len(embeddings),), -2.0)
        for first in range(0, len(rows), COLUMNS):
            cosine = other_similarities(embeddings, labels, rows, first)
            strangers += torch.histc(cosine, len(strangers), -1.0, 1.0).numpy()
            closest = torch.maximum(closest, cosine.amax(dim=1))
        nearest.append(closest.numpy())
    lookalike = _quantile(fine, strangers, LOOKALIKE)
    judged = own[~np.isnan(own)]
    member = float(np.quantile(judged, MEMBER)) if len(judged) else 1.0
    edges = np.linspace(-1.0, 1.0, BINS + 1)
    return Levels(
        stranger=_quantile(fine, strangers, STRANGER),
        lookalike=lookalike,
        member=max(member, lookalike),
        edges=tuple(edges.round(3).tolist()),
        own=tuple(np.histogram(judged, edges)[0].tolist()),
        nearest=tuple(np.histogram(np.concatenate(nearest), edges)[0].tolist()),
    )


def _sample(labels: Ints, identities: int) -> Ints:
    """Return positions of readable images, evenly spaced, so many that their cosines stay within SAMPLE."""
    readable = np.flatnonzero(labels >= 0)
    count = min(len(readable), max(64, SAMPLE // identities), MOST_SAMPLED)
    return readable[np.linspace(0, len(readable) - 1, count).astype(np.int64)]


def _quantile(edges: npt.NDArray[np.float64], counts: npt.NDArray[np.float64], share: float) -> float:
    """Return the value below which ``share`` of a histogram lies."""
    below = np.concatenate([[0.0], np.cumsum(counts)])
    return float(np.interp(share * below[-1], below, edges))


def _doubted(view: _View) -> tuple[Bools, Bools]:
    """Return ``[N]`` images that belong to another identity, and ``[N]`` images that are strangers to their own."""
    levels = view.levels
    belongs = (view.own < levels.lookalike) & (view.similarity >= levels.member)
    return belongs, (view.own < levels.stranger) & ~belongs


def _without(labels: Ints, belongs: Bools, strays: Bools) -> tuple[Bools, Bools]:
    """Leave doubted images out where that leaves an identity a core.

    Returns:
        ``[N] bool`` images kept, and ``[C]`` bool identities in which the strays are outvoted by at least two others.
    """
    readable = labels >= 0
    count = int(labels.max()) + 1
    rest = readable & ~belongs
    rest |= readable & (np.bincount(labels[rest], minlength=count)[labels] == 0)
    odd, left = (np.bincount(labels[mask], minlength=count) for mask in (rest & strays, rest & ~strays))
    core = (left >= 2) & (left > odd)
    return rest & ~(strays & core[labels]), core


def _report(space: Space, view: _View) -> Suspects:
    """Name what the last round found; what explains an image as part of a larger fault comes first."""
    belongs, strays = _doubted(view)
    kept, core = _without(space.labels, belongs, strays)
    merged = merged_identities(space, (space.labels >= 0) & ~belongs, view.levels)
    split = split_identities(space, centres(space, kept))
    strays &= ~np.isin(space.labels, _numbers(space, [one.identity for one in merged]))
    belongs &= ~_within(space, view, split)
    lost = strays & ~core[space.labels]
    return Suspects(
        images=int((space.labels >= 0).sum()),
        identities=len(space.embedded.identities),
        mislabelled=_mislabelled(space, view, belongs, strays & ~lost),
        merged=merged,
        split=split,
        inconsistent=_inconsistent(space, view, lost),
        levels=view.levels,
    )


def _numbers(space: Space, names: Iterable[str]) -> Ints:
    """Return the labels of identities."""
    wanted = set(names)
    return np.array([label for label, name in enumerate(space.names) if name in wanted], np.int64)


def _within(space: Space, view: _View, split: Sequence[Split]) -> Bools:
    """Return ``[N]`` images whose nearest other identity is one person with their own: their label is right."""
    pairs = {frozenset((one.first, one.second)) for one in split}
    found = np.zeros(len(view.own), bool)
    for image in np.flatnonzero(view.other >= 0):
        found[image] = frozenset((space.names[space.labels[image]], space.names[view.other[image]])) in pairs
    return found


def _mislabelled(space: Space, view: _View, belongs: Bools, strays: Bools) -> list[Mislabelled]:
    """Name the images, those first whose label is farthest from what else they could be."""
    found = [_one(space, view, int(image), bool(belongs[image])) for image in np.flatnonzero(belongs | strays)]
    return sorted(found, key=lambda one: (one.similarity if one.belongs else view.levels.lookalike) - one.own)[::-1]


def _one(space: Space, view: _View, image: int, belongs: bool) -> Mislabelled:
    return Mislabelled(
        image=image,
        identity=space.names[space.labels[image]],
        own=float(view.own[image]),
        other=space.names[view.other[image]],
        similarity=float(view.similarity[image]),
        belongs=belongs,
    )


def _inconsistent(space: Space, view: _View, lost: Bools) -> list[Inconsistent]:
    """Name the identities whose images disagree with each other, the least similar first."""
    found = [
        Inconsistent(space.names[label], float(view.own[positions].mean()), tuple(positions.tolist()))
        for label, positions in by_identity(space.labels, lost)
    ]
    return sorted(found, key=lambda one: one.similarity)
