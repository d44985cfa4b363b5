import xml.etree.ElementTree as ET
from itertools import pairwise

from proxylesskd.report.charts import LEFT, RIGHT, WIDTH
from proxylesskd.report.scatter import Point, place_words, scatter_chart


def drawn(*points: Point) -> ET.Element:
    return ET.fromstring(scatter_chart(points, title="t", x_label="x", y_label="y", percent=True))


def test_points_stand_where_their_values_are() -> None:
    svg = drawn(Point("a", 1.0, 0.5, 0.4, 0.6), Point("b", 2.0, 0.5, 0.45, 0.55, colour=3), Point("c", 4.0, 0.9))
    a, b, c = (dict(dot.attrib) for dot in svg.iter("circle"))
    x = [float(dot["cx"]) for dot in (a, b, c)]
    assert abs((x[1] - x[0]) * 2 - (x[2] - x[1])) < 0.3
    assert abs(x[0] - LEFT - (x[1] - x[0])) < 0.2  # the axis begins at zero
    assert float(a["cy"]) == float(b["cy"]) > float(c["cy"])
    bars = [line.attrib for line in svg.iter("line") if "bar" in line.attrib["class"]]
    assert len(bars) == 2
    middle = (float(bars[0]["y1"]) + float(bars[0]["y2"])) / 2
    assert abs(middle - float(a["cy"])) < 0.1
    assert [group.attrib["class"] for group in svg.iter("g")] == ["s0", "s3", "s0"]


def test_names_are_escaped_and_stay_inside() -> None:
    svg = drawn(Point("<b>&" + "x" * 30, 9.0, 0.5), Point("left", 1.0, 0.5))
    names = {text.text: text.attrib for text in svg.iter("text")}
    far = names["<b>&" + "x" * 30]
    assert far["class"].endswith("end")
    assert float(far["x"]) < WIDTH - RIGHT
    assert names["left"]["class"].endswith("start")


def test_names_that_would_overlap_move_apart() -> None:
    found = place_words([(100.0, 100.0, 8), (102.0, 101.0, 8), (104.0, 99.0, 8), (300.0, 100.0, 8)])
    heights = sorted(y for _, y, _ in found[:3])
    assert min(b - a for a, b in pairwise(heights)) >= 13
    assert found[3][1] == 100.0


def test_no_points_no_chart_and_one_point_is_no_division_by_zero() -> None:
    assert scatter_chart([], title="t", x_label="x") == ""
    assert len(list(drawn(Point("a", 0.0, 0.5)).iter("circle"))) == 1
