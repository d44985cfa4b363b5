"""The frozen recurrence of an echo state network: drawn once, scaled to a spectral radius, never trained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from proxylesskd.errors import UserError


def spectral_radius(matrix: Tensor) -> float:
    """Return the largest absolute eigenvalue of a square matrix, by all of them, in float64."""
    return float(np.abs(np.linalg.eigvals(matrix.double().numpy())).max())


def draw(size: int, inputs: int, radius: float, density: float, scale: float, seed: int) -> tuple[Tensor, Tensor]:
    """Draw ``W_res [R, R]``, with a share ``density`` of entries that are not zero, and ``W_in [R, P]`` in ``±scale``.

    Both are uniform around zero; ``W_res`` is rescaled to its spectral radius, exact up to rounding.

    Raises:
        UserError: a value is out of range, or so sparse a matrix has no eigenvalue but zero.
    """
    random = torch.Generator().manual_seed(seed)
    recurrent = torch.rand(size, size, generator=random, dtype=torch.float64) - 0.5
    recurrent *= torch.rand(size, size, generator=random) < density
    found = spectral_radius(recurrent)
    if not (radius > 0 and 0 < density <= 1 and scale > 0 and found > 1e-9):
        raise UserError(
            "expected radius and scale above 0 and a density in (0, 1] at which a reservoir echoes, "
            f"found {radius}, {scale} and {density} for {size} cells"
        )
    arriving = scale * (2.0 * torch.rand(size, inputs, generator=random) - 1.0)
    return (recurrent * (radius / found)).float(), arriving


class Reservoir(nn.Module):
    """``h_t = (1 - a) h_{t-1} + a tanh(W_res h_{t-1} + W_in x_t)``, ``h_0 = 0``; all of it buffers.

    Kagiyama, Okita (arXiv 2505.22985) have no leak, ``a = 1``. A cell with leak ``a`` averages over ``1 / a`` tokens.

    Args:
        size: cells, R.
        inputs: dimension of a token, P.
        leaks: ``a`` in (0, 1], in equal shares over the cells.
        seed: of both matrices; None leaves them zero, to be loaded.
        radius, density, scale: see :func:`draw`.
    """

    recurrent: Tensor
    arriving: Tensor
    leak: Tensor

    def __init__(
        self,
        size: int,
        inputs: int,
        *,
        leaks: Sequence[float] = (1.0,),
        seed: int | None = 0,
        radius: float = 0.9,
        density: float = 1.0,
        scale: float = 0.5,
    ) -> None:
        super().__init__()
        if not leaks or not all(0 < leak <= 1 for leak in leaks):
            raise UserError(f"expected leaks in (0, 1], found {list(leaks)}")
        empty = torch.zeros(size, size), torch.zeros(size, inputs)
        recurrent, arriving = empty if seed is None else draw(size, inputs, radius, density, scale, seed)
        self.register_buffer("recurrent", recurrent)  # [R, R]
        self.register_buffer("arriving", arriving)  # [R, P]
        self.register_buffer("leak", torch.tensor(list(leaks))[torch.arange(size) * len(leaks) // size])  # [R]

    def step(self, state: Tensor, token: Tensor) -> Tensor:
        """Return the state ``[B, R]`` after one more token ``[B, P]``, or ``[P]``, the same for all."""
        heard = torch.tanh(state @ self.recurrent.T + token @ self.arriving.T)
        return state + self.leak * (heard - state)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the state ``[B, R]`` after the tokens ``[B, N, P]``."""
        state = tokens.new_zeros(tokens.shape[0], self.leak.shape[0])  # no len: exporting would fix the batch
        for token in tokens.unbind(1):
            state = self.step(state, token)
        return state
