"""The benchmark of IJB's rules at the smallest size."""

from __future__ import annotations

import re
from dataclasses import replace

import ijb
import numpy as np
import pytest
from interleave import Timing


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"IMAGES": 2_000, "TEMPLATES": 300, "SUBJECTS": 40, "PAIRS": 20_000, "DIM": 16}
    for name, size in sizes.items():
        monkeypatch.setattr(ijb, name, size)


def test_both_sides_of_every_step(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["ijb.py", "--rounds", "1", "--replicates", "5"])
    ijb.main()
    printed = capsys.readouterr().out
    assert "2,000 images, 300 templates, 20,000 pairs, 1 rounds" in printed
    rows = [line.split(" | ")[0].strip("| ") for line in printed.splitlines() if line.startswith("| ")]
    assert rows == ["step", *ijb.STEPS, "templates and scores", "all"]
    assert re.search(r"5 bootstrap replicates, ours: \d+\.\d s wall", printed)


def test_it_stops_where_the_sides_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    made = ijb.make(10)
    ijb.check(made)
    templates = ijb.our_templates(made)
    monkeypatch.setattr(ijb, "our_templates", lambda _: np.roll(templates, 1, axis=0))
    with pytest.raises(SystemExit, match="differ"):
        ijb.check(made)


def test_sums_are_round_by_round() -> None:
    timing = Timing({0: 1.0, 1: 2.0}, {0: 0.5, 1: 0.25})
    timings = {"templates, ours": timing, "scores, ours": replace(timing, wall={0: 4.0, 1: 8.0})}
    both = ijb.together(timings, "ours", ("templates", "scores"))
    assert (both.wall, both.cpu) == ({0: 5.0, 1: 10.0}, {0: 1.0, 1: 0.5})
