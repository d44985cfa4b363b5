"""Rows judged alone, without images: also those of a foreign head, before it becomes a classifier.

Every check takes ``[C, D]`` floating-point rows, normalised or not, and their names.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from proxylesskd.audit.finding import Finding, Level
from proxylesskd.audit.search import ClosePairs, chance_similarity, close_pairs, rms_cosine, unit

SIMILAR = 0.95  # rows of two people are not that alike unless their number fills the sphere
COPY = 0.9995
SHARE = 0.01  # more of the identities than this: no accident
LISTED = 50
ALL_PAIRS = 200_000  # up to so many rows, every row is compared with every other
BUDGET = 2e10  # pairs compared beyond
WEAK = 0.25  # of the median norm: rows that were hardly ever updated
FEW = 8  # rows, too few to say anything about their spread
COLLAPSED, CROWDED = 0.8, 0.6  # root mean square cosines


def check_rows(
    rows: Tensor,
    names: Sequence[str],
    *,
    identities: Sequence[str] | None = None,
    similar: float = SIMILAR,
    seed: int = 0,
) -> list[Finding]:
    """Run every check that needs nothing but the rows.

    Args:
        rows: ``[C, D]`` floating point, of any norm, also with zero or non-finite rows.
        names: C names.
        identities: those of the data, if known: rows of other names are surplus.
        similar: cosine from which two rows look like one person.
        seed: of the sample of rows where there are more than 200,000.

    Returns:
        Findings on norms, copies, duplicates and spread.
    """
    norms = check_norms(rows, names)
    whole = usable(rows)
    kept = [name for name, good in zip(names, whole.tolist(), strict=True) if good]
    if len(kept) < 2:
        return [norms]
    directions = unit(rows[whole])
    copies = check_copies(directions, kept, identities=identities)
    single = _without_copies(directions)
    duplicates = check_duplicates(directions[single], [kept[row] for row in single], similar=similar, seed=seed)
    return [norms, copies, duplicates, check_spread(directions, seed=seed)]


def usable(rows: Tensor) -> Tensor:
    """Return ``[C] bool``: finite rows that are not zero."""
    norms: Tensor = rows.float().norm(dim=1)
    return norms.isfinite() & (norms >= 1e-6)


def check_norms(rows: Tensor, names: Sequence[str]) -> Finding:
    """Judge the norms ``[C]`` of rows: non-finite, zero, hardly trained, or untouched initial values."""
    norms = rows.float().norm(dim=1)  # [C]
    whole = usable(rows)
    median = float(norms[whole].median()) if bool(whole.any()) else 0.0
    details = {"median": round(median, 6), "rows": len(rows)}
    for what, bad, mend in (
        ("not finite", ~norms.isfinite(), "the checkpoint is damaged or overflowed; take another"),
        ("zero", norms.isfinite() & ~whole, "they are padding or belong to nobody; leave them out"),
    ):
        if bool(bad.any()):
            return _bad_norms("finite rows that are not zero", what, bad, names, mend, details)
    if _initial(rows, norms):
        deviation = median / math.sqrt(rows.shape[1])
        message = (
            f"expected trained rows, found Gaussian values of standard deviation {deviation:.2g} in all directions, "
            "as an initialisation leaves them; take the checkpoint after training"
        )
        return Finding("norms", "failed", message, details)
    weak = norms < WEAK * median
    if bool(weak.any()):
        return _bad_norms(
            f"rows of about one norm (median {median:.3g})", f"below {WEAK:g} of the median", weak, names,
            "they look untrained; estimate these rows from images or leave the identities out", details, share=SHARE,
        )  # fmt: skip
    return Finding("norms", "passed", f"all {len(rows)} rows finite and not zero, median norm {median:.3g}", details)


def _bad_norms(
    expected: str, what: str, bad: Tensor, names: Sequence[str], mend: str, details: dict[str, float], share: float = 0
) -> Finding:
    found = bad.nonzero().flatten().tolist()
    message = f"expected {expected}, found {len(found)} {what}, first row {found[0]} ('{names[found[0]]}'); {mend}"
    level: Level = "failed" if len(found) > share * len(names) else "warning"
    return Finding("norms", level, message, {**details, "what": what, "count": len(found), "first": found[:LISTED]})


def _initial(rows: Tensor, norms: Tensor) -> bool:
    """Say whether all rows look like independent Gaussian values: norms and directions vary just as these do."""
    count, dim = rows.shape
    if count < 100 or dim < 8:
        return False
    variation = float(norms.std() / norms.mean()) * math.sqrt(2 * dim)  # 1 for Gaussian values
    isotropy = rms_cosine(unit(rows)) * math.sqrt(dim)  # 1 for independent directions
    return abs(variation - 1) < 0.2 and abs(isotropy - 1) < 0.05


def check_copies(rows: Tensor, names: Sequence[str], *, identities: Sequence[str] | None = None) -> Finding:
    """Find rows that are the same bit for bit: padding, or one person under two labels.

    Args:
        rows: ``[C, D] float32`` unit vectors.
        names: C names.
        identities: those of the data, if known.
    """
    groups = _equal_rows(rows)
    if not groups:
        return Finding("copies", "passed", "no row is a copy of another", {"groups": 0})
    copied = [row for group in groups for row in group]
    needed = set(names if identities is None else identities)
    touched = [row for row in copied if names[row] in needed]
    surplus = len(touched) <= len(groups) and identities is not None and len(names) > len(needed)
    named = ", ".join(f"'{names[group[0]]}' = '{names[group[1]]}'" for group in groups[:3])
    details = {"groups": len(groups), "rows": len(copied), "first": [group[:8] for group in groups[:LISTED]]}
    if surplus:
        message = (
            f"expected distinct rows, found {len(copied) - len(groups)} surplus ones that only repeat others "
            f"({named}): they look like padding; leave them out, a copy is a false negative of its identity"
        )
        return Finding("copies", "failed", message, {**details, "padding": True})
    message = (
        f"expected distinct rows, found {len(copied)} that stand more than once ({named}): padding, or one person "
        "under two labels; leave out the padding, merge the identities"
    )
    return Finding("copies", "failed", message, {**details, "padding": False})


def _equal_rows(rows: Tensor) -> list[list[int]]:
    """Return groups of equal rows, the largest first."""
    groups: dict[bytes, list[int]] = {}
    values = (rows.float().cpu() + 0.0).contiguous().numpy()  # -0 and 0 are the same value, not the same bytes
    for row, value in enumerate(values):
        groups.setdefault(value.tobytes(), []).append(row)
    return sorted((group for group in groups.values() if len(group) > 1), key=len, reverse=True)


def _without_copies(rows: Tensor) -> list[int]:
    repeats = {row for group in _equal_rows(rows) for row in group[1:]}
    return [row for row in range(len(rows)) if row not in repeats]


def check_duplicates(rows: Tensor, names: Sequence[str], *, similar: float = SIMILAR, seed: int = 0) -> Finding:
    """Find pairs of rows that look like one person under two labels.

    The threshold rises where many rows crowd few dimensions, so that chance neighbours are not taken for duplicates.

    Args:
        rows: ``[C, D] float32`` unit vectors.
        names: C names.
        similar: cosine from which two rows look like one person.
        seed: of the sample of rows where there are more than 200,000.
    """
    chance = chance_similarity(len(rows), rms_cosine(rows, seed)) if len(rows) > 1 else 1.0
    threshold = min(max(similar, chance), COPY)
    pairs = close_pairs(rows, threshold, keep=LISTED, anchors=_anchors(len(rows), seed))
    involved = int((pairs.strongest >= threshold).sum())
    details = {
        "threshold": round(threshold, 4),
        "involved": involved,
        "compared": pairs.compared,
        "pairs": _listed(pairs, names),
    }
    of = "" if pairs.compared == len(rows) else f" (a sample of {pairs.compared} rows against all {len(rows)})"
    if not involved:
        return Finding("duplicates", "passed", f"no two rows are closer than {threshold:.2f}{of}", details)
    message = (
        f"expected one row a person, found {involved} rows that are closer than {threshold:.2f} to another{of}, "
        f"closest '{names[int(pairs.pairs[0, 0])]}' and '{names[int(pairs.pairs[0, 1])]}' "
        f"({float(pairs.similarity[0]):.3f}); merge them if they are one person: a person under two labels is "
        "trained against itself"
    )
    certain = int((pairs.strongest >= max(SIMILAR, chance)).sum())
    # Of a sample of rows only these and their partners can be involved.
    severe = float(pairs.similarity[0]) > COPY or certain > SHARE * pairs.compared
    return Finding("duplicates", "failed" if severe else "warning", message, details)


def _anchors(count: int, seed: int) -> Tensor | None:
    if count <= ALL_PAIRS:
        return None
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(count, generator=generator)[: int(BUDGET / count)]


def _listed(pairs: ClosePairs, names: Sequence[str]) -> list[dict[str, object]]:
    return [
        {"first": names[left], "second": names[right], "similarity": round(similarity, 4)}
        for (left, right), similarity in zip(pairs.pairs.tolist(), pairs.similarity.tolist(), strict=True)
    ]


def check_spread(rows: Tensor, *, seed: int = 0) -> Finding:
    """Judge whether the rows point in many directions, by the root mean square cosine between different rows.

    Args:
        rows: ``[C, D] float32`` unit vectors.
        seed: of the sample where there are many.
    """
    spread = rms_cosine(rows, seed)
    details = {"rms_cosine": round(spread, 4), "independent": round(1 / math.sqrt(rows.shape[1]), 4)}
    if len(rows) < FEW or spread < CROWDED:
        message = f"the rows spread over the sphere: root mean square cosine {spread:.2f}"
        return Finding("spread", "passed", message, details)
    message = (
        f"expected rows in many directions (root mean square cosine near {details['independent']:.2f}), found "
        f"{spread:.2f}: nearly all point the same way, as those of a broken or wrongly fed teacher do; "
        "check the teacher's weights and preprocessing"
    )
    return Finding("spread", "failed" if spread > COLLAPSED else "warning", message, details)
