"""The two pictures of an evaluation, as SVG text that is the same for the same numbers."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from itertools import cycle
from typing import Any

import numpy as np

from proxylesskd.evaluation.result import bin_edges, thin
from proxylesskd.evaluation.roc import Bools, Floats, Roc, tar_at_far

# Okabe and Ito's palette, distinguishable for colour-blind readers.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
STYLES = ("solid", "dashed", "dotted")  # tell curves apart when the colours come round again
WIDEST = 0.1  # FAR from which the picture starts at the latest


def roc_svg(curves: Mapping[str, Roc], title: str = "") -> str:
    """Draw TAR over a logarithmic FAR axis, the habit of ISO/IEC 19795.

    Args:
        curves: by the name that the legend shows.
        title: above the picture.
    """
    figure, (axes,) = make_figure(1)
    left = min([WIDEST, *(thin(roc).far[0] for roc in curves.values())])
    for look, (name, roc) in zip(looks(), curves.items(), strict=False):
        shown = thin(roc)
        far, tar = [left, *shown.far], [tar_at_far(roc, left)[0], *shown.tar]
        axes.plot(far, tar, label=plain(name), drawstyle="steps-post", linewidth=1.8, **look)
    axes.set(xscale="log", xlim=(left, 1), ylim=(0, 1.01), xlabel="false accept rate", ylabel="true accept rate")
    axes.set_title(plain(title), fontsize=10)
    axes.tick_params(which="minor", labelbottom=False)
    axes.legend(loc="lower right", fontsize=8, frameon=False)
    axes.grid(alpha=0.25)
    return to_svg(figure)


def histogram_svg(panels: Mapping[str, tuple[Floats, Bools]]) -> str:
    """Draw how the similarities of genuine and impostor pairs are distributed, one panel a mode, on common axes.

    Args:
        panels: title -> (``[P]`` scores, ``[P]`` same).
    """
    figure, all_axes = make_figure(len(panels))
    for axes, (title, (scores, same)) in zip(all_axes, panels.items(), strict=True):
        edges = bin_edges(scores)
        for label, chosen, colour in (("impostor", ~same, COLOURS[1]), ("genuine", same, COLOURS[0])):
            density = np.histogram(scores[chosen], edges, density=True)[0]
            axes.stairs(density, edges, fill=True, alpha=0.35, label=label, color=colour)
            axes.stairs(density, edges, color=colour, linewidth=1.2)
        axes.set(xlabel="cosine similarity", ylim=(0, None))
        axes.set_title(plain(title), fontsize=10)
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8, frameon=False)
    all_axes[0].set_ylabel("density")
    return to_svg(figure)


def looks() -> Iterator[dict[str, str]]:
    """Yield a colour and a style for each line, without end."""
    return cycle([{"color": colour, "linestyle": style} for style in STYLES for colour in COLOURS])


def make_figure(panels: int) -> tuple[Any, list[Any]]:
    """Return a figure and its panels side by side, on common axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.4 * panels, 3.8), layout="constrained")
    all_axes = list(np.atleast_1d(figure.subplots(1, panels, sharex=True, sharey=True)))
    for axes in all_axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
    return figure, all_axes


def plain(text: str) -> str:
    """Keep matplotlib from reading formulas into the names of files and models, and from hiding ``_names``."""
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")


def to_svg(figure: Any) -> str:
    """Render without date and with fixed ids, so that equal numbers give equal text."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "proxylesskd", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
