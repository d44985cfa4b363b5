"""What a training leaves to read: one JSON object per line, and TensorBoard's files for those who ask."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from proxylesskd.errors import UserError, require_extra


class MetricsLog:
    """``metrics.jsonl``: rows of training, ``{"step": …, "loss": …}``, and of checks, ``{"step": …, "check": {…}}``.

    Every row is flushed as it is written. A number that is not finite is written as null, since JSON has none.

    Args:
        path: the file; what it already holds stays until :meth:`rewind`.
        tensorboard: folder for TensorBoard's event files, or None.

    Raises:
        UserError: the file cannot be written, or TensorBoard is asked for and not installed.
    """

    def __init__(self, path: Path, *, tensorboard: Path | None = None) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise UserError(f"could not write the metrics to {path}: {error.strerror}") from error
        self._open_curves = None if tensorboard is None else _tensorboard_writer(tensorboard)
        self._curves: Any = None
        self._rewound_to: int | None = None

    def rewind(self, step: int) -> None:
        """Drop the rows beyond ``step`` and a torn last line, so that a resumed run tells one story.

        ``rewind(0)`` empties the file.
        """
        kept = [line for line in self.path.read_text("utf-8").splitlines() if step > 0 and _up_to(line, step)]
        self._file.close()
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        temporary.write_text("".join(line + "\n" for line in kept), "utf-8")
        temporary.replace(self.path)
        self._file = self.path.open("a", encoding="utf-8")
        self._close_curves()
        self._rewound_to = step

    def row(self, step: int, values: Mapping[str, Any]) -> None:
        """Write one row of training: numbers, or mappings of numbers such as the parts of the loss."""
        self._write({"step": step, **values})
        self._draw(step, "train", values)

    def check(self, step: int, values: Mapping[str, float]) -> None:
        """Write what a check found."""
        self._write({"step": step, "check": dict(values)})
        self._draw(step, "check", values)

    def note(self, step: int, message: str, images: Sequence[int] = ()) -> None:
        """Write a warning, and all the images it is about, so that they can still be read when the screen is gone."""
        self._write({"step": step, "note": message} | ({"images": list(images)} if images else {}))

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        self._close_curves()

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, values: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(_finite(values), ensure_ascii=False, allow_nan=False) + "\n")
        self._file.flush()

    def _draw(self, step: int, name: str, values: Mapping[str, Any]) -> None:
        if self._open_curves is None:
            return
        if self._curves is None:  # only now, for TensorBoard is told at the opening what to forget
            self._curves = self._open_curves(purge_step=None if self._rewound_to is None else self._rewound_to + 1)
        for key, value in values.items():
            if isinstance(value, Mapping):
                self._draw(step, f"{name}/{key}", value)
            elif isinstance(value, (int, float)):
                self._curves.add_scalar(f"{name}/{key}", value, step)

    def _close_curves(self) -> None:
        if self._curves is not None:
            self._curves.close()
        self._curves = None


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read the rows of ``metrics.jsonl``; a torn last line, left by a crash, is no row.

    Raises:
        UserError: the file does not exist.
    """
    if not path.is_file():
        raise UserError(f"expected the metrics of a run, found no file {path}")
    rows = (_parse(line) for line in path.read_text("utf-8").splitlines())
    return [row for row in rows if row is not None]


def _parse(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("step"), int) else None


def _up_to(line: str, step: int) -> bool:
    row = _parse(line)
    return row is not None and row["step"] <= step


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _tensorboard_writer(folder: Path) -> Callable[..., Any]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise require_extra("tensorboard", "tensorboard", "drawing curves in TensorBoard") from error
    return functools.partial(SummaryWriter, str(folder))
