"""How the width factor and the image size change a convolutional backbone."""

from __future__ import annotations


def scaled_channels(channels: int, width: float) -> int:
    """Return ``channels * width`` rounded to the nearest multiple of 8, at least 8."""
    return max(8, 8 * int(channels * width / 8 + 0.5))


def halved(size: int, times: int) -> int:
    """Return the side of the map after ``times`` convolutions 3x3 of stride 2 and padding 1."""
    for _ in range(times):
        size = (size + 1) // 2
    return size
