from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from proxylesskd.audit.finding import Audit, Finding, Level
from proxylesskd.audit.page import headline, write_audit_page
from proxylesskd.audit.suspects import Inconsistent, Levels, Merged, Mislabelled, Split, Suspects
from proxylesskd.errors import UserError
from tests.faces import MemorySource, face

VOID = {"meta", "link", "img", "br"}
HOSTILE = "<script>alert('x')</script>\"&"
LEVELS = Levels(0.21, 0.43, 0.65, (-1.0, -0.5, 0.0, 0.5, 1.0), (0, 0, 2, 10), (0, 3, 9, 0))


class Page(HTMLParser):
    """Reads a page and complains about tags that are not closed in order."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: dict[str, list[str]] = {}  # by section
        self.section = ""
        self.raw = path.read_text(encoding="utf-8")
        self.feed(self.raw)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "section":
            self.section = dict(attrs)["id"] or ""
        self.tags.append((self.section if tag == "img" else tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.setdefault(self.section, []).append(data)

    def text(self, section: str = "") -> str:
        return re.sub(r"\s+", " ", " ".join(self.words.get(section, []))).strip()

    def pictures(self, section: str) -> list[tuple[str, str]]:
        """Names and data URIs of the images in a section."""
        return [(a["alt"] or "", a["src"] or "") for tag, a in self.tags if tag == section and "src" in a]


def _audit(*levels: Level) -> Audit:
    findings = [Finding(f"check {k}", level, f"message {k}", {"k": k}) for k, level in enumerate(levels)]
    return Audit("f00d" * 16, findings)


def _suspects() -> Suspects:
    """Of 6 identities with 4 images each."""
    return Suspects(
        images=24,
        identities=6,
        mislabelled=[
            Mislabelled(1, "id-000", -0.12, "id-003", 0.87, True),
            Mislabelled(5, "id-001", 0.14, "absent", 0.31, False),
        ],
        merged=[Merged("id-002", (2, 2), 0.03, (8, 9), (10, 11))],
        split=[Split("id-003", "id-004", 0.93, 0.81)],
        inconsistent=[Inconsistent("id-005", 0.07, (20, 21, 22))],
        levels=LEVELS,
    )


def _pixels(uri: str) -> np.ndarray:
    head, _, data = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def _fields(pixels: np.ndarray) -> np.ndarray:
    """[7, 7] brightness in the middle of the fields of a face."""
    grey = Image.fromarray(pixels).convert("L").resize((112, 112), Image.Resampling.BILINEAR)
    return np.asarray(grey, float).reshape(7, 16, 7, 16)[:, 5:11, :, 5:11].mean(axis=(1, 3))


@pytest.mark.parametrize(
    ("levels", "told"),
    [
        (("passed", "passed"), "The audit passed"),
        (("passed", "warning"), "The audit passed with 1 warning"),
        (("warning", "warning"), "The audit passed with 2 warnings"),
        (("warning", "failed"), "The audit failed: 1 check"),
        (("failed", "failed"), "The audit failed: 2 checks"),
    ],
)
def test_the_headline_says_the_worst(levels: tuple[Level, ...], told: str) -> None:
    assert headline(_audit(*levels)) == told


def test_every_finding_is_shown_and_nothing_else_without_suspects(tmp_path: Path) -> None:
    path = write_audit_page(tmp_path / "new" / "place", _audit("passed", "warning", "failed"))
    assert path == tmp_path / "new" / "place" / "audit.html"
    page = Page(path)
    for number, level in enumerate(("passed", "warning", "failed")):
        assert f"{level} check {number} message {number}" in page.text("findings")
    assert page.text().endswith("3 checks of the classifier f00df00df00df00d. Findings")
    assert list(page.words) == ["", "findings"]
    told = json.loads((path.parent / "audit.json").read_text())
    assert told == json.loads(json.dumps(_audit("passed", "warning", "failed").to_dict()))
    assert told["passed"] is False
    assert [one["details"] for one in told["findings"]] == [{"k": 0}, {"k": 1}, {"k": 2}]


def test_suspects_stand_in_the_json_whole(tmp_path: Path) -> None:
    write_audit_page(tmp_path, _audit("passed"), _suspects(), teacher="big", images=1)
    told = json.loads((tmp_path / "audit.json").read_text())
    assert told["teacher"] == "big"
    assert told["suspects"] == json.loads(json.dumps(_suspects().to_dict()))
    assert len(told["suspects"]["mislabelled"]) == 2


def test_the_top_counts_what_was_found(tmp_path: Path) -> None:
    text = Page(write_audit_page(tmp_path, _audit("passed"), _suspects(), teacher="big")).text()
    assert "1 check of the classifier f00df00df00df00d and 24 images of 6 identities, by the teacher big." in text
    assert "Suspected labels 2 8.3 % of 24 images" in text
    assert "Inconsistent 1 of 6 identities Merged 1 identities like two people Split 1 pairs like one person" in text


def test_suspected_labels_stand_beside_both_identities(tmp_path: Path) -> None:
    page = Page(write_audit_page(tmp_path, _audit("warning"), _suspects(), MemorySource(6, 4)))
    # the image, three others of its own, three of the nearest; the second is nearest to an identity without images,
    # and image 1 is not an example of id-000
    numbers = [1, 0, 2, 3, 12, 13, 14, 5, 4, 6, 7]
    assert [name for name, _ in page.pictures("labels")] == [f"image {k}" for k in numbers]
    text = page.text("labels")
    assert "All 2 are shown" in text
    assert "Image image 1 Labelled id-000 cosine -0.12 Looks like id-003 cosine 0.87" in text
    assert "Labelled id-001 cosine 0.14 Nearest other, but not like it absent cosine 0.31" in text


def test_the_pictures_are_those_of_the_images(tmp_path: Path) -> None:
    page = Page(write_audit_page(tmp_path, _audit("warning"), _suspects(), MemorySource(6, 4)))
    shown = [entry for name in ("labels", "split", "merged", "inconsistent") for entry in page.pictures(name)]
    for name, uri in shown:
        number = int(name.removeprefix("image "))
        pixels = _pixels(uri)
        assert pixels.shape == (96, 96, 3)
        # by the brightness of its fields, 6 apart within an identity: JPEG is coarse in colour and at edges
        fields = [_fields(one) for one in (pixels, face(number // 4, number % 4))]
        assert np.abs(fields[0] - fields[1]).mean() < 2


def test_merged_split_and_inconsistent_identities_are_shown(tmp_path: Path) -> None:
    page = Page(write_audit_page(tmp_path, _audit("warning"), _suspects(), MemorySource(6, 4)))
    names = {key: [int(name[6:]) for name, _ in page.pictures(key)] for key in ("merged", "split", "inconsistent")}
    assert names == {"merged": [8, 9, 10, 11], "split": [12, 13, 14, 16, 17, 18], "inconsistent": [20, 21, 22]}
    merged = "Larger group id-002 2 images, cosine 0.03 between the groups Smaller group id-002 2 images"
    assert merged in page.text("merged")
    assert "cosine 0.93; nine in ten parts of one identity reach 0.81 The other id-004" in page.text("split")
    assert "Identity id-005 3 images, mean cosine 0.07 to the others" in page.text("inconsistent")


def test_an_identity_is_shown_by_images_that_are_not_suspected(tmp_path: Path) -> None:
    many = [Mislabelled(k, "id-000", 0.0, "id-001", 0.5, True) for k in (0, 1, 4, 5)]
    found = replace(_suspects(), mislabelled=many, merged=[], split=[], inconsistent=[])
    page = Page(write_audit_page(tmp_path, _audit("warning"), found, MemorySource(2, 4), images=1))
    # 2 and 3 are right; 1 fills up; of the other identity 6 and 7 are right
    assert [int(name[6:]) for name, _ in page.pictures("labels")] == [0, 2, 3, 1, 6, 7, 4]
    assert "The most certain 1 of 4 are shown" in page.text("labels")


def test_the_page_stays_of_readable_length(tmp_path: Path) -> None:
    few = _suspects()
    found = replace(
        few,
        mislabelled=[few.mislabelled[0]] * 1500,
        merged=[few.merged[0]] * 21,
        split=[few.split[0]] * 20,
        inconsistent=[Inconsistent("id-005", 0.07, tuple(range(20)))] * 1001,
    )
    page = Page(write_audit_page(tmp_path, _audit("warning"), found, MemorySource(6, 4)))
    assert len(page.pictures("labels")) == 40 * 7
    assert "The most certain 40 of 1,500 are shown" in page.text("labels")
    assert "The most certain 20 of 21 are shown" in page.text("merged")
    assert "All 20 are shown" in page.text("split")
    assert "The most certain 20 of 1,001 are shown" in page.text("inconsistent")
    assert len(page.pictures("inconsistent")) == 20 * 6
    assert "20 images, mean cosine" in page.text("inconsistent")


def test_nothing_found_is_said(tmp_path: Path) -> None:
    none = replace(_suspects(), mislabelled=[], merged=[], split=[], inconsistent=[])
    page = Page(write_audit_page(tmp_path, _audit("passed"), none, MemorySource(6, 4)))
    assert page.text("labels") == "Suspected labels None."
    assert page.text("split") == "Split identities None."
    assert not page.pictures("labels")


def test_without_a_source_names_and_numbers_are_shown(tmp_path: Path) -> None:
    page = Page(write_audit_page(tmp_path, _audit("passed"), _suspects()))
    assert not [tag for tag, attrs in page.tags if "src" in attrs]
    text = page.text("labels")
    assert "All 2 are shown, without pictures: the source was not given." in text
    assert "Image image 1 Labelled id-000 cosine -0.12 Looks like id-003 cosine 0.87" in text


def test_images_that_cannot_be_read_leave_a_gap(tmp_path: Path) -> None:
    source = MemorySource(6, 4)
    source.spoil(1)
    source.spoil(12)
    page = Page(write_audit_page(tmp_path, _audit("warning"), _suspects(), source))
    assert "image 1" not in [name for name, _ in page.pictures("labels")]
    gaps = [(attrs["title"], tag) for tag, attrs in page.tags if attrs.get("class") == "gap"]
    assert gaps == [("image 1", "span"), ("image 12", "span"), ("image 12", "span")]
    assert page.raw.count(">cannot be read<") == 3


def test_names_and_messages_are_escaped(tmp_path: Path) -> None:
    source = MemorySource(6, 4)
    source.identities[0] = HOSTILE
    found = replace(
        _suspects(),
        mislabelled=[Mislabelled(1, HOSTILE, 0.1, HOSTILE, 0.2, True)],
        merged=[Merged(HOSTILE, (2, 2), 0.1, (1,), (2,))],
        split=[Split(HOSTILE, HOSTILE, 0.9, 0.8)],
        inconsistent=[Inconsistent(HOSTILE, 0.1, (1,))],
    )
    audit = Audit(HOSTILE, [Finding(HOSTILE, "warning", HOSTILE)])
    page = Page(write_audit_page(tmp_path, audit, found, source, teacher=HOSTILE))
    assert "script" not in {tag for tag, _ in page.tags}
    for section in ("findings", "labels", "merged", "split", "inconsistent"):
        assert page.text(section).count(HOSTILE) >= 1
    assert HOSTILE in page.text()


def test_the_page_loads_nothing(tmp_path: Path) -> None:
    page = Page(write_audit_page(tmp_path, _audit("warning"), _suspects(), MemorySource(6, 4)))
    for _, attrs in page.tags:
        for key in ("src", "href", "srcset", "action", "data"):
            assert (attrs.get(key) or "#").startswith(("data:", "#"))
    assert not re.search(r"https?://|@import|url\(", re.sub(r"base64,[^\"]+", "", page.raw))
    anchors = {attrs["href"] for tag, attrs in page.tags if tag == "a"}
    ids = {"#" + (attrs["id"] or "") for tag, attrs in page.tags if "id" in attrs}
    assert anchors <= ids
    assert "prefers-color-scheme: dark" in page.raw
    assert any(attrs.get("name") == "viewport" for tag, attrs in page.tags if tag == "meta")


def test_the_histograms_show_the_levels(tmp_path: Path) -> None:
    page = Page(write_audit_page(tmp_path, _audit("passed"), _suspects()))
    text = page.text("cosines")
    assert "threshold 0.430" in text
    assert "share of images" in text
    assert "share of pairs" not in text
    assert "stay below 0.21 there; three quarters reach 0.65 to their own" in text
    # two polygons, their highest points 10/12 and 9/12 of the images in a frame that is 8 % higher than the highest
    polygons = [attrs["points"] or "" for tag, attrs in page.tags if tag == "polygon"]
    heights = [[float(point.split(",")[1]) for point in points.split()] for points in polygons]
    rise = [max(ys) - min(ys) for ys in heights]
    assert len(rise) == 2
    assert rise[1] / rise[0] == pytest.approx((9 / 12) / (10 / 12), abs=0.01)
    assert all("," in points for points in polygons)


def test_histograms_without_images_are_left_out(tmp_path: Path) -> None:
    empty = replace(_suspects(), levels=replace(LEVELS, own=(0, 0, 0, 0), nearest=(0, 0, 0, 0)))
    page = Page(write_audit_page(tmp_path, _audit("passed"), empty))
    assert "cosines" not in page.words
    assert "#cosines" not in page.raw


def test_suspects_of_another_source_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found 8 images and a suspected image number 22; give the source that was"):
        write_audit_page(tmp_path / "page", _audit("passed"), _suspects(), MemorySource(2, 4))
    assert not (tmp_path / "page").exists()


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="expected to be able to write"):
        write_audit_page(tmp_path / "file", _audit("passed"))
