"""What it takes to fuzz a reader: valid files, how to read all that is in them, what it may answer."""

from __future__ import annotations

import io
import os
import pickle
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from proxylesskd.data.source import Source, open_source
from proxylesskd.errors import CorruptImageError, UserError

Files = dict[str, bytes]
CANARY = "executed"
# As many images of a source as are read in a case.
READ = 12


class Planted:
    """What leaves a file behind where it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, (os.environ.get("FUZZ_CANARY", CANARY), "w")


def poison() -> bytes:
    return pickle.dumps(Planted(), protocol=4)


@dataclass(frozen=True)
class Target:
    """One reader.

    Attributes:
        seeds: makes valid sets of files, in a folder of its own.
        read: reads such a set as far as it goes.
        mend: brings sums into order again that would stop every case at the door.
    """

    seeds: Callable[[Path], list[Files]]
    read: Callable[[Path], None]
    mend: Callable[[bytes, random.Random], bytes] = lambda data, _chance: data


def read_all(source: Source) -> None:
    """Read names, labels and the first and last images of a source."""
    assert len(source) == len(source.labels)
    assert source.labels.dtype == np.int64
    assert 0 <= source.labels.min() <= source.labels.max() < len(source.identities)
    corrupt = 0
    for index in {*range(min(len(source), READ)), len(source) - 1}:
        assert isinstance(source.name(index), str)
        try:
            data, label = source.read(index)
        except CorruptImageError:
            corrupt += 1
            continue
        assert isinstance(data, bytes)
        assert label == source.labels[index]


def opened(form: str) -> Callable[[Path], None]:
    """Return what opens a URI made of the folder and reads it."""
    return lambda folder: read_all(open_source(form.format(folder)))


def collect(folder: Path) -> Files:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


class Tiny:
    """A source of a few small images, one of which is what must not be executed."""

    def __init__(self, names: tuple[str, ...] = ("ann", "bob", "cid"), images: int = 4) -> None:
        self.identities = list(names)
        self.labels = np.repeat(np.arange(len(names), dtype=np.int64), images)

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> tuple[bytes, int]:
        data = poison() if index == 2 else encoded("JPEG", 8 + index)[: 60 + 40 * index]
        return data, int(self.labels[index])

    def name(self, index: int) -> str:
        return str(index)


def encoded(kind: str, size: int, mode: str = "RGB", **options: Any) -> bytes:
    pixels = np.random.default_rng(size).integers(0, 256, (size, size, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    deep = Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 250)
    (deep if mode == "I;16" else Image.fromarray(pixels).convert(mode)).save(buffer, kind, **options)
    return buffer.getvalue()


def attempt(step: Callable[[], object]) -> UserError | None:
    """Do one of several steps; return its refusal, if any, which does not end the case."""
    try:
        step()
    except UserError as error:
        check_message(error)
        return error
    return None


def check_message(error: UserError) -> None:
    text = str(error)
    assert text, "an empty message"
    assert "\n" not in text, f"a message of several lines: {text[:300]!r}"
    assert len(text) < 3000, f"a message of {len(text)} characters"


def put(folder: Path, files: Files) -> None:
    """Write files, with a time of change that does not change; a name that no file can have is left out."""
    for name, data in files.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            os.utime(path, ns=(10**18, 10**18))
        except (OSError, ValueError):
            continue
