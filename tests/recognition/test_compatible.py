"""May the gallery be searched: answer, cost and thresholds against plain counting; the page and the JSON."""

from __future__ import annotations

import html.parser
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import proxylesskd as pk
from proxylesskd.data.pairs import Pairs, even_folds
from proxylesskd.errors import UserError
from proxylesskd.evaluation.bootstrap import Difference
from proxylesskd.recognition.compatible import Compatibility, compatible
from proxylesskd.recognition.compatible_page import render
from proxylesskd.recognition.thresholds import read_scales
from tests.faces import ColourEmbedder, face

PEOPLE, EACH = 24, 3


class Noisy:
    """The colours of a face, turned away from them at random by an angle that grows with ``noise``."""

    dim = 147
    fingerprint = "noisy"

    def __init__(self, noise: float, name: str = "student", turn: bool = False) -> None:
        self.noise, self.name, self.turn = noise, name, turn

    def embed(self, images: Tensor) -> Tensor:
        clean = ColourEmbedder().embed(images)
        seeds = [int(image.sum()) % 2**31 for image in images]
        noise = torch.stack([torch.randn(147, generator=torch.Generator().manual_seed(s)) for s in seeds])
        found = F.normalize(clean + self.noise * F.normalize(noise, dim=1), dim=1)
        return found.roll(73, dims=1) if self.turn else found


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    images = np.stack([face(p, 3 * n).transpose(2, 0, 1) for p in range(PEOPLE) for n in range(EACH)])
    people = np.repeat(np.arange(PEOPLE), EACH)
    first, second = np.triu_indices(len(images), k=1)
    same = people[first] == people[second]
    keep = same | (np.arange(len(same)) % 7 == 0)
    names = [f"{k}.png" for k in range(len(images))]
    count = int(keep.sum())
    return Pairs("drawn", images, first[keep], second[keep], same[keep], even_folds(count, 4), people, names)


@pytest.fixture(scope="module")
def found(pairs: Pairs) -> Compatibility:
    return compatible(Noisy(0.4, "teacher"), Noisy(6.0), pairs, replicates=40)


def counted(scores: np.ndarray, same: np.ndarray, far: float) -> tuple[float, float]:
    """TAR and threshold by trying every score."""
    best = (-1.0, 2.0)
    for threshold in scores:
        if np.mean(scores[~same] >= threshold) <= far:
            best = max(best, (float(np.mean(scores[same] >= threshold)), -float(threshold)))
    return best[0], -best[1]


def test_cost_and_thresholds_are_what_counting_says(found: Compatibility, pairs: Pairs) -> None:
    images = torch.tensor(pairs.images)
    teacher, student = (Noisy(noise).embed(images).double().numpy() for noise in (0.4, 6.0))
    before = (teacher[pairs.first] * teacher[pairs.second]).sum(1)
    after = (teacher[pairs.first] * student[pairs.second]).sum(1)
    assert [cost.far for cost in found.costs] == [0.1, 0.01]
    for cost in found.costs:
        tar_before, threshold_before = counted(before, pairs.same, cost.far)
        tar_after, _ = counted(after, pairs.same, cost.far)
        assert cost.difference.value == pytest.approx(tar_before - tar_after, abs=1e-9)
        assert np.mean(after[pairs.same] >= cost.threshold) == pytest.approx(tar_after, abs=1e-9)
        assert np.mean(after[~pairs.same] >= cost.threshold) <= cost.far
        assert cost.threshold_before == pytest.approx(threshold_before, abs=1e-6)
        assert cost.far_kept == pytest.approx(np.mean(after[~pairs.same] >= cost.threshold_before), abs=1e-9)
        assert cost.tar_kept == pytest.approx(np.mean(after[pairs.same] >= cost.threshold_before), abs=1e-9)


def test_the_answer_is_about_the_lowest_rate_that_rests_on_ten_pairs(found: Compatibility) -> None:
    impostors = int((~found.after.same).sum())
    assert 100 < impostors < 1000
    assert found.far == 0.1
    assert not found.cost.few
    assert found.costs[-1].few


def test_yes_no_and_unsure(found: Compatibility, pairs: Pairs) -> None:
    lower, upper = found.cost.difference.lower, found.cost.difference.upper
    assert 0 <= lower < upper < 1
    asked = {"far": 0.1, "replicates": 40}
    both = Noisy(0.4, "teacher"), Noisy(6.0)
    assert compatible(*both, pairs, most=upper, **asked).answer == "yes"
    assert compatible(*both, pairs, most=(lower + upper) / 2, **asked).answer == "unsure"
    assert compatible(*both, pairs, most=lower / 2, **asked).answer == "no" or lower == 0
    itself = compatible(Noisy(0.4, "teacher"), Noisy(0.4, "teacher"), pairs, replicates=20)
    assert (itself.answer, itself.cost.difference.value) == ("yes", 0.0)
    assert str(itself).startswith("Yes: at FAR 1e-1 searching the gallery of 'teacher' with 'teacher' costs 0.00")


def test_another_space_is_named_as_such(pairs: Pairs) -> None:
    turned = compatible(Noisy(0.4, "teacher"), Noisy(0.4, turn=True), pairs, replicates=40)
    assert turned.answer == "no"
    assert turned.student_alone.auc.value > 0.9  # a good model of its own
    assert str(turned).endswith("do not embed into one space; is this the student of this teacher?")


def test_a_smaller_student_is_given_its_projection(pairs: Pairs) -> None:
    projection = torch.randn(147, 40, generator=torch.Generator().manual_seed(0))

    class Small(Noisy):
        dim = 40

        def embed(self, images: Tensor) -> Tensor:
            return F.normalize(super().embed(images) @ projection, dim=1)

    with pytest.raises(UserError, match="projection"):
        compatible(Noisy(0.4, "teacher"), Small(0.4), pairs, replicates=5)
    made = compatible(Noisy(0.4, "teacher"), Small(0.4), pairs, projection=projection, replicates=20)
    assert made.projected
    images = torch.tensor(pairs.images)
    gallery = F.normalize(Noisy(0.4).embed(images) @ projection, dim=1).double().numpy()
    probes = Small(0.4).embed(images).double().numpy()
    np.testing.assert_allclose(made.after.scores, (gallery[pairs.first] * probes[pairs.second]).sum(1), atol=1e-5)
    assert "multiplied once by the projection" in render(made)
    assert "Project the gallery once" in render(replace(made, answer="yes"))


def test_refuses_rates_that_the_pairs_do_not_support(pairs: Pairs) -> None:
    with pytest.raises(UserError, match=r"expected 10,000 impostor pairs for FAR 1e-4, found \d+"):
        compatible(Noisy(0.4), Noisy(0.4), pairs, far=1e-4, replicates=5)
    with pytest.raises(UserError, match="most in"):
        compatible(Noisy(0.4), Noisy(0.4), pairs, most=2.0)
    with pytest.raises(UserError, match="at least one replicate"):
        compatible(Noisy(0.4), Noisy(0.4), pairs, replicates=0)
    few = np.concatenate([np.flatnonzero(pairs.same)[:8], np.flatnonzero(~pairs.same)[:6]])
    small = replace(
        pairs, first=pairs.first[few], second=pairs.second[few], same=pairs.same[few], fold=even_folds(14, 2)
    )
    with pytest.raises(UserError, match="at least ten impostor pairs, found 6"):
        compatible(Noisy(0.4), Noisy(0.4), small, replicates=5)


def test_the_json_gives_an_identification_its_thresholds(found: Compatibility, tmp_path: Path) -> None:
    assert pk.compatible is compatible
    page = found.save(tmp_path / "out")
    assert page == tmp_path / "out/compatible.html"
    told = json.loads((tmp_path / "out/compatible.json").read_text(encoding="utf-8"))
    assert told["sentence"] == str(found)
    assert told["costs"][0]["difference"]["value"] == found.costs[0].difference.value
    scales = read_scales(tmp_path / "out/compatible.json")
    assert scales["cross"].at(0.1) == found.costs[0].threshold
    assert scales["single"].calibration is not None


class Outline(html.parser.HTMLParser):
    """What a page loads, and whether its tags close."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [
            value or "" for key, value in attrs if key in ("src", "href") and not (value or "").startswith("#")
        ]
        if tag not in ("meta", "link", "img", "line"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_says_it_all_and_loads_nothing(found: Compatibility) -> None:
    page = render(replace(found, student="<script>alert(1)</script>"))
    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    assert outline.loaded == ["data:,"]
    assert "<script>alert" not in page
    assert not re.search(r"https?://(?!www\.w3\.org)", page)
    for cost in found.costs:
        assert f"{cost.threshold:.4f}" in page
    assert page.count("<svg") == 3


def test_the_page_of_every_answer(found: Compatibility) -> None:
    words = {"yes": "nobody has to be enrolled again", "no": "Keep the teacher", "unsure": "more pairs, best"}
    for answer, text in words.items():
        assert text in render(replace(found, answer=answer))
    gained = replace(found.costs[0], difference=Difference(-0.1, -0.2, -0.05, "pairs"))
    assert "number better" in render(replace(found, costs=[gained, *found.costs[1:]]))
    alone = replace(found.before.tar[0.1], tar=None)
    bare = replace(found, before=replace(found.before, tar={**found.before.tar, 0.1: alone}))
    assert "<span>—</span>" in render(bare)
