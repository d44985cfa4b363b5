"""Writing a set so that a kill costs little: what is finished is kept, and the next run goes on from there.

A set is written into ``NAME.part``, which is renamed to ``NAME`` when all of it is there. Inside, a journal says of
which source it is and how far it came; whatever was written after the journal's last word is cut off again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from proxylesskd.data.formats.written import Written
from proxylesskd.data.source import Source
from proxylesskd.errors import CorruptImageError, UserError

Ints = npt.NDArray[np.int64]
Progress = Callable[[int, int], None]
JOURNAL = ".proxylesskd-writing.json"
# Images between two words of the journal: what a kill costs at most.
EVERY = 1000
# Images whose bytes go into the fingerprint of a source.
PROBED = 64
MAX_JOURNAL_BYTES = 1 << 30


@dataclass(frozen=True)
class Item:
    """One image on its way into a set.

    Attributes:
        place: where it stands among all images of the source, ordered by label; unreadable ones leave gaps.
        key: where it stands among those that are written; no gaps.
        label: as the source says.
        data: the encoded image.
    """

    place: int
    key: int
    label: int
    data: bytes


class Sink(Protocol):
    """What a format does with images that come one by one, ordered by label."""

    def add(self, item: Item) -> None:
        """Take one image."""
        ...

    def settle(self) -> list[int]:
        """Bring to disk what was added; return the marks that a later run gets to go on from here."""
        ...

    def finish(self, labels: Ints) -> None:
        """Complete the set; ``labels [M] int64`` are those of the images written, in their order."""
        ...

    def close(self) -> None:
        """Let go of the files."""
        ...


@dataclass(frozen=True)
class Point:
    """How far a set came.

    Attributes:
        done: places that were dealt with.
        skipped: index of an unreadable image -> its name and why.
        marks: of the sink; empty at the very beginning.
    """

    done: int = 0
    skipped: dict[int, str] = field(default_factory=dict)
    marks: list[int] = field(default_factory=list)

    @property
    def key(self) -> int:
        """Return how many images were written."""
        return self.done - len(self.skipped)


def label_order(source: Source) -> Ints:
    """Return ``[N] int64``: the images identity by identity, each identity's in the order of the source."""
    return np.argsort(source.labels, kind="stable").astype(np.int64)


def fingerprint(source: Source, settings: str = "") -> str:
    """Return a digest of a source's names, labels and some of its images, and of how it is written.

    Raises:
        UserError: two identities have the same name, or a name is empty or no Unicode text.
    """
    names = list(source.identities)
    if len(set(names)) != len(names) or "" in names:
        found = "one without" if "" in names else f"{len(names) - len(set(names))} twice"
        raise UserError(f"expected a name of its own for each identity, found {found}; rename them")
    digest = hashlib.sha256(settings.encode())
    try:
        digest.update(json.dumps(names, ensure_ascii=False).encode())
    except UnicodeEncodeError as error:
        raise UserError(
            f"expected names of identities in Unicode, found {error.object[error.start]!r} in one"
        ) from error
    digest.update(np.ascontiguousarray(source.labels, dtype="<i8").tobytes())
    count = min(len(source), PROBED)
    for index in (np.arange(count) * len(source) // max(count, 1)).tolist():
        digest.update(hashlib.sha256(_read(source, index) or b"").digest())
    return digest.hexdigest()


def _read(source: Source, index: int) -> bytes | None:
    try:
        return source.read(index)[0]
    except CorruptImageError:
        return None


def read_point(path: Path, mark: str) -> Point | None:
    """Read a journal; None where there is none.

    Raises:
        UserError: it is damaged or belongs to another source.
    """
    try:
        if path.stat().st_size > MAX_JOURNAL_BYTES:
            raise ValueError("one of more than a GiB")
        told: dict[str, Any] = json.loads(path.read_bytes())
        skipped = {int(index): str(why) for index, why in told["skipped"].items()}
        point = Point(int(told["done"]), skipped, [int(value) for value in told["marks"]])
        if min(point.done, point.key, *point.marks) < 0:
            raise ValueError("numbers below 0")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"expected a journal of writing at '{path}', found {error}; remove its folder") from error
    if told.get("source") != mark:
        raise UserError(
            f"expected the beginnings of the same set in '{path.parent}', found those of another source or other "
            "settings; remove it or write elsewhere"
        )
    return point


def save_point(path: Path, mark: str, point: Point) -> None:
    """Write a journal in one step: whoever reads it finds the old or the new one."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(json.dumps({"source": mark, **asdict(point)}), encoding="utf-8")
    fresh.replace(path)


def check_free(path: Path) -> None:
    """Refuse to write where something stands.

    Raises:
        UserError: there is a file, or a folder that is not empty.
    """
    if path.is_dir() and not any(path.iterdir()):
        return
    if path.exists() or path.is_symlink():
        what = "a folder that is not empty" if path.is_dir() else "a file"
        raise UserError(f"expected nothing yet at '{path}', found {what}; give another place or remove it")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the kernel's lock of a folder, which ends with its process; without such locks trust the user."""
    try:
        import fcntl
    except ImportError:  # no POSIX system
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise UserError(f"expected to be alone in '{folder}', found another process writing there; wait") from error
    finally:
        os.close(handle)


def _begin(part: Path, mark: str) -> Point:
    part.mkdir(parents=True, exist_ok=True)
    point = read_point(part / JOURNAL, mark)
    if point is None:
        check_free(part)
        point = Point()
        save_point(part / JOURNAL, mark, point)
    return point


def _fill(
    source: Source,
    order: Ints,
    sink: Sink,
    point: Point,
    save: Callable[[Point], None],
    progress: Progress,
    every: int,
) -> Point:
    done, skipped, total = point.done, dict(point.skipped), len(order)
    labels = source.labels
    for place in range(done, total):
        index = int(order[place])
        try:
            data = source.read(index)[0]
        except CorruptImageError as error:
            skipped[index] = f"{source.name(index)}: {error}"
        else:
            sink.add(Item(place, place - len(skipped), int(labels[index]), data))
        if (place + 1) % every == 0:
            save(Point(place + 1, skipped, sink.settle()))
        progress(place + 1, total)
    return Point(total, skipped, sink.settle())


def write_set(
    source: Source,
    path: Path,
    opened: Callable[[Path, Point], Sink],
    *,
    settings: str = "",
    progress: Progress | None = None,
    every: int | None = None,
) -> Written:
    """Write a source into a folder, or go on with what an earlier run left in ``path.part``.

    Args:
        source: labelled faces.
        path: folder to make.
        opened: makes the format's sink, given the folder and the point to go on from.
        settings: whatever else decides what is written.
        progress: called with (images dealt with, images).
        every: images between two words of the journal, for formats whose files cannot be gone on with; 1000 if None.

    Raises:
        UserError: something stands at ``path``, the beginnings there are of another source, another process writes
            there, not one image can be read, or the disk is full.
    """
    check_free(path)
    part = path.with_name(path.name + ".part")
    mark = fingerprint(source, settings)
    try:
        return _write(source, path, part, opened, mark, progress or (lambda _done, _total: None), every or EVERY)
    except OSError as error:
        raise UserError(
            f"expected room and leave to write at '{part}', found: {error}; mend it and run again"
        ) from error


def _write(
    source: Source,
    path: Path,
    part: Path,
    opened: Callable[[Path, Point], Sink],
    mark: str,
    progress: Progress,
    every: int,
) -> Written:
    order = label_order(source)
    part.mkdir(parents=True, exist_ok=True)
    with _alone(part):
        point = _begin(part, mark)
        with closing(opened(part, point)) as sink:
            save = partial(save_point, part / JOURNAL, mark)
            point = _fill(source, order, sink, point, save, progress, every)
            kept = order[~np.isin(order, list(point.skipped))]
            if not len(kept):
                raise UserError(f"expected whole images, found {len(order)} that cannot be read")
            sink.finish(source.labels[kept])
        save_point(part / JOURNAL, mark, point)
        part.rename(path)
        (path / JOURNAL).unlink()
    return Written(len(kept), point.skipped)
