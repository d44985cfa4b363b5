"""What a step leaves behind: rows, checks, and what is done about steps that are not finite."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from proxylesskd.errors import UserError
from proxylesskd.training.log import MetricsLog
from tests.training.pieces import (
    convolutional,
    double,
    fit_quietly,
    linear,
    make_batches,
    poison,
    read_rows,
)


def test_a_bad_step_is_skipped_and_counted(tmp_path: Path) -> None:
    method, shown = linear(), io.StringIO()
    with MetricsLog(tmp_path / "m.jsonl") as log:
        result = fit_quietly(
            method, make_batches(8), prepare=poison({4, 5, 8}), log=log, log_every=4, console=Console(file=shown)
        )
    assert result.skipped == 3
    assert all(p.isfinite().all() for p in method.student.parameters())
    rows = [row for row in read_rows(log.path) if "loss" in row]
    assert [row["skipped"] for row in rows] == [0, 2, 3]
    assert all(math.isfinite(row["loss"]) for row in rows)
    assert shown.getvalue().count("is skipped") == 2  # once for each row of them
    assert "step 5 is skipped" in shown.getvalue()
    assert "images 32, 33, 34, 35, 36, 37, 38, 39" in shown.getvalue()
    notes = [row for row in read_rows(log.path) if "note" in row]
    assert [(row["step"], row["images"]) for row in notes] == [
        (step, list(range(8 * step - 8, 8 * step))) for step in (5, 6, 9)
    ]


def test_too_many_bad_steps_end_with_the_images_and_the_last_good_checkpoint(tmp_path: Path) -> None:
    method = linear()
    with pytest.raises(UserError) as caught:
        fit_quietly(
            method, make_batches(32), prepare=poison(range(5, 99)), steps=40, checkpoints=tmp_path,
            checkpoint_every=2, max_bad_steps=7,
        )  # fmt: skip
    assert re.search(r"7 steps in a row, the last of them step 12 .*images 352, 353,.* 367, …", str(caught.value))
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["step-00000002.pt", "step-00000004.pt"]
    payload = torch.load(tmp_path / "step-00000004.pt", weights_only=True)
    assert all(value.isfinite().all() for value in payload["student"].values())


def test_rows_checks_and_result(tmp_path: Path) -> None:
    method, checked = convolutional(), []

    def check(student: nn.Module, step: int) -> dict[str, float]:
        checked.append((step, student.training, torch.is_grad_enabled()))
        return {"tar": step / 100}

    with MetricsLog(tmp_path / "m.jsonl") as log:
        result = fit_quietly(method, make_batches(8), steps=10, log=log, log_every=4, check=check, check_every=6)
    assert checked == [(6, False, False), (10, False, False)]
    assert method.student.training
    rows = read_rows(log.path)
    assert [(row["step"], "check" in row) for row in rows] == [
        (4, False), (6, True), (8, False), (10, False), (10, True),
    ]  # fmt: skip
    keys = ["step", "epoch", "loss", "accuracy", "lr", "grad_norm", "parts", "images_per_second", "skipped", "seconds"]
    assert list(rows[0]) == keys
    assert [rows[i]["epoch"] for i in (0, 2, 3)] == [1.0, 2.0, 2.5]
    assert list(rows[0]["parts"]) == ["bias"]
    assert rows[-1]["check"] == {"tar": 0.1}
    assert result.metrics == rows[3]
    assert result.checks == {"tar": 0.1}
    assert (result.step, result.finished, result.stopped_by, result.checkpoint) == (10, True, None, None)


def test_rows_hold_means_since_the_row_before(tmp_path: Path) -> None:
    rows = []
    for every in (1, 5):
        with MetricsLog(tmp_path / f"{every}.jsonl") as log:
            fit_quietly(linear(), make_batches(8), prepare=double, steps=10, log=log, log_every=every)
        rows.append(read_rows(log.path))
    for name in ("loss", "accuracy", "grad_norm"):
        each = [row[name] for row in rows[0]]
        assert [row[name] for row in rows[1]] == pytest.approx([np.mean(each[:5]), np.mean(each[5:])])
