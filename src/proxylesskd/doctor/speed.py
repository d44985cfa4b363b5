"""How fast this machine decodes faces and multiplies matrices, in a second or two."""

from __future__ import annotations

import io
import time
from collections.abc import Callable

import numpy as np

SIDE = 1024
SECONDS = 0.5
SLOW_IMAGES = 2000.0  # a second on one core; libjpeg-turbo does several thousand on an idle one
SLOW_GIGAFLOPS = 10.0  # a BLAS does more on one thread
_FACES = 5_000_000  # a large set of training faces


def rate(work: Callable[[], object], seconds: float = SECONDS) -> float:
    """Return how often a second ``work`` is done; the first time, which warms up, is not counted."""
    work()
    begun, times = time.perf_counter(), 0
    while (passed := time.perf_counter() - begun) < seconds or times < 1:
        work()
        times += 1
    return times / passed


def decoded_per_second(seconds: float = SECONDS) -> float:
    """Return the aligned faces of 112x112 pixels that one core decodes a second, as JPEG of quality 95."""
    from PIL import Image

    from proxylesskd.data.decode import decode

    coarse = np.random.default_rng(0).integers(0, 256, (14, 14, 3), dtype=np.uint8)
    held = io.BytesIO()
    Image.fromarray(coarse).resize((112, 112), Image.Resampling.BICUBIC).save(held, "JPEG", quality=95)
    content = held.getvalue()
    return rate(lambda: decode(content), seconds)


def gigaflops(seconds: float = SECONDS) -> float:
    """Return the billions of operations a second of numpy's product of two ``[1024, 1024] float32``."""
    left = np.random.default_rng(0).standard_normal((SIDE, SIDE), dtype=np.float32)
    return rate(lambda: left @ left, seconds) * 2 * SIDE**3 / 1e9


def torch_gigaflops(device: str, seconds: float = SECONDS) -> float:
    """Return the same of PyTorch on a device."""
    import torch

    left = torch.randn(SIDE, SIDE, device=device)
    # Reading one number waits for a device that works on its own.
    return rate(lambda: (left @ left)[0, 0].item(), seconds) * 2 * SIDE**3 / 1e9


def read_decoding(images: float) -> str:
    """Say in words what a rate of decoding means."""
    hours = _FACES / images / 3600
    text = f"one core reads a set of 5 million faces in {hours:.1f} hours"
    return f"{text}; that is slow: is another program busy?" if images < SLOW_IMAGES else text


def read_multiplying(gigaflop: float, threads: int) -> str:
    """Say in words what a rate of multiplying on a CPU means."""
    if gigaflop < SLOW_GIGAFLOPS:
        return "that is slow: is another program busy, or does OMP_NUM_THREADS or a container limit the cores?"
    return f"as a CPU should, with {threads} thread{'s' if threads > 1 else ''}; training wants a GPU beyond small sets"
