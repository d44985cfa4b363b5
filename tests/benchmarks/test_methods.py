"""The benchmark of methods at the smallest size: who is measured, with which teacher, on which batches."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch
from interleave import Timing
from stand_in import write_embedded

import methods
from proxylesskd.models.preprocess import Preprocessing
from proxylesskd.models.teacher import Teacher

SMALL = "--batch 8 --width 0.125 --size 32 --teacher mobilefacenet --teacher-width 0.125 --dim 8 --identities 20"
ONCE = "--images 30 --rounds 1 --threads 1 --clock cpu"


@pytest.fixture
def args(monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    monkeypatch.setattr("sys.argv", ["methods.py", *SMALL.split(), *ONCE.split()])
    return methods.parse()


def test_every_method_with_every_teacher_it_can_have(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = torch.get_num_threads()
    chosen = ["--methods", "alone", "adadistill", "0.5*l2 + alone", "fitnet"]
    monkeypatch.setattr("sys.argv", ["methods.py", *SMALL.split(), *ONCE.split(), *chosen])
    methods.main()
    torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    steps = [line.split(" | ")[0].strip("| ") for line in printed.splitlines() if line.endswith("| 1 |")]
    assert steps == [
        "the teacher alone, cached",
        "the teacher alone, live",
        "proxyless",
        "alone",
        "adadistill, cached",
        "adadistill, live",
        "0.5*l2 + alone, cached",
        "0.5*l2 + alone, live",
        "fitnet, live",
    ]
    assert "| AdaDistill, cached, against ProxylessKD | C=20, B=8 | ≤ 1.15x |" in printed


def test_a_teacher_without_insides(
    args: argparse.Namespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = Teacher(lambda pixels: pixels.mean((2, 3)) + 2, Preprocessing(size=32), 3, "closed", "f")
    world = methods.World(args, teacher, write_embedded(tmp_path, 30, 3, 20))
    names = [name for name, _ in methods.variants(world, ["fitnet", "adadistill"])]
    assert names[2:] == ["adadistill, cached", "adadistill, live"]
    assert "fitnet is left out: it looks at maps, and closed shows none" in capsys.readouterr().out


def test_batches_hold_what_the_methods_ask_for(args: argparse.Namespace, tmp_path: Path) -> None:
    world = methods.World(args, methods.open_teacher(args), write_embedded(tmp_path, 30, 8, 20))
    for needs, alike in ((set(), 0), ({"balanced_half"}, 1), ({"balanced"}, 2)):
        share = methods.share_of(frozenset(needs))
        number, images, labels, indices = methods.loaded(3, world, share)
        assert (number, images.shape, images.dtype) == (3, (8, 3, 32, 32), torch.uint8)
        groups = labels.tolist()[8 - 4 * alike :]
        assert all(len(set(groups[start : start + 4])) == 1 for start in range(0, len(groups), 4))
        assert int(labels.max()) < 20
        assert int(indices.max()) < 30


def test_students_start_alike(args: argparse.Namespace, tmp_path: Path) -> None:
    world = methods.World(args, methods.open_teacher(args), write_embedded(tmp_path, 30, 8, 20))
    first, second = world.student().state_dict(), world.learner("simkd").student.state_dict()
    assert len(second) > len(first)  # a projector ends it
    again = world.student().state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_ratios_and_ranges() -> None:
    found = {"proxyless": Timing({0: 0.1, 1: 0.2, 2: 0.4}), "other": Timing({0: 0.2, 1: 0.4, 2: 0.8})}
    assert list(methods.lines(found, "wall"))[2] == "| other | 400.0 (200.0 to 800.0) | 2.00 [2.00, 2.00] | 3 |"


def test_what_a_cache_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stand_in.BLOCK", 7)
    embedded = write_embedded(tmp_path, 30, 16, 5)
    np.testing.assert_allclose(np.linalg.norm(embedded.views.astype(np.float64), axis=2), 1, atol=1e-3)
    assert embedded.norms is not None
    assert (embedded.views.dtype, embedded.norms.shape, embedded.norms.min() > 0) == (np.float16, (30, 2), True)
    assert isinstance(embedded.views, np.memmap)
    assert set(embedded.labels.tolist()) <= set(range(5))
    assert len({tuple(row) for row in embedded.views[:, 0].tolist()}) == 30
