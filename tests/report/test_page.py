from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from proxylesskd.errors import UserError
from proxylesskd.report.page import name_models, write_report
from tests.report.conftest import EXPORT, HOSTILE, RECIPE, evaluation, write

VOID = {"meta", "link", "img", "br", "hr"}


class Page(HTMLParser):
    """Reads a page and complains about tags that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    def ids(self) -> list[str]:
        return [attrs["id"] or "" for _, attrs in self.tags if "id" in attrs]


def _page(folder: Path) -> Page:
    return Page(write_report(folder).read_text(encoding="utf-8"))


def test_every_section_is_there_and_reachable(run_folder: Path) -> None:
    page = _page(run_folder)
    expected = ["results", "roc", "similarities", "wrong", "curves", "speed", "use", "done", "classifier", "repeat"]
    assert page.ids() == expected
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    assert links == [f"#{name}" for name in expected]
    assert "Not in this run folder yet" not in page.text


def test_the_page_loads_nothing_and_runs_nothing(run_folder: Path) -> None:
    text = write_report(run_folder).read_text(encoding="utf-8")
    page = Page(text)
    for tag, attrs in page.tags:
        assert tag not in ("script", "iframe", "object", "embed", "base", "form")
        for name, value in attrs.items():
            assert not name.startswith("on")
            if name in ("src", "href", "srcset", "data", "action", "poster"):
                assert (value or "").startswith(("data:", "#"))
    assert "http:" not in text
    assert "https:" not in text
    assert "url(" not in text
    assert "@import" not in text


def test_the_numbers_are_those_of_the_files(run_folder: Path) -> None:
    text = _page(run_folder).text
    for expected in (
        "87.65 %", "86.42 to 88.10",  # single-model TAR and its interval
        "85.43 %", "71.01 %", "1.05 %", "99.02 %",  # cross-model, student alone, teacher
        "~ 43.82 %",  # at FAR 1e-3, on three impostor pairs
        "91.11 %", "90.11 to 92.11", "82.22 %", "97.12 %", "8.34 %",  # accuracy, AUC, EER
        "1,234 pairs of the same person and 3,000 of different people", "held-out.csv",
        "1,000 bootstrap replicates over identities", "gallery by the teacher (resnet teacher)",
        "4.82 MB", "7.3 ms", "201.4 ms", "159 images/s", "1.20 M", "221.00 M", "88.00 MB", "a quiet machine",
        "0.679", "threshold 0.346", "ann/0.jpg", "bob/0.jpg",
        "ab" * 32, "128 numbers of unit length", "0.3141", "(38.2946, 51.6963)",
        "seed 41", "nesterov yes", "classifier none", "milestones 0.4, 0.65", "for 3,000 steps",
        "4233 identities of 128 dimensions and comes from 'the-teacher'",
        "proxylesskd distill --recipe 'my run'/recipe.toml", "threshold 0.314",
        "ProxylessKD student, step 3000: a warning & 20.0", "student alone, step 3000: a warning & 30.0",
    ):  # fmt: skip
        assert expected in text, expected


def test_the_teacher_stands_first_and_the_student_of_the_run_last_and_bold(run_folder: Path) -> None:
    page = _page(run_folder)
    text = page.text
    table = text[text.index("Single-model:") : text.index("Cross-model:")]
    assert table.index("teacher") < table.index("student alone") < table.index("ProxylessKD student")
    assert sum(1 for tag, attrs in page.tags if tag == "tr" and attrs.get("class") == "main") == 3


def test_a_changed_file_changes_the_page(run_folder: Path) -> None:
    before = _page(run_folder).text
    write(run_folder / "evaluation.json", evaluation(0.5432, 0.3321))
    write(run_folder / "export.json", {**EXPORT, "bytes": 9_990_000})
    after = _page(run_folder).text
    for old, new in (("87.65 %", "54.32 %"), ("85.43 %", "33.21 %"), ("4.82 MB", "9.99 MB")):
        assert old in before
        assert old not in after
        assert new in after


def test_the_same_files_give_the_same_page(run_folder: Path) -> None:
    first = write_report(run_folder).read_bytes()
    assert write_report(run_folder).read_bytes() == first
    assert [entry.name for entry in run_folder.iterdir() if entry.name.startswith(".")] == []


def test_pictures_are_inlined_as_they_are(run_folder: Path) -> None:
    pictures = [attrs["src"] or "" for tag, attrs in _page(run_folder).tags if tag == "img"]
    decoded = [base64.b64decode(picture.removeprefix("data:image/jpeg;base64,")) for picture in pictures]
    assert decoded == [(run_folder / "wrong_pairs" / name).read_bytes() for name in ("00-a.jpg", "00-b.jpg")]


def test_no_wrong_pair_is_said(run_folder: Path) -> None:
    write(run_folder / "wrong_pairs" / "wrong_pairs.json", {"model": "m", "threshold": 0.5, "pairs": []})
    text = _page(run_folder).text
    assert "Different people taken for one None." in text
    assert "One person taken for two None." in text


def test_curves_and_rocs_have_a_line_per_model(run_folder: Path) -> None:
    classes = [attrs["class"] for tag, attrs in _page(run_folder).tags if tag == "polyline"]
    # ROC: three models single, two across; loss and accuracy: two runs logged them
    assert classes == [
        "line s2", "line s1", "line s0", "line s1 dashed", "line s0 dashed", "line s1", "line s0", "line s1", "line s0"
    ]  # fmt: skip


def test_hostile_names_are_text(run_folder: Path) -> None:
    wrong = json.loads((run_folder / "wrong_pairs" / "wrong_pairs.json").read_text())
    wrong["model"] = HOSTILE
    wrong["pairs"][0]["names"] = [HOSTILE, '"><img src=x onerror=alert(1)>']
    write(run_folder / "wrong_pairs" / "wrong_pairs.json", wrong)
    hostile = json.dumps(HOSTILE)
    write(run_folder / "recipe.toml", f"seed = 1\n[data]\ntrain = {hostile}\n[model]\nname = {hostile}\n")
    write(run_folder / "classifier.json", {"identities": HOSTILE, "provenance": {HOSTILE: HOSTILE, "teacher": HOSTILE}})
    told = evaluation(0.5, 0.5)
    told["pairs"]["name"] = told["gallery"] = HOSTILE
    write(run_folder / "evaluation.json", told)
    write(run_folder / "export.json", {**EXPORT, "file": HOSTILE, "machine": HOSTILE, "sha256": HOSTILE})
    write(run_folder / "comparison.json", {HOSTILE: "baselines/teacher"})
    write(
        run_folder / "metrics.jsonl", json.dumps({"step": 1, HOSTILE: 1.0}) + "\n" + json.dumps({"step": 2, HOSTILE: 2})
    )
    text = write_report(run_folder).read_text(encoding="utf-8")
    page = Page(text)
    assert "<script" not in text
    assert not any(tag == "script" for tag, _ in page.tags)
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert page.text.count('alert("x")') >= 12
    assert any(attrs.get("alt") == HOSTILE for tag, attrs in page.tags if tag == "img")


def test_an_empty_folder_names_the_commands(tmp_path: Path) -> None:
    folder = tmp_path / "run-1"
    folder.mkdir()
    page = _page(folder)
    assert page.ids() == ["absent"]
    assert "proxylesskd evaluate run-1 PAIRS --gallery TEACHER" in page.text
    assert "proxylesskd export run-1 --images folder:FACES" in page.text
    assert "proxylesskd distill --out run-1 --classifier CLASSIFIER" in page.text
    assert "holds no recipe.toml" in page.text


def test_a_run_that_learned_alone(tmp_path: Path) -> None:
    folder = tmp_path / "teacher"
    write(folder / "recipe.toml", RECIPE.replace("proxyless", "alone"))
    write(folder / "evaluation.json", evaluation(0.9))
    page = _page(folder)
    assert "A mobilefacenet was trained together with a classifier of its own on folder:faces." in page.text
    assert "proxylesskd train --recipe teacher/recipe.toml --out teacher-again" in page.text
    assert "proxylesskd inherit teacher --out CLASSIFIER" in page.text
    assert "Cross-model" not in page.text


def test_a_run_by_another_method_names_it(tmp_path: Path) -> None:
    write(tmp_path / "recipe.toml", '[model]\nname = "x"\n[method]\nname = "ekd"\n')
    assert "by the method 'ekd'" in _page(tmp_path).text


def test_a_comparison_shows_every_model_once(run_folder: Path, tmp_path: Path) -> None:
    alone, teacher = run_folder / "baselines" / "student alone", run_folder / "baselines" / "teacher"
    folder = tmp_path / "page" / "of all"
    name_models(folder, {"teacher": teacher, "alone": alone, "ProxylessKD": run_folder, "fourth": alone})
    page = _page(folder)
    text = page.text
    single = text[text.index("Single-model:") : text.index("Cross-model:")]
    assert [single.count(f" {name} ") for name in ("teacher", "alone", "ProxylessKD", "fourth")] == [1, 1, 1, 1]
    assert "trained by ProxylessKD" in text
    assert "ann/0.jpg" in text
    assert [attrs["class"] for tag, attrs in page.tags if tag == "polyline"][:4] == [
        "line s2", "line s1", "line s0", "line s3"
    ]  # fmt: skip


def test_a_run_that_compares_itself_is_shown_once(run_folder: Path) -> None:
    write(run_folder / "comparison.json", {"teacher": "baselines/teacher", "ProxylessKD": "."})
    text = _page(run_folder).text
    assert text.count("87.65 %") == 1
    assert "ProxylessKD student" not in text[text.index("Single-model:") : text.index("Cross-model:")]


def test_models_without_recipes_side_by_side(run_folder: Path, tmp_path: Path) -> None:
    teacher = run_folder / "baselines" / "teacher"
    name_models(tmp_path / "two", {"one": teacher, "two": run_folder / "baselines" / "student alone"})
    assert "2 models side by side: one, two." in _page(tmp_path / "two").text


def test_evaluations_on_different_pairs_are_said_to_be(run_folder: Path) -> None:
    other = evaluation(0.9)
    other["pairs"]["name"] = "other.csv"
    write(run_folder / "baselines" / "teacher" / "evaluation.json", other)
    assert "not all evaluated on the same pairs" in _page(run_folder).text


def test_paired_differences_stand_below_the_results(run_folder: Path) -> None:
    entry = {
        "first": "A",
        "second": "B",
        "mode": "single-model",
        "metric": "AUC",
        "value": 0.02,
        "lower": 0.01,
        "upper": 0.03,
    }
    write(run_folder / "differences.json", {"differences": [entry]})
    assert "A minus B, AUC, single-model: +2.00 points, 95 % interval +1.00 to +3.00" in _page(run_folder).text


def _edit(name: str, change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        told = json.loads((folder / name).read_text())
        change(told)
        write(folder / name, told)

    return edit


def _plain(name: str, content: Any) -> Callable[[Path], None]:
    return lambda folder: write(folder / name, content)


def _set(**values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda told: told.update(values)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_plain("recipe.toml", "x ="), r"expected TOML in .*recipe\.toml"),
        (_plain("recipe.toml", 'model = "x"'), r"expected a table \[model\] in .*recipe\.toml"),
        (_plain("classifier.json", "[]"), r"expected a JSON object in .*classifier\.json"),
        (_plain("evaluation.json", "{"), r"expected JSON in .*evaluation\.json"),
        (_edit("evaluation.json", _set(single={})), r"what an evaluation writes in .*evaluation\.json"),
        (_edit("export.json", _set(latencies=3)), r"expected latencies with batch.* in .*export\.json, found 3"),
        (_edit("export.json", _set(latencies=[{"batch": 1}])), r"expected latencies with batch.* in .*export\.json"),
        (_edit("export.json", lambda told: told.pop("sha256")), r"expected 'sha256' in export\.json"),
        (
            _plain("comparison.json", {"a": "nowhere"}),
            r"expected .*comparison\.json to map names .* found 'a': 'nowhere'",
        ),
        (_plain("comparison.json", {"a": 3}), r"expected .*comparison\.json to map names"),
        (_plain("wrong_pairs/wrong_pairs.json", {"pairs": 3}), r"the list of wrong pairs in .*wrong_pairs\.json"),
        (
            _edit("wrong_pairs/wrong_pairs.json", lambda t: t["pairs"][0].update(files=["../recipe.toml", "00-b.jpg"])),
            r"expected file names without folders .* found '\.\./recipe\.toml'",
        ),
        (_edit("wrong_pairs/wrong_pairs.json", lambda t: t["pairs"][0].update(names=["a"])), "list of wrong pairs"),
        (_plain("wrong_pairs/00-a.jpg", "<svg/>"), r"expected a JPEG of at most 1 MiB at .*00-a\.jpg"),
    ],
)
def test_a_malformed_file_is_named(run_folder: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(run_folder)
    with pytest.raises(UserError, match=message) as error:
        write_report(run_folder)
    assert "\n" not in str(error.value)
    assert not (run_folder / "report.html").exists()


def test_no_folder_and_no_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a run folder, found none"):
        write_report(tmp_path / "absent")
    with pytest.raises(UserError, match="expected at least one model"):
        name_models(tmp_path, {})


def test_an_audit_is_told_by_its_findings(run_folder: Path) -> None:
    findings = [
        {"check": "norms", "level": "passed", "message": "all fine", "details": {"median": 1}},
        {
            "check": "duplicates",
            "level": "warning",
            "message": "two rows for 'Ann'",
            "details": {"pairs": [["a", "b"]]},
        },
    ]
    audit = {"classifier": "abc", "passed": True, "findings": findings}
    write(run_folder / "classifier.json", {"identities": 3, "provenance": {"how": "x", "audit": audit}, "audit": audit})
    page = write_report(run_folder).read_text(encoding="utf-8")
    assert page.count("2 checks, 1 with findings") == 2
    assert "two rows for &#39;Ann&#39;" in page
    assert "all fine" not in page
    assert "&#39;pairs&#39;" not in page
