"""Orders that rows are found in when they were stored by one rule and named by another."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Pattern:
    """A rule that says for every row place which row belongs there.

    Attributes:
        name: what a person calls it.
        rows: ``[R] int64``, a permutation: the row that belongs to the identity named at place p.
        share: of the identities tried whose nearest row is the one it says.
    """

    name: str
    rows: Tensor
    share: float


def best_pattern(names: Sequence[str], data: Sequence[str], current: Tensor, nearest: Tensor) -> Pattern | None:
    """Return the rule that explains most of the nearest rows.

    Args:
        names: R, in the order of the rows.
        data: names of the identities in the order of the data.
        current: ``[k] int64``, the row that each identity tried has now.
        nearest: ``[k] int64``, the row that is nearest to its class centre.
    """
    rules = _shift(len(names), current, nearest) | _orders(names, data)
    found = [Pattern(name, rows, float((rows[current] == nearest).float().mean())) for name, rows in rules.items()]
    return max(found, key=lambda pattern: pattern.share, default=None)


def _shift(count: int, current: Tensor, nearest: Tensor) -> dict[str, Tensor]:
    """Return the cyclic shift that most identities agree on."""
    if not len(current):
        return {}
    by = int(torch.bincount((nearest - current) % count, minlength=count).argmax())
    if by == 0:
        return {}
    said = by if by <= count // 2 else by - count
    return {f"shifted by {said:+d} (row i{said:+d} belongs to the name of row i)": (torch.arange(count) + by) % count}


def _orders(names: Sequence[str], data: Sequence[str]) -> dict[str, Tensor]:
    """Return for every usual order of names the row of each place, if the rows stood in that order."""
    orders = {
        "in the numeric order of the names ('2' before '10')": sorted(names, key=numeric_key),
        "in the lexicographic order of the names ('10' before '2')": sorted(names),
        "in the lexicographic order of the names without regard to case": sorted(names, key=str.casefold),
        "in reverse": list(reversed(names)),
    }
    known = set(names)
    if len(data) == len(names) and known == set(data):
        orders["in the order of the data"] = list(data)
    result = {}
    for rule, order in orders.items():
        if order != list(names):
            place = {name: row for row, name in enumerate(order)}
            result[rule] = torch.tensor([place[name] for name in names], dtype=torch.int64)
    return result


def numeric_key(name: str) -> tuple[tuple[bool, int, str], ...]:
    """Return a key that sorts the numbers inside names by value: "id-2" before "id-10"."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    # A million digits are no number: converting them would take quadratic time.
    return tuple((False, int(p), "") if p[0] in "0123456789" and len(p) < 19 else (True, 0, p) for p in parts)
