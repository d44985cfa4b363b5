"""Does every identity of the data have a row, and is it known which?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from proxylesskd.audit.finding import Finding
from proxylesskd.errors import nearest

EXAMPLES = 5


def by_position(names: Sequence[str], identities: Sequence[str]) -> bool:
    """Say whether the rows are only numbered, "0", "1", …, while the data calls its identities by other names."""
    return all(name == str(row) for row, name in enumerate(names)) and set(identities).isdisjoint(names)


def current_rows(names: Sequence[str], identities: Sequence[str]) -> Tensor:
    """Return ``[C] int64``, the row that each identity of the data has now; -1 where it has none.

    Args:
        names: of the R rows.
        identities: C names of the data.
    """
    if by_position(names, identities):
        position = torch.arange(len(identities))
        return torch.where(position < len(names), position, -1)
    place = dict.fromkeys(identities, -1)  # of these alone: the rows may have millions of names
    for row, name in enumerate(names):
        if name in place:
            place[name] = row
    return torch.tensor([place[name] for name in identities], dtype=torch.int64)


def check_count(names: Sequence[str], identities: Sequence[str]) -> Finding:
    """Compare the number of rows with the number of identities."""
    rows, count = len(names), len(identities)
    details = {"rows": rows, "identities": count}
    if rows < count:
        message = (
            f"expected at least {count} rows, one for each identity in the data, found {rows}: the classifier is "
            "short; a shard may be missing, or it belongs to other data"
        )
        return Finding("number of rows", "failed", message, details)
    surplus = "" if rows == count else f", {rows - count} more than identities; these stay as negatives"
    return Finding("number of rows", "passed", f"{rows} rows for {count} identities{surplus}", details)


def check_names(names: Sequence[str], identities: Sequence[str]) -> Finding:
    """Look up every identity of the data among the names of the rows."""
    if by_position(names, identities):
        message = (
            f"expected rows named like the identities ('{identities[0]}', …), found numbers '0' to '{len(names) - 1}'; "
            f"assumed that row i belongs to identity i of the data, so row 0 to '{identities[0]}'; "
            "inherit with the data given, so that the rows get their names"
        )
        return Finding("names", "warning", message, {"assumed": "by position"})
    unknown = set(identities).difference(names)
    missing = [name for name in identities if name in unknown]
    if not missing:
        same = list(names[: len(identities)]) == list(identities)
        order = "" if same else ", in another order, which is fine: rows are found by name"
        return Finding("names", "passed", f"every identity of the data has a row{order}", {"same_order": same})
    examples = ", ".join(f"'{name}'{nearest(name, _similar(name, names))}" for name in missing[:EXAMPLES])
    message = (
        f"expected a row for each of the {len(identities)} identities, found none for {len(missing)}: {examples}; "
        "inherit from the data you train on, or give the data that belongs to the classifier"
    )
    return Finding("names", "failed", message, {"missing": len(missing), "first_missing": missing[:50]})


def _similar(name: str, names: Sequence[str], limit: int = 2000) -> list[str]:
    """Return candidates for the nearest name: comparing with a million of them would take minutes."""
    if len(names) <= limit:
        return list(names)
    stem = name.strip().lower()
    return [other for other in names if stem in other.lower() or other.lower() in stem][:limit]
