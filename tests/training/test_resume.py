"""Training against itself killed and resumed, stopped by a signal, or sent to the wrong folder."""

from __future__ import annotations

import io
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from proxylesskd.errors import UserError
from proxylesskd.training.log import MetricsLog
from tests.training.pieces import (
    assert_equal,
    convolutional,
    double,
    fit_quietly,
    linear,
    make_batches,
    parameters_of,
    read_rows,
)


def _crash_after(batches: Any, last: int) -> Any:
    def crashing(start: int, stop: int) -> Iterator[Any]:
        for loaded in batches(start, stop):
            if loaded[0] >= last:
                raise RuntimeError("the power failed")
            yield loaded

    return crashing


@pytest.mark.parametrize(("accumulate", "optimiser"), [(1, "sgd"), (2, "adamw")])
@pytest.mark.parametrize("crash", [5, 8, 9])
def test_killed_and_resumed_equals_never_stopped(tmp_path: Path, crash: int, accumulate: int, optimiser: str) -> None:
    settings = {"checkpoint_every": 4, "accumulate": accumulate, "optimiser": optimiser, "log_every": 5, "lr": 0.01}
    whole, first, second = (convolutional() for _ in range(3))
    torch.manual_seed(3)
    with MetricsLog(tmp_path / "whole.jsonl") as log:
        fit_quietly(whole, make_batches(8), log=log, **settings)

    torch.manual_seed(3)
    with MetricsLog(tmp_path / "m.jsonl") as log, pytest.raises(RuntimeError, match="the power failed"):
        fit_quietly(
            first, _crash_after(make_batches(8), crash * accumulate), log=log, checkpoints=tmp_path / "c", **settings
        )
    torch.manual_seed(99)
    with MetricsLog(tmp_path / "m.jsonl") as log:
        result = fit_quietly(second, make_batches(8), log=log, checkpoints=tmp_path / "c", resume=True, **settings)
    assert result.resumed_from == 4 * (crash // 4)
    assert_equal(parameters_of(whole), parameters_of(second))
    assert whole.count == second.count

    def timeless(path: Path) -> list[dict[str, Any]]:
        return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in read_rows(path)]

    assert timeless(tmp_path / "m.jsonl") == timeless(tmp_path / "whole.jsonl")
    assert [row["step"] for row in read_rows(tmp_path / "m.jsonl")] == [5, 10, 12]


def test_a_damaged_newest_checkpoint_costs_steps_and_nothing_else(tmp_path: Path) -> None:
    whole, second = convolutional(), convolutional()
    torch.manual_seed(3)
    fit_quietly(whole, make_batches(8), checkpoints=tmp_path, checkpoint_every=4)
    newest = tmp_path / "step-00000012.pt"
    newest.write_bytes(newest.read_bytes()[:-700])
    shown = io.StringIO()
    with MetricsLog(tmp_path / "m.jsonl") as log:
        result = fit_quietly(
            second, make_batches(8), checkpoints=tmp_path, checkpoint_every=4, resume=True, log=log,
            console=Console(file=shown),
        )  # fmt: skip
    assert result.resumed_from == 8
    assert "step-00000012.pt cannot be read" in shown.getvalue()
    assert "step-00000012.pt cannot be read" in read_rows(log.path)[0]["note"]
    assert_equal(parameters_of(whole), parameters_of(second))


def test_resuming_under_other_settings_names_them(tmp_path: Path) -> None:
    fit_quietly(linear(), make_batches(8), prepare=double, checkpoints=tmp_path)
    with pytest.raises(UserError, match=r"lr \(was 0\.05, now 0\.1\), accumulate \(was 1, now 2\)"):
        fit_quietly(linear(), make_batches(4), prepare=double, checkpoints=tmp_path, resume=True, lr=0.1, accumulate=2)


def test_given_settings_decide_what_must_be_equal(tmp_path: Path) -> None:
    fit_quietly(linear(), make_batches(8), prepare=double, checkpoints=tmp_path, settings={"data": {"seed": 1}})
    result = fit_quietly(
        linear(), make_batches(8), prepare=double, checkpoints=tmp_path, settings={"data": {"seed": 1}},
        resume=True, clip=1.0,
    )  # fmt: skip
    assert (result.resumed_from, result.step, result.finished) == (12, 12, True)
    with pytest.raises(UserError, match=r"data\.seed \(was 1, now 2\)"):
        fit_quietly(
            linear(), make_batches(8), prepare=double, checkpoints=tmp_path, settings={"data": {"seed": 2}},
            resume=True,
        )  # fmt: skip


def test_a_folder_in_use_is_not_overwritten(tmp_path: Path) -> None:
    fit_quietly(linear(), make_batches(8), prepare=double, checkpoints=tmp_path)
    with pytest.raises(UserError, match="found one of step 12"):
        fit_quietly(linear(), make_batches(8), prepare=double, checkpoints=tmp_path)


def test_resuming_where_nothing_is(tmp_path: Path) -> None:
    shown = io.StringIO()
    result = fit_quietly(
        linear(), make_batches(8), prepare=double, checkpoints=tmp_path, resume=True, quiet=False,
        console=Console(file=shown),
    )  # fmt: skip
    assert result.resumed_from is None
    assert "starting at step 0" in shown.getvalue()
    with pytest.raises(UserError, match="found no folder"):
        fit_quietly(linear(), make_batches(8), prepare=double, checkpoints=tmp_path / "mistyped", resume=True)
    with pytest.raises(UserError, match="give checkpoints="):
        fit_quietly(linear(), make_batches(8), prepare=double, resume=True)


_SCRIPT = """
import importlib.util, sys, time
from pathlib import Path
import torch
from proxylesskd.training.loop import fit
spec = importlib.util.spec_from_file_location("pieces", sys.argv[1])
pieces = importlib.util.module_from_spec(spec); spec.loader.exec_module(pieces)
method = pieces.convolutional()
torch.manual_seed(3)
def slow(start, stop):
    for loaded in pieces.make_batches(8)(start, stop):
        time.sleep(0.1 if loaded[0] > 3 else 0.0)
        yield loaded
def prepare(images, indices, step):
    print(step, flush=True)
    return images.float() / 127.5 - 1.0
result = fit(method, slow, steps=60, steps_per_epoch=4, prepare=prepare, lr=0.05, warmup=3, quiet=True,
             checkpoints=Path(sys.argv[2]), checkpoint_every=0)
print("result", result.step, result.stopped_by, flush=True)
"""


def test_sigterm_writes_a_checkpoint_to_go_on_from(tmp_path: Path) -> None:
    pieces = str(Path(__file__).with_name("pieces.py"))
    process = subprocess.Popen(
        [sys.executable, "-c", _SCRIPT, pieces, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    while process.stdout.readline().strip() != "3":
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    begun = time.monotonic()
    output, errors = process.communicate(timeout=60)
    assert time.monotonic() - begun < 30
    assert process.returncode == 0
    _, step, stopped_by = re.findall(r"(result) (\d+) (\w+)", output)[0]
    assert stopped_by == "SIGTERM"
    assert 4 <= int(step) < 60
    assert f"stopped by SIGTERM after step {step} of 60" in errors
    assert f"step-{int(step):08d}.pt; go on with --resume" in errors

    whole, resumed = convolutional(), convolutional()
    result = fit_quietly(resumed, make_batches(8), steps=60, checkpoints=tmp_path, checkpoint_every=0, resume=True)
    assert result.resumed_from == int(step)
    torch.manual_seed(3)
    fit_quietly(whole, make_batches(8), steps=60)
    assert_equal(parameters_of(whole), parameters_of(resumed))


def test_interrupt_without_checkpoints_says_that_nothing_was_kept() -> None:
    def interrupting(images: Tensor, indices: Tensor, step: int) -> Tensor:
        if step == 2:
            signal.raise_signal(signal.SIGINT)
        return double(images, indices, step)

    shown = io.StringIO()
    result = fit_quietly(linear(), make_batches(8), prepare=interrupting, console=Console(file=shown, width=200))
    assert (result.step, result.stopped_by, result.finished) == (3, "SIGINT", False)
    assert "nothing was kept" in shown.getvalue()


def test_a_signal_ends_a_check_at_once(tmp_path: Path) -> None:
    def check(student: nn.Module, step: int) -> dict[str, float]:
        if step == 4:
            signal.raise_signal(signal.SIGTERM)
        return {"tar": 0.5}

    method = convolutional()
    with MetricsLog(tmp_path / "m.jsonl") as log:
        result = fit_quietly(
            method, make_batches(8), check=check, check_every=2, log=log, log_every=4, checkpoints=tmp_path / "c"
        )
    assert (result.step, result.stopped_by, result.finished) == (4, "SIGTERM", False)
    assert [(row["step"], "check" in row) for row in read_rows(log.path)] == [(2, True), (4, False), (4, False)]
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["step-00000004.pt"]
    assert method.student.training


def test_training_does_not_depend_on_how_often_it_is_checked() -> None:
    def check(student: nn.Module, step: int) -> dict[str, float]:
        return {"drawn": torch.rand(()).item()}

    students = []
    for every in (0, 3):
        method = convolutional()
        torch.manual_seed(3)
        fit_quietly(method, make_batches(8), check=check, check_every=every)
        students.append(parameters_of(method))
    assert_equal(*students)


def test_settings_of_the_run_do_not_name_the_number_of_processes(tmp_path: Path) -> None:
    fit_quietly(linear(), make_batches(8), prepare=double, checkpoints=tmp_path)
    saved = torch.load(tmp_path / "step-00000012.pt")
    assert not any("world" in key or "process" in key for key in saved["settings"])
    assert len(saved["random"]) == 1
