from __future__ import annotations

import re
import warnings
from xml.etree import ElementTree

import matplotlib.axes
import numpy as np
import pytest

from proxylesskd.evaluation.plots import COLOURS, histogram_svg, roc_svg
from proxylesskd.evaluation.roc import Roc, roc_curve
from tests.evaluation.samples import Bools, Floats, best_tar, tied_scores

SVG = "{http://www.w3.org/2000/svg}"


def curve(seed: int) -> Roc:
    return roc_curve(*tied_scores(100, 400, seed=seed, decimals=9))


def strokes(svg: str) -> list[str]:
    return re.findall(r"stroke: (#[0-9a-f]{6})", svg)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Floats, Floats, str]]:
    """What matplotlib is given: x, y and label of every line."""
    lines: list[tuple[Floats, Floats, str]] = []
    plot = matplotlib.axes.Axes.plot

    def spy(self: matplotlib.axes.Axes, x: Floats, y: Floats, **look: str) -> object:
        lines.append((np.array(x), np.array(y), look["label"]))
        return plot(self, x, y, **look)

    monkeypatch.setattr(matplotlib.axes.Axes, "plot", spy)
    return lines


def test_curves_show_the_best_rates(drawn: list[tuple[Floats, Floats, str]]) -> None:
    sets = {name: tied_scores(100, 400, seed=seed, decimals=9) for seed, name in enumerate(["one", "two"])}
    root = ElementTree.fromstring(roc_svg({name: roc_curve(*data) for name, data in sets.items()}, title="all"))
    assert root.tag == f"{SVG}svg"
    assert [label for _, _, label in drawn] == ["one", "two"]
    for x, y, label in drawn:
        assert (x[0], x[-1], y[-1]) == (1 / 400, 1.0, 1.0)
        for far, tar in list(zip(x, y, strict=True))[::30]:
            assert tar == best_tar(*sets[label], far)


def test_the_legend_names_every_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    """matplotlib leaves labels with a leading underscore out of a legend."""
    named: list[str] = []
    legend = matplotlib.axes.Axes.legend

    def spy(self: matplotlib.axes.Axes, **look: object) -> object:
        made = legend(self, **look)
        named.extend(text.get_text() for text in made.get_texts())
        return made

    monkeypatch.setattr(matplotlib.axes.Axes, "legend", spy)
    roc_svg({"_student": curve(1), "teacher": curve(2)})
    assert [name.strip() for name in named] == ["_student", "teacher"]


def test_a_curve_that_starts_late_is_drawn_from_the_left(drawn: list[tuple[Floats, Floats, str]]) -> None:
    """With tied scores the first attainable rate may be far right; until there nobody is accepted."""
    same = np.arange(40) < 20
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        roc_svg({"collapsed": roc_curve(np.full(40, 0.3), same), "sound": curve(1)})
    collapsed, sound = drawn
    assert collapsed[0].tolist() == [sound[0][0], 1.0]
    assert collapsed[1].tolist() == [0.0, 1.0]


def test_a_collapsed_model_alone_can_be_drawn() -> None:
    same = np.arange(40) < 20
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ElementTree.fromstring(roc_svg({"collapsed": roc_curve(np.full(40, 0.3), same)})).tag == f"{SVG}svg"
        assert ElementTree.fromstring(histogram_svg({"collapsed": (np.full(40, 0.3), same)})).tag == f"{SVG}svg"


def test_no_curve_is_left_out(drawn: list[tuple[Floats, Floats, str]]) -> None:
    names = [f"model {i}" for i in range(8)]
    svg = roc_svg({name: curve(i) for i, name in enumerate(names)})
    assert [label for _, _, label in drawn] == names
    assert set(COLOURS) <= set(strokes(svg))
    assert "stroke-dasharray" in svg


def test_equal_numbers_give_equal_text() -> None:
    curves, panels = {"a": curve(0)}, {"a": tied_scores(50, 50, decimals=9)}
    picture = roc_svg(curves, title="t")
    assert picture == roc_svg(curves, title="t")
    assert histogram_svg(panels) == histogram_svg(panels)
    assert "<dc:date>" not in picture


def test_names_are_no_formulas(monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = r"$\undefined{$ & <b> \$5"
    svg = roc_svg({hostile: curve(0)}, title=hostile) + histogram_svg({hostile: tied_scores(9, 9)})
    assert "<b>" not in re.sub(r"<!--.*?-->", "", svg)  # letters are outlines; comments name them, escaped
    assert svg.count("</svg>") == 2


def test_histograms_are_densities_of_each_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[Floats, Floats]] = []
    stairs = matplotlib.axes.Axes.stairs

    def spy(self: matplotlib.axes.Axes, values: Floats, edges: Floats, **look: object) -> object:
        drawn.append((np.array(values), np.array(edges)))
        return stairs(self, values, edges, **look)  # type: ignore[arg-type]

    monkeypatch.setattr(matplotlib.axes.Axes, "stairs", spy)
    panels: dict[str, tuple[Floats, Bools]] = {name: tied_scores(80, 300, seed=i) for i, name in enumerate("ab")}
    svg = histogram_svg(panels)
    ElementTree.fromstring(svg)
    assert {COLOURS[0], COLOURS[1]} <= set(strokes(svg))
    for panel, (scores, same) in enumerate(panels.values()):
        for kind, (values, edges) in zip((~same, same), drawn[4 * panel : 4 * panel + 4 : 2], strict=True):
            assert (values * np.diff(edges)).sum() == pytest.approx(1)
            middle = edges[:-1] + np.diff(edges) / 2
            assert (values * np.diff(edges) * middle).sum() == pytest.approx(scores[kind].mean(), abs=np.diff(edges)[0])
