"""Checkpoints on disk: written whole or not at all, checked before they are believed, never executed."""

from __future__ import annotations

import json
import os
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from proxylesskd.errors import UserError

_NAME = re.compile(r"step-(\d{8,})\.pt")
_PLAIN = (torch.Tensor, bool, int, float, str, bytes, type(None))


def checkpoint_path(folder: Path, step: int) -> Path:
    """Return where the checkpoint of ``step`` lies: ``step-00001234.pt``."""
    return folder / f"step-{step:08d}.pt"


def list_checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Return ``(step, path)`` of every checkpoint in the folder, oldest first."""
    if not folder.is_dir():
        return []
    matches = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted((int(match[1]), path) for match, path in matches if match)


def save_checkpoint(folder: Path, step: int, payload: Mapping[str, Any], *, keep: int = 2) -> Path:
    """Write a checkpoint whole or not at all, then delete all but the newest ``keep``.

    The bytes go to a temporary file, reach the disk (fsync), and take their name in one move, so that a crash
    at any moment leaves the earlier checkpoint intact.

    Args:
        folder: created when missing.
        step: updates done.
        payload: tensors, numbers, strings and containers of them: what ``torch.load(weights_only=True)`` reads.
        keep: checkpoints that remain, at least 1.

    Raises:
        UserError: the payload holds something that could not be read back, or the disk refuses.
    """
    _require_plain(payload, "checkpoint")
    path = checkpoint_path(folder, step)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            torch.save(dict(payload), file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(folder)
    except (OSError, RuntimeError) as error:  # torch.save turns a full disk into a RuntimeError
        temporary.unlink(missing_ok=True)
        raise UserError(f"could not write the checkpoint {path}: {error}; free some space and resume") from error
    _tidy(folder, max(1, keep))
    return path


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read one checkpoint into CPU memory after checking its checksums.

    Raises:
        UserError: the file cannot be opened, is truncated or altered, or holds more than tensors and plain values.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not compare the checksums
            damaged = archive.testzip()
        if damaged is not None:
            raise UserError(f"the checkpoint {path} is damaged at '{damaged}'")
        payload = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, KeyError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"the checkpoint {path} cannot be read ({reason})") from error
    if not isinstance(payload, dict) or not isinstance(payload.get("step"), int):
        raise UserError(f"expected a checkpoint of proxylesskd with its step, found something else in {path}")
    return payload


def load_latest(folder: Path, say: Callable[[str], None]) -> dict[str, Any] | None:
    """Return the checkpoint of the highest step that loads, or None where there is none yet.

    One that does not load is reported through ``say`` and set aside as ``NAME.damaged``, so that it no longer
    counts among those that are kept.

    Raises:
        UserError: the folder does not exist, or it holds checkpoints and none of them loads.
    """
    if not folder.is_dir():
        raise UserError(f"expected checkpoints to resume from, found no folder {folder}; start without resuming")
    found = list_checkpoints(folder)
    for _, path in reversed(found):
        try:
            return load_checkpoint(path)
        except UserError as error:
            if not os.access(path, os.R_OK):
                raise
            path.replace(path.with_name(path.name + ".damaged"))
            say(f"warning: {error}; falling back to the one before")
    if found:
        raise UserError(f"none of the {len(found)} checkpoints in {folder} loads; start anew in another folder")
    return None


def canonical_settings(settings: Mapping[str, Any]) -> dict[str, str]:
    """Flatten nested settings to ``{"train.lr": "0.1", …}``, values as JSON, so that two runs can be compared."""
    flat: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{inner}": text for inner, text in canonical_settings(value).items()}
        else:
            flat[key] = json.dumps(value, sort_keys=True, default=str)
    return flat


def require_same_settings(saved: Mapping[str, str], current: Mapping[str, str]) -> None:
    """Refuse to resume under other settings than those the run was started with.

    Args:
        saved: from :func:`canonical_settings`, when the run was started.
        current: the same of this run.

    Raises:
        UserError: some differ; the message names each with both values.
    """
    keys = dict.fromkeys((*saved, *current))
    differing = [
        f"{key} (was {saved.get(key, 'absent')}, now {current.get(key, 'absent')})"
        for key in keys
        if saved.get(key) != current.get(key)
    ]
    if differing:
        raise UserError(
            f"resuming needs the settings the run was started with, found other ones: {', '.join(differing)}; "
            "give the earlier values, or start a new run folder"
        )


def _require_plain(value: object, where: str) -> None:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _require_plain(inner, f"{where}.{key}")
    elif isinstance(value, (list, tuple)):
        for position, inner in enumerate(value):
            _require_plain(inner, f"{where}[{position}]")
    elif not isinstance(value, _PLAIN):
        raise UserError(
            f"a checkpoint holds tensors, numbers and text alone, found {type(value).__name__} at {where}; "
            "return plain values from the method's state_dict"
        )


def _tidy(folder: Path, keep: int) -> None:
    for _, old in list_checkpoints(folder)[:-keep]:
        old.unlink()
    for torn in folder.glob(".step-*.pt.tmp"):  # of a process that was killed while writing
        torn.unlink()


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # other systems cannot open a folder
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
