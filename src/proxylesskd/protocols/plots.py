"""The curves of outcomes as SVG, in the habit of ISO/IEC 19795: error rates and ranks on logarithmic axes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from proxylesskd.evaluation.plots import looks, make_figure, plain, to_svg
from proxylesskd.protocols.outcome import Curve, Outcome

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FILES = {"roc": "roc.svg", "det": "det.svg", "cmc": "cmc.svg", "density": "scores.svg"}
LABELS = {
    "roc": ("false accept rate", "true accept rate"),
    "det": ("false accept rate", "false reject rate"),
    "cmc": ("rank", "hit rate"),
    "density": ("cosine similarity", "share of comparisons"),
}
SEARCHED = ("false positive identification rate", "false negative identification rate")
PLACES = {"roc": "lower right", "det": "lower left", "cmc": "lower right", "density": "best"}
SHORT = {"single": "single-model", "cross": "cross-model"}


def draw(outcome: Outcome, folder: str | Path) -> list[Path]:
    """Draw every kind of curve that an outcome has into ``roc.svg``, ``det.svg``, ``cmc.svg`` and ``scores.svg``.

    Returns:
        The pictures that were written.
    """
    return draw_together({outcome.model: outcome}, folder)


def draw_together(outcomes: Mapping[str, Outcome], folder: str | Path) -> list[Path]:
    """Draw the curves of several outcomes of one protocol together.

    Args:
        outcomes: by the name that the legend shows.
        folder: of the pictures.

    Returns:
        The pictures that were written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    title = next(iter(outcomes.values())).protocol
    searched = bool(_curves(outcomes, "cmc"))
    pictures = {FILES[kind]: curves for kind in FILES if (curves := _curves(outcomes, kind))}
    for file, curves in pictures.items():
        (folder / file).write_text(curves_svg(curves, title, searched=searched), encoding="utf-8")
    return [folder / file for file in pictures]


def curves_svg(curves: Mapping[str, Curve], title: str = "", *, searched: bool = False) -> str:
    """Draw curves of one kind.

    Args:
        curves: by the name that the legend shows; one at least.
        title: above the picture.
        searched: whether a DET is that of an identification.
    """
    kind = next(iter(curves.values())).kind
    figure, (axes,) = make_figure(1)
    drawn = {name: _shown(curve) for name, curve in curves.items()}
    empty = not any(len(shown.x) for shown in drawn.values())
    for look, (name, shown) in zip(looks(), drawn.items(), strict=False):
        style = "steps-mid" if kind == "density" else "steps-post"
        lone = {"marker": "o"} if len(shown.x) == 1 else {}
        axes.plot(shown.x, shown.y, label=plain(name), drawstyle=style, linewidth=1.8, **look, **lone)
    across, up = SEARCHED if searched and kind == "det" else LABELS[kind]
    axes.set(xlabel=across, ylabel=up)
    if empty:  # of a curve without errors nothing can be drawn on these axes, not even the axes
        axes.text(0.5, 0.5, "no error at any threshold", ha="center", transform=axes.transAxes)
    else:
        _scale(axes, kind)
    axes.set_title(plain(title), fontsize=10)
    axes.legend(loc=PLACES[kind], fontsize=8, frameon=False)
    axes.grid(alpha=0.25)
    return to_svg(figure)


def _scale(axes: Axes, kind: str) -> None:
    """Make rates and ranks logarithmic; an axis of error rates begins and ends at a power of ten."""
    if kind != "density":
        axes.set_xscale("log")
        axes.tick_params(which="minor", labelbottom=False)
    if kind == "det":
        axes.set_yscale("log")
        axes.set_ylim(10 ** np.floor(np.log10(axes.dataLim.y0) + 1e-9), 1.2)
        axes.tick_params(which="minor", labelleft=False)
    else:
        axes.set_ylim(0, None if kind == "density" else 1.01)
    if kind == "cmc":
        axes.xaxis.set_major_formatter("{x:g}")


def _shown(curve: Curve) -> Curve:
    """Keep what its axes can show: a logarithm of zero they cannot, nor the empty ends of a density."""
    if curve.kind == "density":
        held = np.flatnonzero(curve.y)
        ends = slice(max(0, held[0] - 1), held[-1] + 2) if len(held) else slice(0, 0)
        return Curve(curve.kind, curve.x[ends], curve.y[ends])
    kept = curve.x > 0
    if curve.kind == "det":
        kept &= curve.y > 0
    return Curve(curve.kind, curve.x[kept], curve.y[kept])


def _curves(outcomes: Mapping[str, Outcome], kind: str) -> dict[str, Curve]:
    """Return all curves of a kind by a name that says whose they are, no longer than it must be."""
    found = [
        (name, mode, title, curve)
        for name, outcome in outcomes.items()
        for mode, by_title in outcome.curves.items()
        for title, curve in by_title.items()
        if curve.kind == kind
    ]
    titles, modes = {title for _, _, title, _ in found}, {mode for _, mode, _, _ in found}
    return {
        ", ".join(
            [name, *([SHORT.get(mode, mode)] if len(modes) > 1 else []), *([title] if len(titles) > 1 else [])]
        ): curve
        for name, mode, title, curve in found
    }
