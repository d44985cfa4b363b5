import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from proxylesskd.comparison.estimates import mean_roc
from proxylesskd.comparison.figures import colours_of, figures_of
from proxylesskd.comparison.gather import read_scores
from proxylesskd.comparison.page import render, sentence, write_page
from proxylesskd.comparison.result import Comparison, Missing, Row
from proxylesskd.data.pairs import read_pairs
from tests.comparison.conftest import NETWORK, House


def test_the_page_stands_alone_and_has_every_part(found: Comparison, tmp_path: Path) -> None:
    page = write_page(replace(found, folder=tmp_path)).read_text(encoding="utf-8")
    assert not re.findall(r'(?:src|href)="(?!#|data:)', page)
    for words in (
        "ROC, single-model",
        "ROC, cross-model",
        "Cost against accuracy",
        "What was equal",
        "classifier, sha256",
    ):
        assert words in page
    assert "Without numbers" not in page
    assert page.count("<svg") == 3


def test_the_curves_are_those_of_the_files(house: House, found: Comparison) -> None:
    pairs = read_pairs(house.place / "test" / "pairs.csv")
    folders = sorted((house.out).glob("tests*/proxyless/seed-*"))
    scores = np.stack([read_scores(folder, pairs)["cross"] for folder in folders])
    (row,) = [row for row in found.rows if row.method == "proxyless"]
    assert row.curves["cross"] == mean_roc(scores, pairs)
    single, cross, cost = figures_of(found, NETWORK, colours_of(found))
    assert len(list(ET.fromstring(single.svg).iter("polyline"))) == 3
    assert len(list(ET.fromstring(cross.svg).iter("polyline"))) == 2
    assert [text.text for text in ET.fromstring(cost.svg).iter("title")] == ["alone", "proxyless"]


def test_the_best_is_named_with_its_lead_and_its_cost(found: Comparison) -> None:
    said = sentence(found, NETWORK)
    best = max(found.rows, key=lambda row: row.numbers["single"][found.headline].estimate.value)
    assert found.best(NETWORK) == best
    assert f"{best.method} is best" in said
    swapped = replace(found, baseline="proxyless" if best.method == "alone" else "alone")
    assert ("times that of" in sentence(swapped, NETWORK)) == (best.method != swapped.baseline)
    assert sentence(found, "nobody") == "nobody: nothing is finished."


def test_failures_and_hostile_names_are_shown_as_text(found: Comparison) -> None:
    hostile = '<script>alert("x")</script>'
    rows = tuple(replace(row, method=hostile + row.method) for row in found.rows)
    page = render(replace(found, rows=rows, missing=(Missing(hostile, "m", 0, hostile), Missing("s", "m", 1))))
    assert "<script" not in page
    assert "Without numbers" in page
    assert "not finished" in page


@pytest.mark.parametrize("count", [11, 25])
def test_many_methods_have_looks_of_their_own(count: int, found: Comparison) -> None:
    rows = tuple(Row("s", f"m{i}", (0,), {}) for i in range(count))
    looks = colours_of(replace(found, rows=rows))
    shared = 22
    assert len(set(looks.values())) == min(count, shared) + 1
