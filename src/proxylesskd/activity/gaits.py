"""Synthetic gaits and postures: a sensor of three axes at the waist of people who differ, by a small physical model.

In g, the axes of the body being forward, left and up; an accelerometer at rest feels ``+1`` upwards:

- a posture tilts the trunk, and gravity with it, by an angle that varies with people and from window to window;
- a gait bounces up and forwards at the frequency of steps and sways left at half of it, with overtones that fall as
  ``1 / k^2``; a heel strikes as a short pulse once a step; tall people step more slowly;
- the sensor sits askew by a rotation of each person's own, and each axis adds white noise of 0.02 g.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from proxylesskd.activity.windows import Windows

RATE, SAMPLES = 50.0, 128
# activity: tilt in degrees, steps a second; bounce, forward, sway and strike in g
GAITS = {
    "lying": (80.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    "sitting": (24.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    "standing": (3.0, 0.3, 0.0, 0.015, 0.03, 0.0),
    "walking": (5.0, 1.8, 0.22, 0.15, 0.10, 0.12),
    "climbing stairs": (12.0, 1.45, 0.16, 0.18, 0.14, 0.02),
    "descending stairs": (2.0, 2.0, 0.30, 0.14, 0.12, 0.40),
}


def make_gaits(*, people: int = 24, windows: int = 20, seed: int = 0) -> Windows:
    """Return ``people * 6 * windows`` windows ``[3, 128]`` at 50 Hz; the last third of the people is the test split."""
    random = torch.Generator().manual_seed(seed)
    values = torch.cat([_person(windows, random) for _ in range(people)])
    labels = torch.arange(len(GAITS)).repeat_interleave(windows).repeat(people)
    subjects = torch.arange(people).repeat_interleave(len(GAITS) * windows)
    return Windows(values, labels, subjects, tuple(GAITS), RATE, tuple(range(people - people // 3, people)))


def _person(windows: int, random: torch.Generator) -> Tensor:
    slow, strong, lean = (1.0 + 0.07 * torch.randn(3, generator=random)).tolist()
    x, y, z = (0.08 * torch.randn(3, generator=random)).tolist()
    askew = torch.linalg.matrix_exp(torch.tensor([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]]))
    mine = [_windows(gait, windows, slow, strong, lean - 1.0, random) for gait in GAITS.values()]
    return torch.matmul(askew, torch.cat(mine))


def _windows(
    gait: tuple[float, ...], count: int, slow: float, strong: float, lean: float, random: torch.Generator
) -> Tensor:
    """Return ``[count, 3, T]`` of one activity of one person, before the sensor's own rotation."""
    tilt, steps, *sizes = gait
    time = torch.arange(SAMPLES) / RATE
    angle = math.radians(tilt) + lean + 0.05 * torch.randn(count, 1, generator=random)
    habit = torch.exp(0.25 * torch.randn(4, generator=random) + 0.15 * torch.randn(count, 4, generator=random))
    bounce, forward, sway, strike = (strong * torch.tensor(sizes) * habit).T[:, :, None]  # each [count, 1]
    often = steps / slow * (1.0 + 0.06 * torch.randn(count, 1, generator=random))
    phase = often * time + torch.rand(count, 1, generator=random)  # [count, T], in steps
    up = 1.0 + bounce * _overtones(phase) + strike * torch.exp(40.0 * (torch.cos(2 * math.pi * phase) - 1.0))
    ahead, aside = forward * _overtones(phase + 0.25), sway * _overtones(phase / 2)
    body = [angle.cos() * ahead + angle.sin() * up, aside, angle.cos() * up - angle.sin() * ahead]
    return torch.stack(body, dim=1) + 0.02 * torch.randn(count, 3, SAMPLES, generator=random)


def _overtones(phase: Tensor) -> Tensor:
    return torch.stack([torch.sin(2 * math.pi * k * phase + k) / k**2 for k in (1, 2, 3)]).sum(dim=0)
