"""What a step leaves behind: rows of the log, checks, checkpoints, and what is said about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from proxylesskd.errors import UserError
from proxylesskd.models.modes import evaluating
from proxylesskd.training.checkpoint import checkpoint_path, save_checkpoint
from proxylesskd.training.log import MetricsLog
from proxylesskd.training.progress import format_values
from proxylesskd.training.state import Meter, TrainState, capture
from proxylesskd.training.update import Outcome

Check = Callable[[nn.Module, int], Mapping[str, float]]
Say = Callable[[str], None]
Rate = Callable[[int], float]


def count_skipped(state: TrainState, outcome: Outcome, max_bad_steps: int, log: MetricsLog | None, say: Say) -> None:
    """Count a step that was left out and log its images; end the training when there were too many in a row."""
    state.skipped += 1
    state.skipped_in_a_row += 1
    ids = ", ".join(str(index) for index in outcome.indices[:16]) + (", …" if len(outcome.indices) > 16 else "")
    found = f"loss {outcome.values['loss']:g}, gradient norm {outcome.values['grad_norm']:g}"
    warning = f"warning: step {state.step} is skipped, for it is not finite: {found}"
    if log is not None:
        log.note(state.step, warning, outcome.indices)
    if state.skipped_in_a_row >= max_bad_steps:
        raise UserError(
            f"expected a finite loss and gradient, found none in {state.skipped_in_a_row} steps in a row, the last "
            f"of them step {state.step} ({found}, images {ids}); look at these images (metrics.jsonl has all), or "
            "start a new run with a lower learning rate; the last good checkpoint is kept"
        )
    if state.skipped_in_a_row == 1:
        say(f"{warning}, images {ids}")


def running_means(state: TrainState) -> dict[str, float]:
    """Return what is shown beside the bar: means since the last row of the log."""
    means = state.meter.means()
    shown: dict[str, float] = {name: means[name] for name in ("loss", "accuracy") if name in means}
    return shown | {"images/s": state.meter.rate()}


def write_row(state: TrainState, log: MetricsLog | None, rate: Rate, steps_per_epoch: int) -> None:
    """Write the means since the last row, and begin anew; the row stays in ``state.metrics``."""
    means = state.meter.means()
    row: dict[str, Any] = {"epoch": round(state.step / steps_per_epoch, 4), "loss": means.pop("loss", None)}
    if "accuracy" in means:
        row["accuracy"] = means.pop("accuracy")
    row |= {"lr": rate(state.step - 1), "grad_norm": means.pop("grad_norm", None), "parts": means}
    row |= {"images_per_second": round(state.meter.rate(), 2), "skipped": state.skipped}
    row["seconds"] = round(state.seconds, 3)
    if log is not None:
        log.row(state.step, row)
    state.metrics, state.meter = {"step": state.step, **row}, Meter()


def run_check(state: TrainState, check: Check | None, log: MetricsLog | None, say: Say) -> None:
    """Evaluate the student in evaluation mode and without gradients, and leave every module in its mode.

    The first process checks, while the others wait at the next step. Random numbers that the check draws are given
    back, so that a training does not depend on how often it is checked.
    """
    if check is None or state.rank > 0:
        return
    devices = [state.device] if state.device.type == "cuda" else []
    with evaluating(state.method.student), torch.random.fork_rng(devices):
        state.checks = dict(check(state.method.student, state.step))
    if log is not None:
        log.check(state.step, state.checks)
    say(f"check at step {state.step}: {format_values(state.checks)}")


def save_state(state: TrainState, folder: Path | None, settings: Mapping[str, str], keep: int) -> None:
    """Write a checkpoint, where there is a folder for it: all processes know it, the first one writes."""
    if folder is None:
        return
    payload = capture(state, settings)
    if state.rank == 0:
        save_checkpoint(folder, state.step, payload, keep=keep)
    state.checkpoint = checkpoint_path(folder, state.step)


def print_line(console: Console, message: str) -> None:
    """Print plain text, unwrapped, above a progress bar if there is one."""
    console.print(message, markup=False, highlight=False, soft_wrap=True)


def warn(console: Console, log: MetricsLog | None, state: TrainState, message: str) -> None:
    """Print a warning, however quiet the run, and write it to the log."""
    print_line(console, message)
    if log is not None:
        log.note(state.step, message)


def farewell(state: TrainState, steps: int, stopped_by: str) -> str:
    """Return what to say when a signal ended the training: how far it came and how to go on."""
    how = "no checkpoint folder was given, so nothing was kept"
    if state.checkpoint is not None:
        how = f"its checkpoint is {state.checkpoint}; go on with --resume (resume=True)"
    return f"stopped by {stopped_by} after step {state.step} of {steps}; {how}"
