"""Classifiers out of classifiers: one teacher over more identities, or two teachers in one space.

============  ==================================  ==============================  =========================
function      teachers                            identities                      a shared identity
============  ==================================  ==============================  =========================
extend        one                                 the first's, then new ones      keeps the first's row
merge         one                                 the first's, then new ones      the mean of both rows
concatenate   two                                 shared ones, the rest left out  both rows side by side
============  ==================================  ==============================  =========================

Identities are joined by name, letter by letter. The provenance of the result holds that of both parts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.errors import UserError
from proxylesskd.models.joined import joined_fingerprint, shares, side_by_side


def extend(
    classifier: InheritedClassifier, addition: InheritedClassifier, *, same_space: bool = False
) -> InheritedClassifier:
    """Give rows to identities that the teacher never saw.

    Args:
        classifier: say, the teacher's own last layer; its rows and their order stay bit for bit.
        addition: say, class centres of further identities under the same teacher; of an identity that both name, the
            row in ``classifier`` stays.
        same_space: take it from the caller that both are of one teacher.

    Returns:
        The rows of ``classifier``, then those of ``addition`` for new names, in its order.

    Raises:
        UserError: the two are not known to be of one teacher, have other dimensions or projections, or ``addition``
            names nobody new.
    """
    _refuse_two_spaces(classifier, addition, same_space)
    kept, new = shared_names(classifier.identities, addition.identities), _new(classifier, addition)
    if not new:
        raise UserError(
            f"expected identities to add, found that all {len(addition.identities)} have a row already; "
            "merge the two to average their rows"
        )
    provenance = {"shared_identities": len(kept), "added_identities": len(new), **_teacher(classifier, addition)}
    return _union(classifier, addition, classifier.rows, new, "extended by rows of further identities", provenance)


def merge(
    first: InheritedClassifier,
    second: InheritedClassifier,
    *,
    images: tuple[Tensor, Tensor] | None = None,
    same_space: bool = False,
) -> InheritedClassifier:
    """Join the classifiers of two data sets under one teacher.

    Args:
        first: classifier of one data set.
        second: classifier of the other.
        images: ``[C1]`` and ``[C2]``, how many images every row of ``first`` and ``second`` was made of: the row of a
            shared identity is the normalised mean of both, weighted by them; without them both count alike.
        same_space: take it from the caller that both are of one teacher.

    Returns:
        The rows of ``first`` in its order, then those of ``second`` for new names in its order. Rows of an identity
        that only one of them names stay bit for bit.

    Raises:
        UserError: the two are not known to be of one teacher, have other dimensions or projections, counts do not
            fit the rows, or the rows of a shared identity cancel out.
    """
    _refuse_two_spaces(first, second, same_space)
    left, right = _counts(images, first, second)
    shared, new = shared_names(first.identities, second.identities), _new(first, second)
    ours, theirs = first.rows_of(shared), second.rows_of(shared)
    sums = left[ours, None] * first.rows.cpu()[ours].double() + right[theirs, None] * second.rows.cpu()[theirs].double()
    rows = first.rows.cpu().clone()
    rows[ours] = F.normalize(sums, dim=1).float()
    provenance = {"shared_identities": len(shared), "added_identities": len(new), **_teacher(first, second)}
    return _union(first, second, rows, new, "two data sets merged", provenance)


def concatenate(
    first: InheritedClassifier, second: InheritedClassifier, *, weights: tuple[float, float] = (0.5, 0.5)
) -> InheritedClassifier:
    """Put two teachers into one space, for the identities that both know.

    A joint row is ``[√w₁ r₁, √w₂ r₂]``: of unit length, and a student's cosine with it is that of
    :class:`~proxylesskd.models.joined.JoinedEmbedder`, ``w₁ cos₁ + w₂ cos₂``.

    Args:
        first: ``[C1, D1]`` rows of one teacher.
        second: ``[C2, D2]`` rows of another.
        weights: the teachers' shares in a cosine, > 0; scaled to the sum 1.

    Returns:
        ``[shared, D1 + D2]`` rows in the order of ``first``. Its ``teacher_fingerprint`` is that of the
        ``JoinedEmbedder`` of the two teachers, where both are known.

    Raises:
        UserError: fewer than two identities are shared, both are of one teacher, one is projected, or a weight is not
            positive.
    """
    _refuse_to_concatenate(first, second)
    shared = shared_names(first.identities, second.identities)
    if len(shared) < 2:
        raise UserError(
            f"expected identities that both classifiers name, found {len(shared)} among {len(first.identities)} and "
            f"{len(second.identities)}{near_names(first.identities, second.identities)}; give both the same names"
        )
    left, right = (part.rows.cpu()[part.rows_of(shared)] for part in (first, second))
    provenance = {
        "how": "two teachers side by side",
        **_joint_teacher(first.provenance, second.provenance, weights),
        "weights": list(shares(weights)),
        "shared_identities": len(shared),
        "left_out_of_first": len(first.identities) - len(shared),
        "left_out_of_second": len(second.identities) - len(shared),
        "parts": [_part(first), _part(second)],
    }
    return InheritedClassifier(side_by_side(left, right, weights), shared, provenance)


def shared_names(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """Return the names in both, letter by letter the same, in the order of ``first``."""
    known = set(second)
    return [name for name in first if name in known]


def near_names(first: Sequence[str], second: Sequence[str]) -> str:
    """Return a hint that two names seem to mean one identity, or, failing that, one name of each.

    Names seem to mean one where only case, punctuation, letters around a number or its leading zeros differ: such as
    ``0001`` and ``n0001``.
    """
    for reduce in (_letters, _number):
        known = {key: name for name in reversed(second) if (key := reduce(name))}
        for name in first:
            if (other := known.get(reduce(name))) and other != name:
                return f"; '{name}' in the first looks like '{other}' in the second"
    return f"; the first begins with '{first[0]}', the second with '{second[0]}'"


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())


def _number(name: str) -> str:
    digits = re.findall(r"\d+", name)
    return digits[0].lstrip("0") or "0" if len(digits) == 1 else ""


def _new(first: InheritedClassifier, second: InheritedClassifier) -> list[str]:
    known = set(first.identities)
    return [name for name in second.identities if name not in known]


def _union(
    first: InheritedClassifier,
    second: InheritedClassifier,
    rows: Tensor,
    new: list[str],
    how: str,
    provenance: Mapping[str, Any],
) -> InheritedClassifier:
    """Put the rows of new names under ``rows [C1, D]``, those of ``first``."""
    joined = torch.cat([rows.cpu(), second.rows.cpu()[second.rows_of(new)]])
    told = {"how": how, **provenance, "parts": [_part(first), _part(second)]}
    return InheritedClassifier(joined, [*first.identities, *new], told, first.projection)


def _counts(
    images: tuple[Tensor, Tensor] | None, first: InheritedClassifier, second: InheritedClassifier
) -> tuple[Tensor, Tensor]:
    sizes = [len(first.identities), len(second.identities)]
    if images is None:
        return torch.ones(sizes[0], dtype=torch.float64), torch.ones(sizes[1], dtype=torch.float64)
    if [tuple(count.shape) for count in images] != [(size,) for size in sizes]:
        found = " and ".join(str(list(count.shape)) for count in images)
        raise UserError(f"expected one count of images a row, [{sizes[0]}] and [{sizes[1]}], found {found}")
    if any(bool((count <= 0).any()) for count in images):
        raise UserError("expected at least one image a row, found a count that is not positive")
    return images[0].cpu().double(), images[1].cpu().double()


def _refuse_two_spaces(first: InheritedClassifier, second: InheritedClassifier, same_space: bool) -> None:
    if first.dim != second.dim:
        raise UserError(
            f"expected rows of one dimension, found {first.dim} and {second.dim}; rows of two teachers are joined by "
            "concatenate"
        )
    if not _equal(first.projection, second.projection):
        raise UserError(
            "expected both classifiers projected by one map or neither, found other projections; "
            "combine them first, then project"
        )
    teachers = [part.provenance.get("teacher_fingerprint") for part in (first, second)]
    if same_space or (teachers[0] is not None and teachers[0] == teachers[1]):
        return
    found = " and ".join("an unknown one" if teacher is None else f"'{str(teacher)[:16]}'" for teacher in teachers)
    raise UserError(
        f"expected two classifiers of one teacher, found {found}; pass same_space=True if the rows are of one teacher "
        "all the same"
    )


def _refuse_to_concatenate(first: InheritedClassifier, second: InheritedClassifier) -> None:
    if first.projection is not None or second.projection is not None:
        raise UserError(
            "expected rows as the teachers have them, found projected ones; concatenate first, then project"
        )
    teachers = [part.provenance.get("teacher_fingerprint") for part in (first, second)]
    if teachers[0] is not None and teachers[0] == teachers[1]:
        raise UserError(
            f"expected classifiers of two teachers, found '{str(teachers[0])[:16]}' twice; two data sets of one "
            "teacher are joined by merge"
        )


def _equal(first: Tensor | None, second: Tensor | None) -> bool:
    if first is None or second is None:
        return first is second
    return torch.equal(first.cpu(), second.cpu())


def _teacher(first: InheritedClassifier, second: InheritedClassifier) -> dict[str, Any]:
    """Return name and fingerprint of the one teacher, from whichever part has them."""
    keys = ("teacher", "teacher_fingerprint")
    known = next((part.provenance for part in (first, second) if keys[1] in part.provenance), {})
    return {key: known[key] for key in keys if key in known}


def _joint_teacher(first: Mapping[str, Any], second: Mapping[str, Any], weights: tuple[float, float]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if "teacher" in first and "teacher" in second:
        told["teacher"] = f"{first['teacher']}+{second['teacher']}"
    prints = [part.get("teacher_fingerprint") for part in (first, second)]
    if None not in prints:
        told["teacher_fingerprint"] = joined_fingerprint(str(prints[0]), str(prints[1]), weights)
    return told


def _part(classifier: InheritedClassifier) -> dict[str, Any]:
    return {
        "fingerprint": classifier.fingerprint,
        "identities": len(classifier.identities),
        "provenance": classifier.provenance,
    }
