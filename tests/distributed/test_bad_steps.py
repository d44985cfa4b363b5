"""A loss that is not finite, or an error, on one process alone: all of them skip the step, or all of them end."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from proxylesskd.errors import EndedElsewhere, UserError
from proxylesskd.processes import ending_together
from proxylesskd.training.log import MetricsLog, read_metrics
from proxylesskd.training.loop import fit
from tests.distributed.ring import run_together
from tests.training.pieces import convolutional, linear, load


def _fit(rank: int, world: int, place: str, method: Any, bad: Any, size: int = 8, **settings: Any) -> Any:
    """Train by ``size`` images a step; ``bad(step, rank)`` says where the images are not finite."""

    def batches(start: int, stop: int) -> Any:
        for number in range(start, stop):
            images, labels, indices = (part.chunk(world)[rank] for part in load(number, size))
            yield number, images, labels, indices

    def prepare(images: Tensor, indices: Tensor, step: int) -> Tensor:
        kind = next(method.student.parameters()).dtype
        return (images / 127.5 - 1.0).to(kind) * (float("nan") if bad(step, rank) else 1.0)

    shown = io.StringIO()
    try:
        with MetricsLog(Path(place) / f"metrics-{rank}.jsonl") as log:
            given: dict[str, Any] = {"steps": 12, "checkpoint_every": 2, "log_every": 4, "lr": 0.05} | settings
            return fit(
                method, batches, steps_per_epoch=4, prepare=prepare, checkpoints=Path(place) / "checkpoints", log=log,
                quiet=True, console=Console(file=shown, width=400), **given,
            )  # fmt: skip
    finally:
        (Path(place) / f"shown-{rank}.txt").write_text(shown.getvalue())


def skip_some(rank: int, world: int, place: str) -> None:
    method = linear()
    checked = {"check": lambda *_: {"rank": float(rank)}, "check_every": 6}
    result = _fit(rank, world, place, method, lambda step, r: (step, r) in {(3, 1), (4, 0), (8, 1)}, **checked)
    assert (result.skipped, result.finished) == (3, True)
    assert result.checks == ({} if rank else {"rank": 0.0})  # the others wait
    torch.save(method.student.state_dict(), Path(place) / f"student-{rank}.pt")


def test_all_skip_what_one_finds_bad(tmp_path: Path) -> None:
    assert run_together(2, skip_some, str(tmp_path)) == [0, 0]
    students = [torch.load(tmp_path / f"student-{rank}.pt") for rank in range(2)]
    alone = linear()
    (tmp_path / "alone").mkdir()
    _fit(0, 1, str(tmp_path / "alone"), alone, lambda step, _: step in (3, 4, 8))
    for name, value in alone.student.state_dict().items():
        assert torch.equal(students[0][name], students[1][name])
        assert torch.allclose(students[0][name], value, rtol=1e-9, atol=1e-12)
    notes = [row for row in read_metrics(tmp_path / "metrics-0.jsonl") if "note" in row]
    # the images of the process where it happened
    assert [row["images"] for row in notes] == [[28, 29, 30, 31], [32, 33, 34, 35], [68, 69, 70, 71]]
    assert [row["skipped"] for row in read_metrics(tmp_path / "metrics-0.jsonl") if "loss" in row] == [1, 2, 3]
    assert "step 4 is skipped" in (tmp_path / "shown-0.txt").read_text()
    assert (tmp_path / "shown-1.txt").read_text() == (tmp_path / "metrics-1.jsonl").read_text() == ""


def diverge(rank: int, world: int, place: str) -> None:
    with pytest.raises(UserError) as caught:
        _fit(rank, world, place, convolutional(), lambda step, r: step >= 5 and r == 1, max_bad_steps=3)
    (Path(place) / f"error-{rank}.txt").write_text(str(caught.value))


def test_too_many_end_all_and_keep_the_last_good_checkpoint(tmp_path: Path) -> None:
    assert run_together(2, diverge, str(tmp_path)) == [0, 0]
    errors = {(tmp_path / f"error-{rank}.txt").read_text() for rank in range(2)}
    assert len(errors) == 1
    # batch norm carried it to the other process, so all images are suspects
    assert "3 steps in a row, the last of them step 8" in errors.pop()
    last = json.loads((tmp_path / "metrics-0.jsonl").read_text().splitlines()[-1])
    assert (last["step"], last["images"]) == (8, list(range(56, 64)))
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["step-00000002.pt", "step-00000004.pt"]
    payload = torch.load(tmp_path / "checkpoints" / kept[-1])
    assert all(value.isfinite().all() for value in payload["student"].values())


@ending_together()
def fail_to_read(rank: int, world: int, place: str) -> None:
    def bad(step: int, rank: int) -> bool:
        if (step, rank) == (6, 1):
            raise UserError("expected a face, found a teapot")
        return False

    _fit(rank, world, place, convolutional(), bad, size=12)


def fail_and_tell(rank: int, world: int, place: str) -> None:
    with pytest.raises(UserError if rank == 1 else EndedElsewhere) as caught:
        fail_to_read(rank, world, place)
    (Path(place) / f"error-{rank}.txt").write_text(f"{type(caught.value).__name__}: {caught.value}")
    if rank == 1:
        sys.exit(2)  # as the command does; the others hear of it by losing contact


def test_an_error_on_one_process_ends_all_with_its_message(tmp_path: Path) -> None:
    codes = run_together(3, fail_and_tell, str(tmp_path))
    assert codes == [0, 2, 0]
    told = [(tmp_path / f"error-{rank}.txt").read_text() for rank in range(3)]
    assert told[1] == "UserError: expected a face, found a teapot"
    assert told[0] == told[2] == "EndedElsewhere: process 1 of 3: expected a face, found a teapot"


def unequal(rank: int, world: int, place: str) -> None:
    def batches(start: int, stop: int) -> Any:
        for number in range(start, stop):
            images, labels, indices = load(number, 4 + rank)
            yield number, images, labels, indices

    with pytest.raises(UserError, match=r"equally many images, found [45] here and 4\.5 on average"):
        fit(
            linear(), batches, steps=2, steps_per_epoch=1, prepare=lambda x, *_: x.double(), lr=0.1, quiet=True,
        )  # fmt: skip
    (Path(place) / f"{rank}").touch()


def test_shares_of_unequal_size_are_refused(tmp_path: Path) -> None:
    assert run_together(2, unequal, str(tmp_path)) == [0, 0]
    assert len(list(tmp_path.iterdir())) == 2
