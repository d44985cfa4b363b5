"""The benchmark of relations at the smallest size."""

from __future__ import annotations

import pytest
import relations
import torch


def test_each_method_and_the_plain_rkd(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    threads, options = torch.get_num_threads(), "--batch 12 --dim 8 --rounds 1 --threads 1"
    monkeypatch.setattr("sys.argv", ["relations.py", *options.split()])
    relations.main()
    torch.set_num_threads(threads)
    printed = capsys.readouterr().out.splitlines()
    names = [line.split(" | ")[0].strip("| ") for line in printed if line.startswith("| ")][1:]
    assert names == [*relations.NAMES, relations.NAIVE]
    error = next(line for line in printed if line.startswith("gradient of rkd"))
    assert float(error.rsplit(" ", 1)[1]) < 1e-4
