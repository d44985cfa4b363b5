"""The training loop: set up, then step, log, check, checkpoint, in the order they happen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from proxylesskd.errors import UserError
from proxylesskd.methods.learner import Course
from proxylesskd.methods.method import TEACHER_NEEDS, Batch
from proxylesskd.models.synced_norm import synchronised
from proxylesskd.processes import rank_and_world
from proxylesskd.teaching.taught import Teach
from proxylesskd.training.checkpoint import canonical_settings
from proxylesskd.training.compile import compiled, wants_compile
from proxylesskd.training.log import MetricsLog
from proxylesskd.training.progress import Progress
from proxylesskd.training.record import (
    Check,
    Rate,
    Say,
    count_skipped,
    farewell,
    print_line,
    run_check,
    running_means,
    save_state,
    warn,
    write_row,
)
from proxylesskd.training.result import FitResult
from proxylesskd.training.resume import begin
from proxylesskd.training.schedule import learning_rate
from proxylesskd.training.set_up import closing, require_counts, set_up
from proxylesskd.training.state import TrainState
from proxylesskd.training.stop import StopRequest
from proxylesskd.training.update import (
    Loaded,
    Outcome,
    Transform,
    make_autocast,
    require_needs,
    to_batch,
    update,
)

Batches = Callable[[int, int], Iterator[Loaded]]


def fit(
    method: Course,
    batches: Batches,
    *,
    steps: int,
    steps_per_epoch: int,
    prepare: Transform,
    augment: Transform | None = None,
    teach: Teach | None = None,
    general: int | None = None,
    optimiser: str = "sgd",
    lr: float = 0.1,
    momentum: float = 0.9,
    nesterov: bool = True,
    weight_decay: float = 5e-4,
    schedule: str = "cosine",
    warmup: int = 0,
    milestones: Sequence[int] = (),
    gamma: float = 0.1,
    final: float = 0.0,
    power: float = 1.0,
    clip: float = 5.0,
    accumulate: int = 1,
    autocast: str = "auto",
    device: torch.device | str | None = None,
    channels_last: bool = True,
    compile: str = "off",
    sync_norm: bool = True,
    checkpoints: Path | None = None,
    checkpoint_every: int = 1000,
    keep: int = 2,
    resume: bool = False,
    settings: Mapping[str, Any] | None = None,
    log: MetricsLog | None = None,
    log_every: int = 50,
    check: Check | None = None,
    check_every: int = 0,
    max_bad_steps: int = 10,
    quiet: bool = False,
    console: Console | None = None,
) -> FitResult:
    """Train the student of a method.

    Everything is a function of the step, so a run that was stopped and resumed ends, on a CPU, with bitwise
    the parameters of one that never stopped. SIGINT or SIGTERM ends the run after its step with a checkpoint.

    Under `torchrun` every process calls it with its own share of each batch, all shares of one size. Gradients and
    numbers are means over all processes: as many images give the same training, whatever the number of processes.
    What a method trains beyond its student is kept equal, too. The first process alone writes and prints.

    Args:
        method: owns the student, turns a batch into a loss, names what is trained; a
            :class:`proxylesskd.methods.learner.Learner`.
        batches: ``batches(start, stop)`` yields ``(number, images [B, 3, H, W] uint8, labels [B] int64,
            indices [B] int64)`` on the CPU for the micro-batches ``start … stop - 1``. Update ``k`` takes the
            micro-batches ``k * accumulate … (k + 1) * accumulate - 1``. Of several processes, each gets its own.
        steps: updates in all.
        steps_per_epoch: updates per pass over the data; for the log.
        prepare: ``(images, indices, step) -> [B, 3, H, W] float32``, on the device: augmentation and
            normalisation; ``step`` is the update, the same for all of its micro-batches.
        augment: ``(images, indices, step) -> images``, all uint8, before ``prepare``: needed instead of
            augmenting within ``prepare`` where a teacher must see what the student sees.
        teach: what the teacher says about a batch, see :mod:`proxylesskd.teaching`; asked when the method needs it.
        general: how many images at the front of each micro-batch are drawn at random over all images, where the
            others are not; for methods, see :class:`proxylesskd.methods.method.Batch`.
        optimiser, lr, momentum, nesterov, weight_decay: see :func:`make_optimiser`; ``lr`` is the peak rate.
        schedule, warmup, milestones, gamma, final, power: see :func:`learning_rate`.
        clip: largest global norm of the gradient; 0 for no clipping.
        accumulate: micro-batches per update; the gradient is that of the mean of their losses.
        autocast: see :func:`make_autocast`.
        device: where to train; where the student is unless told. What is trained is moved there.
        channels_last: lay student and images out with the channels last in memory; faster convolutions.
        compile: ``"auto"``, ``"on"`` or ``"off"``, see :func:`wants_compile`.
        sync_norm: let the batch norms of several processes share their statistics.
        checkpoints: folder of the checkpoints, or None for none.
        checkpoint_every: updates between two; one more at the end. 0: at the end alone.
        keep: newest checkpoints that remain.
        resume: go on from the newest checkpoint that loads; from the start if there is none yet.
        settings: what must be equal when resuming, nested mappings of plain values; the arguments of this
            call that shape the result, unless given.
        log: where the rows go; rows beyond the step resumed from are dropped.
        log_every: updates between two rows; one more at the end.
        check: ``(student in evaluation mode, step) -> numbers``, without gradients.
        check_every: updates between two checks; one more at the end. 0: at the end alone.
        max_bad_steps: so many skipped steps in a row end the training.
        quiet: no progress bar; warnings are still printed.
        console: where to print; standard error unless told.

    Raises:
        UserError: a wrong setting, a need that is not met, a checkpoint that does not fit, or a training
            that keeps diverging; the last good checkpoint then remains.
    """
    descent = {"lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}
    curve: dict[str, Any] = {"warmup": warmup, "milestones": list(milestones)}
    curve |= {"gamma": gamma, "final": final, "power": power}
    shape = {"steps": steps, "clip": clip, "accumulate": accumulate, "autocast": autocast, "compile": compile}
    shape |= {"general": general}
    fingerprint = canonical_settings(
        {"optimiser": optimiser, "schedule": schedule, **descent, **curve, **shape} if settings is None else settings
    )
    rate: Rate = partial(learning_rate, kind=schedule, peak=lr, steps=steps, **curve)
    rate(0)  # a wrong schedule is refused before anything is written
    require_counts(
        steps_per_epoch=steps_per_epoch, accumulate=accumulate, log_every=log_every, max_bad_steps=max_bad_steps
    )
    require_needs(method, teach)

    state = set_up(method, device, channels_last, rank_and_world(), kind=optimiser, **descent)
    context = make_autocast(autocast, state.device)
    compiles = wants_compile(compile, state.device)
    console = console or Console(stderr=True)
    if state.rank > 0:
        console, log, quiet = Console(quiet=True), None, True
    tell: Say = partial(print_line, console)
    say: Say = (lambda _: None) if quiet else tell
    alarm = partial(warn, console, log, state)
    resumed_from = begin(state, checkpoints, resume, fingerprint, log, say, alarm)
    feed = partial(to_batch, steps=steps, device=state.device, channels_last=channels_last, prepare=prepare)
    heard = teach if method.needs & TEACHER_NEEDS else None
    feed = partial(feed, augment=augment, teach=heard, general=general)
    descend = partial(update, state, clip=clip, accumulate=accumulate, autocast=context)
    with (
        synchronised(method.student, sync_norm and state.world > 1),
        compiled(method.student, compiles, say),
        closing(batches(state.step * accumulate, steps * accumulate)) as stream,
    ):
        stopped_by = _train(
            state,
            steps,
            Progress(steps, done=state.step, quiet=quiet, console=console),
            step=partial(_step, state, stream, accumulate, feed, descend, rate, max_bad_steps, log, tell),
            row=partial(write_row, state, log, rate, steps_per_epoch),
            check=partial(run_check, state, check, log, say),
            save=partial(save_state, state, checkpoints, fingerprint, keep),
            every=(log_every, check_every, checkpoint_every),
        )
    if channels_last:  # the layout was ours alone; files want the ordinary one
        method.student.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    if stopped_by is not None:
        alarm(farewell(state, steps, stopped_by))
    ended = (state.skipped, state.seconds, state.metrics, state.checks, state.checkpoint)
    return FitResult(state.step, steps, resumed_from, stopped_by, *ended)


def _train(
    state: TrainState,
    steps: int,
    progress: Progress,
    *,
    step: Callable[[], None],
    row: Callable[[], None],
    check: Callable[[], None],
    save: Callable[[], None],
    every: tuple[int, int, int],
) -> str | None:
    """Step, log, check, checkpoint, until the steps are done or a signal asks to stop; return its name."""
    started = time.monotonic() - state.seconds
    with StopRequest() as stop, progress:
        while state.step < steps:
            stopped_by = stop.of_any()
            if stopped_by is not None:
                save()
                return stopped_by
            step()
            state.seconds = time.monotonic() - started
            progress.advance(state.step, running_means(state))
            last = state.step == steps
            if last or _due(state.step, every[0]):
                row()
            if (last or _due(state.step, every[1])) and stop.signal is None:
                with stop.giving_way():
                    check()
            # while the training is going wrong, the good checkpoints are not pushed out
            if last or (_due(state.step, every[2]) and not state.skipped_in_a_row):
                save()
    return None


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _step(
    state: TrainState,
    stream: Iterator[Loaded],
    accumulate: int,
    feed: Callable[..., Batch],
    descend: Callable[..., Outcome],
    rate: Rate,
    max_bad_steps: int,
    log: MetricsLog | None,
    say: Say,
) -> None:
    begun = time.monotonic()
    group = _take(stream, state.step * accumulate, accumulate)
    outcome = descend((feed(loaded, step=state.step) for loaded in group), lr=rate(state.step))
    state.step += 1
    state.meter.images += outcome.images
    if outcome.finite:
        state.meter.add(outcome.values)
        state.skipped_in_a_row = 0
    else:
        count_skipped(state, outcome, max_bad_steps, log, say)
    state.meter.busy += time.monotonic() - begun


def _take(stream: Iterator[Loaded], first: int, count: int) -> Iterator[Loaded]:
    for number in range(first, first + count):
        loaded = next(stream, None)
        if loaded is None or loaded[0] != number:
            found = "the end" if loaded is None else f"number {loaded[0]}"
            raise UserError(f"expected micro-batch {number} from batches(start, stop), found {found}")
        yield loaded
