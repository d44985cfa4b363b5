"""Learning rates as pure functions of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math
from collections.abc import Sequence

from proxylesskd.errors import UserError, nearest

SCHEDULES = ("constant", "cosine", "poly", "multi-step")


def learning_rate(
    step: int,
    *,
    kind: str,
    peak: float,
    steps: int,
    warmup: int = 0,
    milestones: Sequence[int] = (),
    gamma: float = 0.1,
    final: float = 0.0,
    power: float = 1.0,
) -> float:
    """Return the learning rate of update ``step``.

    The rate climbs linearly over the first ``warmup`` updates, the last of which has the peak rate; the first
    one already moves (``peak / warmup``). Then, with ``t`` the fraction of the remaining steps that is done:

    - ``constant``: the peak;
    - ``cosine``: ``final + (peak - final) (1 + cos πt) / 2`` (SGDR, arXiv 1608.03983, eq. 5, one cycle);
    - ``poly``: ``final + (peak - final) (1 - t)^power``; power 1, linear to zero, is InsightFace's default;
    - ``multi-step``: the peak times ``gamma`` for every milestone reached.

    Args:
        step: updates done before this one, 0 for the first; beyond ``steps`` the last rate holds.
        kind: one of ``SCHEDULES``.
        peak: highest rate.
        steps: updates of the whole training.
        warmup: updates of the warm-up, counted within ``steps``.
        milestones: steps at which ``multi-step`` multiplies by ``gamma``, counted from the start of training.
        gamma: factor of ``multi-step``.
        final: rate that ``cosine`` and ``poly`` reach at ``steps``.
        power: exponent of ``poly``.

    Raises:
        UserError: an unknown kind, fewer than one step, or a warm-up outside ``[0, steps]``.
    """
    _validate(kind, steps, warmup)
    if step < warmup:
        return peak * (step + 1) / warmup
    if kind == "constant":
        return peak
    if kind == "multi-step":
        return float(peak * gamma ** sum(step >= milestone for milestone in milestones))
    t = min(1.0, (step - warmup) / max(1, steps - warmup))
    left = 0.5 * (1.0 + math.cos(math.pi * t)) if kind == "cosine" else (1.0 - t) ** power
    return final + (peak - final) * left


def _validate(kind: str, steps: int, warmup: int) -> None:
    if kind not in SCHEDULES:
        known = ", ".join(SCHEDULES)
        raise UserError(f"expected a schedule among {known}, found '{kind}'{nearest(kind, SCHEDULES)}")
    if steps < 1 or not 0 <= warmup <= steps:
        raise UserError(
            f"expected at least one step and a warm-up between 0 and the number of steps, "
            f"found steps={steps}, warmup={warmup}"
        )
