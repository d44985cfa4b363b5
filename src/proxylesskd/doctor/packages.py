"""The packages that the installation and its extras ask for, and which of them are there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_EXTRA = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")
_OF_OURS = re.compile(r"proxylesskd\[([^\]]*)\]")
CORE = ""  # stands for no extra
# Several packages bring the same module; any of them will do.
ALIKE = {
    "opencv-python-headless": ("opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python"),
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino"),
    "faiss-cpu": ("faiss-gpu", "faiss-gpu-cu12"),
}


@dataclass(frozen=True)
class Package:
    """A package that is asked for.

    Attributes:
        name: by which pip knows it.
        least: the oldest version that will do, "" for any.
        found: the version installed, None if there is none.
    """

    name: str
    least: str
    found: str | None

    @property
    def fits(self) -> bool:
        """Say whether it is there and new enough."""
        return self.found is not None and numbers(self.found) >= numbers(self.least)


def numbers(version: str) -> tuple[int, ...]:
    """Return the numbers a version begins with: ``2.13.0+cpu`` is ``(2, 13, 0)``."""
    plain = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in plain.group().split(".")) if plain else ()


def installed(name: str) -> str | None:
    """Return the version of a package, or of one that brings the same module; None if there is none."""
    for candidate in (name, *ALIKE.get(name, ())):
        try:
            return metadata.version(candidate)
        except metadata.PackageNotFoundError:
            continue
    return None


def asked_for(lines: Iterable[str], *, find: Callable[[str], str | None] = installed) -> dict[str, tuple[Package, ...]]:
    """Return what the installation (under ``""``) and every extra ask for, an extra's own extras included.

    Args:
        lines: requirements as a distribution lists them: ``torch>=2.9; extra == 'train'``.
        find: tells the version installed.
    """
    own: dict[str, list[Package]] = {CORE: []}
    further: dict[str, list[str]] = {}
    for line in lines:
        text, _, marker = line.partition(";")
        extra = (_EXTRA.search(marker) or [CORE, CORE])[1]
        packages, others = own.setdefault(extra, []), further.setdefault(extra, [])
        ours = _OF_OURS.match(text)
        if ours:
            others += [name.strip() for name in ours.group(1).split(",")]
        else:
            packages.append(_package(text, find))
    return {extra: tuple(_whole(extra, own, further)) for extra in own}


def _package(text: str, find: Callable[[str], str | None]) -> Package:
    named = _NAME.match(text.strip())
    name = named.group() if named else text.strip()
    least = re.search(r"[>=]=\s*([0-9][^,\s]*)", text)
    return Package(name, least.group(1) if least else "", find(name))


def _whole(extra: str, own: dict[str, list[Package]], further: dict[str, list[str]]) -> list[Package]:
    """Return an extra's packages and those of the extras that it asks for; no extra asks for itself."""
    found = list(own[extra])
    for other in further.get(extra, []):
        found += [package for package in _whole(other, own, further) if package not in found]
    return found
