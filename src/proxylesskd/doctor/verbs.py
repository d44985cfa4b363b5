"""Which extras a verb needs."""

from __future__ import annotations

from collections.abc import Mapping

from proxylesskd.doctor.packages import CORE, Package

TRAIN = ("train",)
NEEDS: dict[str, tuple[str, ...]] = {
    "align": (),
    "synthesize": ("synthetic",),
    "inspect": TRAIN,
    "convert": (),
    "pairs": TRAIN,
    "train": TRAIN,
    "inherit": TRAIN,
    "compact": TRAIN,
    "distill": TRAIN,
    "estimate": TRAIN,
    "evaluate": TRAIN,
    "export": ("onnx",),
    "report": TRAIN,
    "demo": ("synthetic", "onnx"),
    "recipe": TRAIN,
    "list-models": TRAIN,
    "verify": (),
    "enroll": (),
    "identify": (),
    "compatible": TRAIN,
    "serve": ("serve",),
    "compare": ("onnx",),
    "activity": ("onnx",),
    "doctor": (),
}


def missing(extras: tuple[str, ...], asked: Mapping[str, tuple[Package, ...]]) -> list[Package]:
    """Return the packages of extras, and of the installation itself, that are not there or too old."""
    return [package for extra in (CORE, *extras) for package in asked.get(extra, ()) if not package.fits]


def mend(extras: tuple[str, ...], asked: Mapping[str, tuple[Package, ...]]) -> str | None:
    """Return the command that brings what extras lack, None if nothing is lacking."""
    if not missing(extras, asked):
        return None
    return f"pip install 'proxylesskd[{','.join(extras)}]'" if extras else "pip install --upgrade proxylesskd"
