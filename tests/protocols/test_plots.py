from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib.axes
import numpy as np
import pytest
from matplotlib.figure import Figure

from proxylesskd.protocols import plots
from proxylesskd.protocols.outcome import Curve, Outcome
from proxylesskd.protocols.plots import curves_svg, draw, draw_together

Line = tuple[list[float], list[float], str, str, str]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Line]:
    """Every line that matplotlib is given, with its label and, once it is drawn, the scales of its axes."""
    lines: list[Line] = []
    legend, plot = matplotlib.axes.Axes.legend, matplotlib.axes.Axes.plot
    held: list[tuple[list[float], list[float], str]] = []

    def spy_plot(self: matplotlib.axes.Axes, x, y, **look: Any) -> object:  # type: ignore[no-untyped-def] # noqa: ANN001
        held.append((list(x), list(y), look["label"]))
        return plot(self, x, y, **look)

    def spy_legend(self: matplotlib.axes.Axes, **look: object) -> object:
        lines.extend((*line, self.get_xscale(), self.get_yscale()) for line in held)
        held.clear()
        return legend(self, **look)

    monkeypatch.setattr(matplotlib.axes.Axes, "plot", spy_plot)
    monkeypatch.setattr(matplotlib.axes.Axes, "legend", spy_legend)
    return lines


def outcome(model: str, modes: tuple[str, ...] = ("single",)) -> Outcome:
    x = np.array([0.0, 0.01, 0.1, 1.0])
    curves = {
        "ROC": Curve("roc", x, np.array([0.0, 0.5, 0.9, 1.0])),
        "DET": Curve("det", x, np.array([1.0, 0.5, 0.1, 0.0])),
        "CMC": Curve("cmc", np.array([1.0]), np.array([1.0])),
        "genuine scores": Curve("density", np.array([-0.5, 0.0, 0.5, 0.7]), np.array([0.0, 0.0, 1.0, 0.0])),
        "impostor scores": Curve("density", x, np.zeros(4)),
    }
    return Outcome("a protocol", model, "teacher", {}, {}, dict.fromkeys(modes, curves))


def test_every_kind_has_its_picture_and_axes(tmp_path: Path, drawn: list[Line]) -> None:
    paths = draw(outcome("student"), tmp_path / "new")
    assert [path.name for path in paths] == ["roc.svg", "det.svg", "cmc.svg", "scores.svg"]
    assert all(ElementTree.parse(path).getroot().tag.endswith("svg") for path in paths)
    roc, det, cmc, genuine, impostor = drawn
    assert roc == ([0.01, 0.1, 1.0], [0.5, 0.9, 1.0], "student", "log", "linear")
    assert det == ([0.01, 0.1], [0.5, 0.1], "student", "log", "log")
    assert cmc == ([1.0], [1.0], "student", "log", "linear")
    assert genuine == ([0.0, 0.5, 0.7], [0.0, 1.0, 0.0], "student, genuine scores", "linear", "linear")
    assert impostor[0] == []


def test_outcomes_are_told_apart(tmp_path: Path, drawn: list[Line], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "to_svg", lambda _: "")
    draw_together({"a": outcome("a", ("single", "cross")), "b": outcome("b")}, tmp_path)
    assert [line[2] for line in drawn][:3] == ["a, single-model", "a, cross-model", "b, single-model"]
    assert "a, cross-model, genuine scores" in [line[2] for line in drawn]


def test_equal_curves_give_equal_text_and_nothing_gives_none(tmp_path: Path) -> None:
    curves = dict(outcome("a").curves["single"])
    assert curves_svg({"a": curves["DET"]}, "t") == curves_svg({"a": curves["DET"]}, "t")
    assert draw(Outcome("p", "m", None, {}, {}), tmp_path) == []


def test_a_curve_without_errors_says_so() -> None:
    x = np.array([0.0, 0.1, 1.0])
    assert "no error at any threshold" in curves_svg({"a": Curve("det", x, np.zeros(3))})
    assert "no error" not in curves_svg({"a": Curve("det", x, np.zeros(3)), "b": Curve("det", x, x[::-1])})


def test_a_det_says_what_its_errors_are_errors_of(tmp_path: Path) -> None:
    whole = dict(outcome("a").curves["single"])
    for name, kept, axis in (
        ("searched", ("DET", "CMC"), "false positive identification rate"),
        ("verified", ("ROC", "DET"), "false accept rate"),
    ):
        curves = {"single": {title: whole[title] for title in kept}}
        draw(Outcome("p", "m", None, {}, {}, curves), tmp_path / name)
        assert axis in (tmp_path / name / "det.svg").read_text()
    assert "false accept rate" not in (tmp_path / "searched" / "det.svg").read_text()


def test_error_rates_within_a_decade_stand_on_a_whole_one(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float, float]] = []

    def spy(figure: Figure) -> str:
        seen.append(figure.axes[0].get_ylim())
        return ""

    monkeypatch.setattr(plots, "to_svg", spy)
    curves_svg({"a": Curve("det", np.array([0.1, 1.0]), np.array([0.9, 0.6]))})
    curves_svg({"a": Curve("det", np.array([0.1, 1.0]), np.array([0.9, 0.01]))})
    assert [low for low, _ in seen] == pytest.approx([0.1, 0.01])
