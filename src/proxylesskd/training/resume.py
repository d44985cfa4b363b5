"""How a training begins: from nothing, or from where the newest checkpoint left it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from proxylesskd.errors import UserError
from proxylesskd.processes import first_alone
from proxylesskd.training.checkpoint import list_checkpoints, load_latest, require_same_settings
from proxylesskd.training.log import MetricsLog
from proxylesskd.training.state import TrainState, restore

Say = Callable[[str], None]


def begin(
    state: TrainState,
    folder: Path | None,
    resume: bool,
    settings: Mapping[str, str],
    log: MetricsLog | None,
    say: Say,
    alarm: Say,
) -> int | None:
    """Bring the state and the log to where the newest checkpoint left them.

    The first process chooses and reads; the others are told what it found, whatever their own disks hold.

    Args:
        state: as built for step 0; changed in place.
        folder: of the checkpoints, or None for none.
        resume: whether to go on; otherwise the folder must hold no checkpoint and the log is emptied.
        settings: of this run, see :func:`canonical_settings`; must equal the checkpoint's.
        log: rows beyond the checkpoint's step are dropped.
        say: prints how the training begins.
        alarm: prints that a checkpoint was damaged.

    Returns:
        The step resumed from, or None when the training starts from nothing.

    Raises:
        UserError: nothing to resume from, other settings, another network, or a folder in use.
    """
    payload, messages = first_alone(partial(_choose, folder, resume, settings))
    if payload is not None:
        restore(state, payload)
    if log is not None:
        log.rewind(state.step)
    for message in messages:
        alarm(message)
    if resume:
        say(f"resuming after step {state.step}" if payload else f"no checkpoint in {folder} yet: starting at step 0")
    return None if payload is None else state.step


def _choose(folder: Path | None, resume: bool, settings: Mapping[str, str]) -> tuple[dict[str, Any] | None, list[str]]:
    """Return the checkpoint to go on from, if any, and what is to be said about those that do not load."""
    if not resume:
        _require_fresh(folder)
        return None, []
    if folder is None:
        raise UserError("resuming needs a folder of checkpoints, found none; give checkpoints=…")
    messages: list[str] = []
    payload = load_latest(folder, messages.append)
    if payload is not None:
        require_same_settings(payload.get("settings", {}), settings)
    return payload, messages


def _require_fresh(folder: Path | None) -> None:
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    found = list_checkpoints(folder)
    if found:
        raise UserError(
            f"expected an empty folder for checkpoints, found one of step {found[-1][0]} in {folder}; "
            "resume it, or start in another run folder"
        )
