"""Augmentation of batches on any device; a sample's changes depend on its own key and on nothing else.

Nothing here sums over floats in an order that could change with the size of the batch, so a sample comes out the same,
bit for bit, whatever stands beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F

from proxylesskd.data.keys import sample_keys, uniform
from proxylesskd.errors import UserError

__all__ = ["Augmentation", "augment", "flipped", "sample_keys"]

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
# Sides to which an image shrinks, as sevenths of its own: 112 pixels become 16, 32, 48 or 64.
LOW_SIDES = (1 / 7, 2 / 7, 3 / 7, 4 / 7)
BLUR_RADIUS = 5
BLUR_SIGMA = (0.4, 2.0)  # pixels
ZOOM = (0.85, 1.1)
SHIFT = 0.06  # of the side
GREY_SHARE = 0.2  # of the samples whose colours change
FLIP = 6  # the stream of random numbers that says which samples are mirrored
CPU_CHUNK = 8  # samples; their floats stay in the cache

Change = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Augmentation:
    """How often each change is made: probabilities in [0, 1], each sample and each change on its own.

    Attributes:
        flip: mirrored left to right.
        crop: zoomed by 0.85 to 1.1 and shifted by up to 6 % of the side; edge pixels fill what comes in.
        low_resolution: shrunk to 1/7 to 4/7 of the side and enlarged again.
        blur: Gaussian of standard deviation 0.4 to 2 pixels.
        colour: brightness 0.6 to 1.4, contrast 0.6 to 1.4, saturation 0.5 to 1.5, one in five grey.
        occlusion: a rectangle of 2 to 20 % of the area in one random colour.

    Raises:
        UserError: a probability outside [0, 1].
    """

    flip: float = 0.5
    crop: float = 0.0
    low_resolution: float = 0.0
    blur: float = 0.0
    colour: float = 0.0
    occlusion: float = 0.0

    def __post_init__(self) -> None:
        for entry in fields(self):
            if not 0.0 <= getattr(self, entry.name) <= 1.0:
                raise UserError(
                    f"expected augmentation {entry.name} to be a probability in [0, 1], "
                    f"found {getattr(self, entry.name)}"
                )

    def beyond_flips(self) -> dict[str, float]:
        """Return what is done to images other than mirroring them, with how often."""
        return {e.name: getattr(self, e.name) for e in fields(self) if e.name != "flip" and getattr(self, e.name) > 0}


def _between(keys: torch.Tensor, stream: int, low: float, high: float) -> torch.Tensor:
    return low + (high - low) * uniform(keys, stream)


def _column(values: torch.Tensor) -> torch.Tensor:
    return values[:, None, None, None]


def _flip(x: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:  # noqa: ARG001 - all changes are called alike
    return x.flip(-1)


def flipped(keys: torch.Tensor, augmentation: Augmentation) -> torch.Tensor:
    """Return ``[B] bool``, which samples :func:`augment` mirrors.

    Args:
        keys: ``[B] int64`` from :func:`sample_keys`.
        augmentation: how often each change is made.
    """
    return uniform(keys, FLIP) < augmentation.flip


def _crop(x: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    zoom = _between(keys, 10, *ZOOM)
    # grid_sample's coordinates run from -1 to 1, so a shift by a share of the side counts double
    shifts = [_between(keys, stream, -2 * SHIFT, 2 * SHIFT) for stream in (11, 12)]
    axes = [(torch.arange(n, device=x.device) * 2 + 1) / n - 1 for n in (x.shape[3], x.shape[2])]
    across, down = (zoom[:, None] * axis + s[:, None] for axis, s in zip(axes, shifts, strict=True))
    height, width = x.shape[2:]
    grid = torch.stack(
        [across[:, None, :].expand(-1, height, -1), down[:, :, None].expand(-1, -1, width)], dim=-1
    )  # [B, H, W, 2]
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _low_resolution(x: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    out = x.clone()
    level = (uniform(keys, 20) * len(LOW_SIDES)).long()
    for number, side in enumerate(LOW_SIDES):
        chosen = torch.nonzero(level == number)[:, 0]
        if len(chosen):
            small = [max(1, round(n * side)) for n in x.shape[2:]]
            shrunk = F.interpolate(x[chosen], size=small, mode="area")
            out[chosen] = F.interpolate(shrunk, size=x.shape[2:], mode="bilinear", align_corners=False)
    return out


def _filter(x: torch.Tensor, weights: torch.Tensor, dim: int) -> torch.Tensor:
    """Filter along ``dim`` by one symmetric kernel per sample, ``[B, 1 + radius]`` from its middle outwards."""
    radius, size = weights.shape[1] - 1, x.shape[dim]
    edges = x.narrow(dim, 0, 1), x.narrow(dim, size - 1, 1)  # repeated beyond the image
    padded = torch.cat([edges[0]] * radius + [x] + [edges[1]] * radius, dim)
    total = x * _column(weights[:, 0])
    for tap in range(1, radius + 1):
        both = padded.narrow(dim, radius - tap, size) + padded.narrow(dim, radius + tap, size)
        total += both.mul_(_column(weights[:, tap]))
    return total


def _blur(x: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    sigma = _between(keys, 30, *BLUR_SIGMA)
    weights = torch.stack([torch.exp(-(o**2) / (2 * sigma**2)) for o in range(BLUR_RADIUS + 1)], dim=1)
    norm = weights[:, 0].clone()
    for tap in range(1, BLUR_RADIUS + 1):  # one after the other: a fixed order of summation
        norm += 2 * weights[:, tap]
    weights = weights / norm[:, None]  # [B, 1 + radius]
    return _filter(_filter(x, weights, 2), weights, 3)


def _luma(x: torch.Tensor) -> torch.Tensor:
    red, green, blue = (weight * x[:, c : c + 1] for c, weight in enumerate(LUMA))
    return red + green + blue  # [B, 1, H, W]


def _colour(x: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    saturation = torch.where(uniform(keys, 43) < GREY_SHARE, 0.0, _between(keys, 42, 0.5, 1.5))
    grey = _luma(x)
    x = grey + _column(saturation) * (x - grey)
    # Integers add up to the same mean in whatever order the device takes them.
    mean = grey.round().long().sum(dim=(1, 2, 3)).float() / grey[0].numel()
    x = _column(mean) + _column(_between(keys, 41, 0.6, 1.4)) * (x - _column(mean))
    return (x * _column(_between(keys, 40, 0.6, 1.4))).clamp(0, 255)


def _inside(length: int, size: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """Return ``[B, length] bool``: which positions lie in an interval of ``size`` at ``place`` in [0, 1)."""
    size = size.clamp(1, length).round()
    start = (place * (length - size + 1)).floor()
    steps = torch.arange(length, device=size.device)[None]
    return (steps >= start[:, None]) & (steps < (start + size)[:, None])


def _occlude(x: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    height, width = x.shape[2:]
    area = _between(keys, 50, 0.02, 0.2)
    ratio = torch.exp(_between(keys, 51, -0.9, 0.9))  # 0.4 to 2.5, as often wide as high
    rows = _inside(height, height * torch.sqrt(area * ratio), uniform(keys, 52))
    columns = _inside(width, width * torch.sqrt(area / ratio), uniform(keys, 53))
    colour = torch.stack([(uniform(keys, 54 + c) * 256).to(torch.uint8) for c in range(3)], dim=1)  # [B, 3]
    covered = rows[:, None, :, None] & columns[:, None, None, :]
    return torch.where(covered, colour[:, :, None, None], x)


def _rounded(change: Change) -> Change:
    """Make a change of floats in 0..255 one of uint8."""

    def apply(x: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        return change(x.float(), keys).round_().clamp_(0, 255).to(torch.uint8)

    return apply


_CHANGES: tuple[tuple[str, int, Change], ...] = (
    ("crop", 1, _rounded(_crop)),
    ("low_resolution", 2, _rounded(_low_resolution)),
    ("blur", 3, _rounded(_blur)),
    ("colour", 4, _rounded(_colour)),
    ("occlusion", 5, _occlude),  # last but the mirror: what covers a face is to hide it, and stays sharp
)


def augment(images: torch.Tensor, keys: torch.Tensor, augmentation: Augmentation) -> torch.Tensor:
    """Change each sample at random, as its key decides.

    Args:
        images: ``[B, 3, H, W] uint8`` RGB.
        keys: ``[B] int64`` from :func:`sample_keys`.
        augmentation: how often each change is made.

    Returns:
        ``[B, 3, H, W] uint8`` on the device of ``images``, which are left as they are. Order: crop, low
        resolution, blur, colour, occlusion, flip.
    """
    keys = keys.to(images.device)
    out = images.clone()
    for name, stream, change in _CHANGES:
        probability: float = getattr(augmentation, name)
        if probability > 0.0:
            _apply(out, keys, uniform(keys, stream) < probability, change)
    if augmentation.flip > 0.0:
        _apply(out, keys, flipped(keys, augmentation), _flip)
    return out


def _apply(out: torch.Tensor, keys: torch.Tensor, drawn: torch.Tensor, change: Change) -> None:
    """Change the samples that were ``drawn [B] bool``, in place."""
    chosen = torch.nonzero(drawn)[:, 0]
    chunk = CPU_CHUNK if out.device.type == "cpu" else max(1, len(chosen))
    for start in range(0, len(chosen), chunk):
        part = chosen[start : start + chunk]
        out[part] = change(out[part], keys[part])
