"""The two pictures of an evaluation, as SVG text that is the same for the same numbers."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from proxylesskd.evaluate.result import BINS, thin
from proxylesskd.evaluate.roc import Bools, Floats, Roc

# Okabe and Ito's palette, distinguishable for colour-blind readers.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")


def roc_svg(curves: Mapping[str, Roc], title: str = "") -> str:
    """Draw TAR over a logarithmic FAR axis, the habit of ISO/IEC 19795.

    Args:
        curves: by the name that the legend shows.
        title: above the picture.
    """
    figure, (axes,) = _figure(1)
    for colour, (name, roc) in zip(COLOURS, curves.items(), strict=False):
        shown = thin(roc)
        axes.plot(shown.far, shown.tar, label=name, color=colour, drawstyle="steps-post", linewidth=1.8)
    axes.set(xscale="log", xlim=(None, 1), ylim=(0, 1.01), xlabel="false accept rate", ylabel="true accept rate")
    axes.set_title(title, fontsize=10)
    axes.legend(loc="lower right", fontsize=8, frameon=False)
    axes.grid(alpha=0.25)
    return _svg(figure)


def histogram_svg(panels: Mapping[str, tuple[Floats, Bools]]) -> str:
    """Draw how the similarities of genuine and impostor pairs are distributed, one panel a mode.

    Args:
        panels: title -> (``[P]`` scores, ``[P]`` same).
    """
    figure, all_axes = _figure(len(panels))
    for axes, (title, (scores, same)) in zip(all_axes, panels.items(), strict=True):
        edges = np.histogram_bin_edges(scores, BINS)
        for label, chosen, colour in (("impostor", ~same, COLOURS[1]), ("genuine", same, COLOURS[0])):
            axes.hist(scores[chosen], edges, density=True, alpha=0.6, label=label, color=colour)
        axes.set(xlabel="cosine similarity", ylabel="density")
        axes.set_title(title, fontsize=10)
        axes.legend(fontsize=8, frameon=False)
    return _svg(figure)


def _figure(panels: int) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.4 * panels, 3.8), layout="constrained")
    return figure, list(np.atleast_1d(figure.subplots(1, panels)))


def _svg(figure: Any) -> str:
    """Render without date and with fixed ids, so that equal numbers give equal text."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "proxylesskd", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
