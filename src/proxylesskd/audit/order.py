"""Are the rows named rightly? Compares class centres with rows, and finds the order that mends a wrong one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from proxylesskd.audit.evidence import Evidence
from proxylesskd.audit.finding import Finding
from proxylesskd.audit.patterns import best_pattern
from proxylesskd.audit.search import nearest_rows, rms_cosine
from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.errors import UserError

ACCEPTED = 0.5  # of what halves of the data reach among themselves
DISTINCT = 0.8
SIGMAS = 6.0  # by which an identity must prefer another row to its own
SHARE = 0.01
LISTED = 50


@dataclass(frozen=True)
class Homes:
    """Where each identity's class centre feels at home.

    Attributes:
        tried: ``[k] int64``, identities with images and a row.
        current: ``[k] int64``, the row that carries their name.
        nearest: ``[k] int64``, the row nearest to their class centre.
        own: ``[k] float32``, cosine to the current row.
        similarity: ``[k] float32``, cosine to the nearest.
    """

    tried: Tensor
    current: Tensor
    nearest: Tensor
    own: Tensor
    similarity: Tensor


def find_homes(evidence: Evidence, rows: Tensor, current: Tensor) -> Homes:
    """Find the row nearest to every class centre, among all rows.

    Args:
        evidence: embeddings of the data.
        rows: ``[R, D] float32`` unit rows.
        current: ``[C] int64`` row of each identity, -1 where it has none.
    """
    tried = ((evidence.counts > 0) & (current >= 0)).nonzero().flatten()
    centres = evidence.centres[tried]
    similarity, nearest = nearest_rows(centres, rows)
    return Homes(tried, current[tried], nearest, (centres * rows[current[tried]]).sum(dim=1), similarity)


def check_order(evidence: Evidence, rows: Tensor, names: Sequence[str], current: Tensor, *, low: bool) -> Finding:
    """Judge the order of the rows.

    Args:
        evidence: embeddings of the data.
        rows: ``[R, D] float32`` unit rows.
        names: R names of the rows.
        current: ``[C] int64`` row of each identity, -1 where it has none.
        low: the teacher recognises far less through the rows than it can, so the whole order is in doubt; otherwise
            only single rows are.

    Returns:
        A finding whose details hold ``mapping``, identity -> row, where an order was found that mends it.
    """
    homes = find_homes(evidence, rows, current)
    if not len(homes.tried):
        return Finding("label order", "warning", "expected images of identities that have rows, found none; "
                       "give the data that belongs to the classifier")  # fmt: skip
    return _whole_order(evidence, homes, names) if low else _single_rows(evidence, homes, rows)


def _whole_order(evidence: Evidence, homes: Homes, names: Sequence[str]) -> Finding:
    possible = evidence.half_matches()
    pattern = best_pattern(names, evidence.identities, homes.current, homes.nearest)
    details = {"at_home": _share(homes), "possible": round(possible, 4)}
    if pattern is not None and _proves(pattern.share, possible, len(homes.tried), len(names)):
        message = (
            f"expected the rows in the order of their names, found them {pattern.name}: so the class centres of "
            f"{pattern.share:.1%} of the identities say; mend it with --mend"
        )
        mapping = {name: int(row) for name, row in zip(names, pattern.rows.tolist(), strict=True)}
        mapping = _for_identities(evidence, homes, mapping, names)
        return Finding("label order", "failed", message, {**details, "kind": pattern.name, "mapping": mapping})
    if _permuted(evidence, homes):
        return _permutation(evidence, homes, details)
    level = float(homes.similarity.median())
    message = (
        f"expected rows that belong to these identities, found none in any order: class centres reach a cosine of "
        f"{level:.2f} with their nearest rows, no more than strangers do; the rows come from another teacher or from "
        "other images, so estimate them anew from this teacher and these images"
    )
    return Finding("label order", "failed", message, {**details, "kind": "foreign"})


def _share(homes: Homes) -> float:
    return round(float((homes.nearest == homes.current).float().mean()), 4)


def _proves(share: float, possible: float, tried: int, rows: int) -> bool:
    """Say whether a rule explains enough: about what can be reached, and far more than chance."""
    chance = 1.0 / rows
    return share >= ACCEPTED * possible and share * tried >= 3 and share > chance + 5 * math.sqrt(chance / tried)


def _for_identities(
    evidence: Evidence, homes: Homes, mapping: Mapping[str, int], names: Sequence[str]
) -> dict[str, int]:
    """Say it for the data's names where the rows are only numbered."""
    if evidence.identities[int(homes.tried[0])] in mapping:
        return dict(mapping)
    return {name: mapping[names[place]] for place, name in enumerate(evidence.identities[: len(names)])}


def _permuted(evidence: Evidence, homes: Homes) -> bool:
    """Say whether every identity has a row of its own, and one that is nearer than a stranger's would be."""
    distinct = len(set(homes.nearest.tolist())) / len(homes.nearest)
    halves, level = evidence.half_similarity(), float(homes.similarity.median())
    beyond = float(evidence.stranger_similarity().quantile(0.75))
    return distinct >= DISTINCT and level >= max(_nearness(evidence, halves), beyond)


def _nearness(evidence: Evidence, own: Tensor) -> float:
    """Return the cosine half-way between the usual nearest stranger and the usual own: below it, nobody is at home."""
    usual = float(own.median()) if len(own) else 1.0
    return (usual + float(evidence.stranger_similarity().median())) / 2


def _permutation(evidence: Evidence, homes: Homes, details: Mapping[str, Any]) -> Finding:
    """Give every row to the identity that is nearest to it; who comes away empty has no proven row."""
    mapping: dict[str, int | None] = dict.fromkeys(evidence.identities)
    taken: set[int] = set()
    for at in homes.similarity.argsort(descending=True, stable=True).tolist():
        row = int(homes.nearest[at])
        if row not in taken:
            taken.add(row)
            mapping[evidence.identities[int(homes.tried[at])]] = row
    missing = len(mapping) - len(taken)
    left = f" ({missing} identities have no proven row)" if missing else ""
    message = (
        f"expected the rows in the order of their names, found the right rows in a general permutation: "
        f"{len(taken)} class centres are each nearest to a row of their own{left}, {details['at_home']:.1%} to the one "
        "that carries their name; mend it with --mend"
    )
    return Finding("label order", "failed", message, {**details, "kind": "permutation", "mapping": mapping})


def _single_rows(evidence: Evidence, homes: Homes, rows: Tensor) -> Finding:
    """Look for a few identities under each other's names among many right ones."""
    moved = _moved(evidence, homes, rows)
    details: dict[str, Any] = {"at_home": _share(homes), "moved": len(moved)}
    if len(moved) < 2:  # one alone changes places with nobody
        return Finding("label order", "passed", f"{details['at_home']:.1%} of the class centres are nearest to the row "
                       "of their name, and no rows look swapped", details)  # fmt: skip
    names = [evidence.identities[i] for i in homes.tried[moved].tolist()]
    details["first"] = [
        {"identity": name, "row": int(homes.current[at]), "belongs_to_row": int(homes.nearest[at])}
        for name, at in zip(names[:LISTED], moved[:LISTED].tolist(), strict=True)
    ]
    details["kind"] = "swapped rows"
    details["mapping"] = _mapping_of_moved(evidence, homes, moved)
    first = ", ".join(f"'{name}'" for name in names[:4])
    severe = len(moved) > SHARE * len(homes.tried)
    mend = "mend it with --mend" if severe else "look at them: --mend puts swapped rows right, not swapped images"
    message = (
        f"expected every row under its own name, found {len(moved)} of {len(homes.tried)} identities whose images "
        f"belong to each other's rows: {first}; {mend}"
    )
    return Finding("label order", "failed" if severe else "warning", message, details)


def _moved(evidence: Evidence, homes: Homes, rows: Tensor) -> Tensor:
    """Return ``[m] int64``, places in ``homes`` of identities whose images belong to another row that is free."""
    away = homes.nearest != homes.current
    owner = torch.full((len(rows),), -1, dtype=torch.int64)
    owner[homes.current] = torch.arange(len(homes.current))
    owned_by = owner[homes.nearest]  # [k] who carries the name of the nearest row
    restless = away & (_preference(evidence, homes, rows) > SIGMAS)
    # A look-alike is drawn to a row whose owner is at home; a swapped identity to one whose owner is not.
    free = (owned_by < 0) | restless[owned_by]
    moved = restless & free
    if bool(moved.any()):
        # Mislabelled images are drawn to a row as to a stranger's; twins, and a person under two labels, to both rows.
        near = _nearness(evidence, homes.own[~away])
        moved &= (homes.similarity >= near) & (homes.own < near)
    return moved.nonzero().flatten()


def _preference(evidence: Evidence, homes: Homes, rows: Tensor) -> Tensor:
    """Return ``[k] float32``, by how many standard errors the images prefer the nearest row to the current one.

    If the images belonged to the current row r, their mean m would have (s - r)·m = -a (1 - r·s) for another row s,
    where a is the usual r·m, with the scatter of the images along s - r.
    """
    counts = evidence.counts[homes.tried].float()
    means = evidence.sums[homes.tried] / counts[:, None]  # [k, D], shorter than 1
    own, other = rows[homes.current], rows[homes.nearest]
    typical = (means * other).sum(dim=1).median().clamp_min(0)
    alike = (own * other).sum(dim=1)
    surplus = ((other - own) * means).sum(dim=1) + typical * (1 - alike)
    scatter = math.sqrt(max(1 - evidence.within, 1e-4)) * rms_cosine(rows)  # of one image along one direction
    return surplus / ((2 - 2 * alike).clamp_min(1e-6).sqrt() * scatter / counts.sqrt())


def _mapping_of_moved(evidence: Evidence, homes: Homes, moved: Tensor) -> dict[str, int | None]:
    """Keep everybody's row but that of the moved; a row that a moved identity claims has no other owner."""
    mapping: dict[str, int | None] = dict.fromkeys(evidence.identities)
    claimed = set(homes.nearest[moved].tolist())
    for identity, row in zip(homes.tried.tolist(), homes.current.tolist(), strict=True):
        mapping[evidence.identities[identity]] = None if row in claimed else row
    for at in moved.tolist():
        mapping[evidence.identities[int(homes.tried[at])]] = int(homes.nearest[at])
    return mapping


def mend_order(classifier: InheritedClassifier, mapping: Mapping[str, int | None]) -> InheritedClassifier:
    """Name the rows anew.

    Args:
        classifier: whose rows are right and whose names are not.
        mapping: identity -> row, from the details of the finding "label order".

    Returns:
        A classifier with the same rows in the same places. Rows that the mapping does not claim keep their name
        where it is free, and otherwise take one that became free.

    Raises:
        UserError: an identity has no proven row, two have the same one, or a row does not exist.
    """
    rows = _checked_rows(mapping, len(classifier.identities))
    names: list[str | None] = [None] * len(classifier.identities)
    for name, row in rows.items():
        names[row] = name
    free = [name for name in classifier.identities if name not in rows]
    for row, name in enumerate(classifier.identities):
        if names[row] is None and name not in rows:
            names[row] = name
    left = iter(sorted(set(free) - {name for name in names if name is not None}, key=free.index))
    identities = [next(left) if name is None else name for name in names]
    provenance = {**classifier.provenance, "mended": "rows named anew by the audit", "was": classifier.fingerprint}
    return InheritedClassifier(classifier.rows, identities, provenance, classifier.projection)


def _checked_rows(mapping: Mapping[str, int | None], count: int) -> dict[str, int]:
    unproven = [name for name, row in mapping.items() if row is None]
    if unproven:
        raise UserError(
            f"expected a proven row for every identity, found none for {len(unproven)}, first '{unproven[0]}'; "
            "audit with embeddings of all images, or estimate the rows anew"
        )
    rows = {name: row for name, row in mapping.items() if row is not None}
    if len(set(rows.values())) != len(rows) or not all(0 <= row < count for row in rows.values()):
        raise UserError(
            f"expected different rows in [0, {count}) for different identities, found others in the mapping"
        )
    return rows
