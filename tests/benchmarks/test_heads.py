"""The tables of heads and steps, at a size that takes seconds."""

from __future__ import annotations

import sys

import heads
import pytest
import steps
import torch
from goals import Shape
from head_list import OURS, Head, as_is, head_list

CPU = torch.device("cpu")


def _run(script: object, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["script", *arguments])
    threads = torch.get_num_threads()
    try:
        script.main()  # type: ignore[attr-defined]
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _small_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "GATE", Shape(256, 8))
    heads.gate.cache_clear()


def test_heads(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--identities", "200", "--batch", "4", "--dim", "16", "--threads", "1", "--rounds", "1", "--no-memory"]
    _run(heads, monkeypatch, *given)
    printed = capsys.readouterr().out
    for head in head_list(CPU):
        (row,) = (line for line in printed.splitlines() if line.startswith(f"| {head.name} |"))
        assert int(row.split("|")[-2]) >= 1
        assert (row.split("|")[2].strip() == "-") == (head.truth == "")
    assert f"| {OURS} |" in printed
    assert "| against AdaDistill's head | C=200, B=4 | ≥ 4x |" in printed
    assert "partial_fc 0.1, frozen takes" in printed


def test_the_memory_of_one_head(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--identities", "20000", "--batch", "64", "--dim", "16", "--threads", "1", "--memory-of"]
    _run(heads, monkeypatch, *given, "plain PyTorch, frozen rows")
    plain = float(capsys.readouterr().out)
    _run(heads, monkeypatch, *given, OURS)
    assert float(capsys.readouterr().out) < plain / 2
    assert plain > 3 * 20_000 * 64 * 4 / 1e6  # three [B, C] at the least


def test_what_does_not_fit_is_left_out_aloud(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--identities", "200", "--batch", "4", "--dim", "16", "--threads", "1", "--rounds", "1", "--no-memory"]
    _run(heads, monkeypatch, *given, "--limit", "0.00003", "--only", "textbook", "two matmuls, in")
    printed = capsys.readouterr().out
    assert "- textbook ArcFace: left out, would need about 0 GB" in printed
    assert "| two matmuls, in chunks |" in printed


def test_a_wrong_head_is_not_timed() -> None:
    right = next(head for head in head_list(CPU) if head.name == OURS)
    wrong = Head("wrong", right.begin, as_is, truth="plain", tolerance=1e-3)
    assert heads.gate(right, 16, CPU) < 5e-6
    with pytest.raises(SystemExit, match="wrong: loss"):
        heads.gate(wrong, 16, CPU)


def test_what_is_missing_is_named() -> None:
    def head(package: str) -> Head:
        return Head("x", lambda _rows, _labels: lambda x: x, as_is, "", package=package)

    assert head("no_such_package").missing(128) == "needs the package no_such_package"
    assert head("torch").missing(100) == ""


def test_backbones(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["backbones", "--models", "mobilefacenet", "--batch", "2", "--threads", "1", "--rounds", "1"]
    _run(steps, monkeypatch, *given, "--no-compile", "--no-bf16")
    printed = capsys.readouterr().out
    assert "| mobilefacenet | plain | " in printed
    assert "| mobilefacenet | channels last (the recipe's) | " in printed


def test_whole_steps(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(steps, "TEACHER", "mobilefacenet")
    _run(steps, monkeypatch, "whole", "--identities", "50", "--batch", "2", "--threads", "1", "--rounds", "1")
    printed = capsys.readouterr().out
    assert printed.count("| 50 | ") == 8
    assert "| against AdaDistill as released | C=50, B=2 | ≥ 4x |" in printed


def test_released_changes_the_kernel_and_not_the_function() -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 3, 112, 112)
    ours, theirs = steps.new_model("mobilefacenet", CPU), steps.released(steps.new_model("mobilefacenet", CPU))
    assert not any(isinstance(module, steps.PReLU) for module in theirs.modules())
    torch.testing.assert_close(theirs.eval()(images), ours.eval()(images))
