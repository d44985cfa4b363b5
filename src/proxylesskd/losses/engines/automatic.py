"""Which engine ``"auto"`` takes."""

from __future__ import annotations

from importlib.util import find_spec

import torch

DENSE_LIMIT = 1 << 18  # below this many logits one dense product is as fast as the chunks
_BFLOAT16_CORES = (8, 0)  # compute capability


def automatic(batch: int, count: int, device: torch.device | str, *, trained: bool = False) -> str:
    """Return the name of the engine for this many logits on this device.

    Rows that are trained, and few logits, go through plain PyTorch; on GPUs with bfloat16 tensor cores the others go
    through Triton where it is installed, and through chunks everywhere else.

    Args:
        batch: B.
        count: C.
        device: where the rows lie.
        trained: whether they require a gradient.
    """
    if trained or batch * count <= DENSE_LIMIT:
        return "reference"
    return "triton" if _runs_triton(torch.device(device)) else "chunked"


def _runs_triton(device: torch.device) -> bool:
    if device.type != "cuda" or find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device) >= _BFLOAT16_CORES
