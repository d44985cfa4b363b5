"""What stands between the pixels of an aligned face and a network's first layer."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from proxylesskd.errors import UserError, nearest

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Preprocessing:
    """How a network wants its images.

    Attributes:
        size: side of the square input in pixels; larger or smaller crops are resized by area.
        mean: subtracted from every 0..255 pixel value.
        std: divided by afterwards.
        order: colour order of the channels, ``"rgb"`` or ``"bgr"``.
        layout: ``"nchw"`` (channels first) or ``"nhwc"`` (channels last dimension).
    """

    size: int = 112
    mean: float = 127.5
    std: float = 127.5
    order: Literal["rgb", "bgr"] = "rgb"
    layout: Literal["nchw", "nhwc"] = "nchw"

    def __post_init__(self) -> None:
        # Files say these too, hence the types and the upper limit.
        numbers = all(isinstance(v, (int, float)) and math.isfinite(v) for v in (self.mean, self.std))
        if not numbers or self.std == 0 or not isinstance(self.size, int) or not 1 <= self.size <= 4096:
            raise UserError(
                "expected a positive input size up to 4096, a finite mean and a finite non-zero std, "
                f"found size={self.size}, mean={self.mean}, std={self.std}"
            )
        if self.order not in ("rgb", "bgr") or self.layout not in ("nchw", "nhwc"):
            raise UserError(
                f"expected order rgb|bgr and layout nchw|nhwc, found order={self.order}, layout={self.layout}"
            )

    def __call__(self, images: Tensor) -> Tensor:
        """Turn ``[B, 3, H, W] uint8`` RGB into the network's float32 input."""
        import torch  # here, so that an exported file can be run without PyTorch
        import torch.nn.functional as F

        # one layout whatever the loader's: kernels, and with them the last bits of embeddings, depend on it
        pixels = images.to(torch.float32, memory_format=torch.contiguous_format)
        if pixels.shape[-1] != self.size or pixels.shape[-2] != self.size:
            pixels = F.interpolate(pixels, size=(self.size, self.size), mode="area")
        if self.order == "bgr":
            pixels = pixels.flip(1)
        pixels = (pixels - self.mean) / self.std
        return pixels if self.layout == "nchw" else pixels.permute(0, 2, 3, 1).contiguous()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, for files."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Preprocessing:
        """Rebuild from :meth:`to_dict`; an unknown field is an error that names the nearest one."""
        known = [f.name for f in dataclasses.fields(cls)]
        for key in fields:
            if key not in known:
                raise UserError(f"unknown preprocessing field '{key}'{nearest(key, known)}")
        return cls(**fields)
