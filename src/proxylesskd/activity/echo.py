"""PatchEchoClassifier (Kagiyama, Okita; arXiv 2505.22985): a trained tokeniser before a frozen reservoir, two heads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from proxylesskd.models.reservoir import Reservoir


class PatchEcho(nn.Module):
    """The student: windows ``[B, C, T]`` to what two heads say of them.

    A convolution makes tokens of patches. After the last one, the same final state takes one step more with each of
    two learned tokens, that of the class and that of distillation, and a linear head reads each of both states.

    Args:
        channels, out: C, and how many numbers a head says.
        patch, stride: samples of a patch, and from one to the next; 0 for the patch itself (the paper; its release: 1).
        token: dimension of a token; 0 for the patch (the paper).
        hidden: units between a patch and its token, which let it tell energy; 0 for none (the paper).
        size: cells of the reservoir.
        apart: say both heads' ``[B, 2 out]`` side by side, class first; else their mean ``[B, out]``.
        **reservoir: see :class:`proxylesskd.models.reservoir.Reservoir`.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        *,
        patch: int = 16,
        stride: int = 0,
        token: int = 0,
        hidden: int = 0,
        size: int = 200,
        apart: bool = False,
        **reservoir: Any,
    ) -> None:
        super().__init__()
        self.apart, token = apart, token or patch
        self.patches = nn.Conv1d(channels, hidden or token, patch, stride or patch)
        self.bent = nn.Sequential(nn.GELU(), nn.Conv1d(hidden, token, 1)) if hidden else nn.Identity()
        self.reservoir = Reservoir(size, token, **reservoir)
        self.asking = nn.Parameter(torch.zeros(2, token))  # the class token, then the distillation token
        self.heads = nn.ModuleList([nn.Linear(size, out) for _ in range(2)])

    def forward(self, windows: Tensor) -> Tensor:
        """Return what the heads say, ``[B, 2 out]`` apart or ``[B, out]``."""
        return self.answer(self.state(windows))

    def tokens(self, windows: Tensor) -> Tensor:
        """Return a token of each patch, ``[B, N, token]``."""
        found: Tensor = self.bent(self.patches(windows))
        return found.transpose(1, 2)

    def state(self, windows: Tensor) -> Tensor:
        """Return the reservoir's state ``[B, R]`` after all patches."""
        found: Tensor = self.reservoir(self.tokens(windows))
        return found

    def asked(self, state: Tensor) -> list[Tensor]:
        """Return both states ``[B, R]`` that the heads read, one step from a state ``[B, R]``, which stays as it is."""
        return [self.reservoir.step(state, token) for token in self.asking]

    def answer(self, state: Tensor) -> Tensor:
        """Return what the heads say of a state ``[B, R]``."""
        said = [head(read) for head, read in zip(self.heads, self.asked(state), strict=True)]
        return torch.cat(said, dim=1) if self.apart else torch.stack(said).mean(dim=0)
