from pathlib import Path

import pytest

from proxylesskd.cli import app, main
from proxylesskd.cli.app import spread
from tests.comparison.conftest import NETWORK, House


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


def asked(house: House, out: Path) -> list[object]:
    recipe = house.place / "recipe.toml"
    recipe.write_text(house.recipe.to_toml())
    return ["compare", recipe, "--pairs", house.place / "test" / "pairs.csv", "--out", out, "--no-audit"]


def test_options_with_many_values() -> None:
    words = ["compare", "r.toml", "--methods", "a", "b + 0.5*c(x=1)", "--seeds", "0", "1", "--jobs", "2", "--students"]
    words += ["s:width=1", "t.u:make", "train.steps=3", "seed=2", "-q"]
    assert list(spread(words)) == [
        *("compare", "r.toml", "--methods", "a", "--methods", "b + 0.5*c(x=1)", "--seeds", "0", "--seeds", "1"),
        *("--jobs", "2", "--students", "s:width=1", "--students", "t.u:make", "train.steps=3", "seed=2", "-q"),
    ]
    assert list(spread(["train", "-o", "x", "a.b=1"])) == ["train", "-o", "x", "a.b=1"]


def test_a_finished_comparison_prints_its_tables(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(*asked(house, house.out), "--methods", "alone", "proxyless", "--seeds", 0, 1, "--replicates", 10)
    told = capsys.readouterr().out
    assert code == 0
    assert "single-model" in told
    assert "cross-model" in told
    assert "report.html" in told


def test_failures_end_with_2_and_what_is_not_done_with_130(
    house: House, tmp_path: Path, capsys: pytest.CaptureFixture[str], here: None
) -> None:
    words = [*asked(house, tmp_path), "--methods", "proxyless", "--students", f"{NETWORK}:dim=9", "--replicates", 10]
    assert run(*words, "--no-train") == 130
    assert "goes on where" in capsys.readouterr().err
    assert run(*words, "--quiet") == 2
    assert "dimension 24" in capsys.readouterr().err


def test_the_methods_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compare", "--list") == 0
    told = capsys.readouterr().out
    assert "arXiv 2011.00265" in told.replace("\n", " ")
    assert "adadistill" in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["compare"], "give --pairs"),
        (["compare", "--pairs", "p.csv"], "give --methods"),
        (["compare", "nowhere.toml", "--pairs", "p.csv"], "expected a recipe at 'nowhere.toml'"),
        (["compare", "train.stepps=1", "--pairs", "p.csv"], "did you mean 'train.steps'"),
    ],
)
def test_wrong_words_are_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*words) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


def test_the_verb_is_in_the_help() -> None:
    assert "compare" in {command.callback.__name__ for command in app.registered_commands if command.callback}
