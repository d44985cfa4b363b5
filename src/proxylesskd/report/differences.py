"""Paired differences between two models, as sentences below the results: the claim that the page makes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from proxylesskd.errors import UserError
from proxylesskd.export.run_folder import read_json

FILE = "differences.json"


@dataclass(frozen=True)
class PairedDifference:
    """A metric of one model minus that of another, on the same pairs, with its 95 % interval.

    Attributes:
        first: name of the one model.
        second: name of the other.
        mode: ``"single-model"`` or ``"cross-model"``.
        metric: what a person calls the metric.
        value: the difference, in [-1, 1].
        lower: end of the interval.
        upper: other end.
    """

    first: str
    second: str
    mode: str
    metric: str
    value: float
    lower: float
    upper: float

    def sentence(self) -> str:
        """Say it in percentage points, and whether the interval leaves out zero."""
        verdict = "leaves out zero" if self.lower > 0 or self.upper < 0 else "does not leave out zero"
        return (
            f"{self.first} minus {self.second}, {self.metric}, {self.mode}: {100 * self.value:+.2f} points, "
            f"95 % interval {100 * self.lower:+.2f} to {100 * self.upper:+.2f}, which {verdict} (paired bootstrap)."
        )


def save_differences(folder: Path, differences: Sequence[PairedDifference]) -> Path:
    """Write ``differences.json`` into a run folder, for its report, and return its path."""
    path = folder / FILE
    told = {"differences": [asdict(difference) for difference in differences]}
    path.write_text(json.dumps(told, indent=1, ensure_ascii=False), encoding="utf-8")
    return path


def read_differences(folder: Path) -> list[PairedDifference]:
    """Return the saved differences; none when none were saved.

    Raises:
        UserError: the file is malformed.
    """
    told = read_json(folder / FILE)
    if told is None:
        return []
    try:
        return [_parse(entry) for entry in told["differences"]]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"expected paired differences in {folder / FILE}, found {error!r}; write it anew") from error


def _parse(entry: dict[str, object]) -> PairedDifference:
    words = [str(entry[name]) for name in ("first", "second", "mode", "metric")]
    value, lower, upper = (float(str(entry[name])) for name in ("value", "lower", "upper"))
    return PairedDifference(words[0], words[1], words[2], words[3], value, lower, upper)
