"""An approximation, to be chosen by name: only the negatives that matter are evaluated, the rest is sampled.

The rows never move, so each row's nearest rows are known once and for all (:mod:`proxylesskd.losses.nearest_rows`). A
step evaluates exactly, for every sample of the batch, the union of the samples' own rows and their nearest ones; of all
other rows it evaluates a uniform sample, whose exponentials stand for the rest: ``Σ_rest exp(l_j) ≈ |rest| / |sample|
Σ_sample exp(l_j)``, the importance weight of a sampled softmax (Jean et al., arXiv 1412.2007), here without bias in the
sum. The loss, its logarithm, keeps a small one, and the gradient differs; :meth:`Neighbours.gap` measures both.

Rows nearer than a threshold are taken for the same person under two names, and never push each other's samples away.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from proxylesskd.errors import UserError
from proxylesskd.losses.engines.chunked import Chunked, Masked, sums
from proxylesskd.losses.engines.engine import Bend, Engine, Sums, frozen_lse
from proxylesskd.losses.nearest_rows import DUPLICATE, NearestRows
from proxylesskd.losses.rows import CompactRows, Rows, codes_of, gather, in_bytes

PIECE = 8192  # rows gathered at a time: [8192, 512] float32 is 16 MiB

Losses = Callable[[Tensor, Engine], Tensor]


@dataclass(frozen=True)
class Chosen:
    """What one step evaluates.

    Attributes:
        near: ``[n] int64``, sorted and distinct: the batch's own rows and their nearest.
        drawn: ``[m] int64``, sorted: a uniform sample of all others; the same row may stand in it twice.
        weight: how many of the others each drawn one stands for.
        masked: samples ``[P]`` and places in ``near`` ``[P]`` that do not meet: own rows and their duplicates.
    """

    near: Tensor
    drawn: Tensor
    weight: float
    masked: Masked


class Neighbours:
    """The engine that evaluates nearest rows and a sample of the others; an approximation of the exact ones.

    What a batch draws is a function of its labels and the seed, so that a resumed training repeats it.

    Args:
        table: the nearest rows of the very rows that it will be used with.
        sample: share of the other rows that is drawn, in [0, 1]; 1 is exact but for duplicates, 0 leaves them out.
        seed: of the draws.
        duplicate: cosine from which rows in the table are taken for the same person; above 1 for never.

    Raises:
        UserError: the sample is no share.
    """

    def __init__(
        self, table: NearestRows, *, sample: float = 0.01, seed: int = 0, duplicate: float = DUPLICATE
    ) -> None:
        if not 0.0 <= sample <= 1.0:
            raise UserError(f"expected a sample in [0, 1], the share of the other rows that is drawn, found {sample}")
        self.table, self.sample, self.seed, self.duplicate = table, sample, seed, duplicate

    def count(self, rows: Rows) -> int:
        """See :class:`proxylesskd.losses.engines.engine.Engine`."""
        return rows.shape[0]

    def own(self, rows: Rows, labels: Tensor, dtype: torch.dtype) -> Tensor:
        """See :class:`proxylesskd.losses.engines.engine.Engine`."""
        return gather(rows, labels, dtype)

    def mean_row(self, rows: Rows, dtype: torch.dtype) -> Tensor:
        """See :class:`proxylesskd.losses.engines.engine.Engine`; of all rows, exactly."""
        return Chunked().mean_row(rows, dtype)

    def negatives(
        self, unit: Tensor, rows: Rows, labels: Tensor, scale: float, bend: Bend | None = None
    ) -> tuple[Tensor, Tensor]:
        """See :class:`proxylesskd.losses.engines.engine.Engine`; the largest cosine is that of the evaluated rows.

        Raises:
            UserError: the rows require a gradient, the table belongs to another number of rows, or it is damaged.
        """
        _check(self.table, rows)
        if self.sample == 1.0:
            found = sums(unit.detach(), rows, self._apart(labels), scale, bend)
        else:
            found = self._sampled(unit.detach(), rows, labels, scale, bend)
        return frozen_lse(found, unit, scale), found.best

    def choose(self, labels: Tensor) -> Chosen:
        """Return what a batch with these labels ``[B] int64`` evaluates.

        Raises:
            UserError: the table names rows that there are none of.
        """
        own = labels.cpu().numpy()
        near = np.union1d(self.table.rows[own], own).astype(np.int64)
        if near[0] < 0 or near[-1] >= self.table.count:
            raise UserError(
                f"expected neighbours in [0, {self.table.count}), found {near[0]} to {near[-1]}; the table of nearest "
                "rows is damaged: remove it and search anew"
            )
        drawn = _draw(near, self.table.count, self.sample, _generator(self.seed, own))
        weight = (self.table.count - len(near)) / max(len(drawn), 1)
        samples, rows = self._apart(labels)
        on_device = torch.from_numpy(near).to(labels.device)
        masked = samples, torch.searchsorted(on_device, rows)
        return Chosen(on_device, torch.from_numpy(drawn).to(labels.device), weight, masked)

    def _apart(self, labels: Tensor) -> Masked:
        """Return samples ``[P]`` and rows ``[P]`` that do not meet: each sample's own row and that row's duplicates."""
        own = labels.cpu().numpy()
        samples, column = np.nonzero(self.table.cosines[own] >= self.duplicate)
        rows = np.concatenate([own, self.table.rows[own[samples], column].astype(np.int64)])
        samples = np.concatenate([np.arange(len(own)), samples])
        return torch.from_numpy(samples).to(labels.device), torch.from_numpy(rows).to(labels.device)

    def _sampled(self, unit: Tensor, rows: Rows, labels: Tensor, scale: float, bend: Bend | None) -> Sums:
        chosen = self.choose(labels)
        found = _sums_of(unit, rows, chosen.near, chosen.masked, scale, bend)
        if not len(chosen.drawn):
            return found
        nobody = chosen.drawn[:0]
        drawn = _sums_of(unit, rows, chosen.drawn, (nobody, nobody), scale, bend)
        return _join(found, drawn, chosen.weight)

    def gap(self, embeddings: Tensor, losses: Losses) -> dict[str, Tensor]:
        """Measure on one batch how far this is from evaluating all rows, duplicates masked in both.

        Args:
            embeddings: ``[B, D]``; no gradient reaches them.
            losses: ``(embeddings, engine) -> [B]``, the losses of the samples.

        Returns:
            ``neighbours_loss_gap``, the mean loss minus the exact one, in nats, and ``neighbours_gradient_cosine``,
            the mean over the samples of the cosine between both gradients in the embedding.
        """
        ours, gradient = _with_gradient(embeddings, losses, self)
        exact, exact_gradient = _with_gradient(
            embeddings, losses, Neighbours(self.table, sample=1.0, duplicate=self.duplicate)
        )
        return {
            "neighbours_loss_gap": (ours - exact).mean(),
            "neighbours_gradient_cosine": gradient_cosine(gradient, exact_gradient).mean(),
        }


def gradient_cosine(gradient: Tensor, exact: Tensor) -> Tensor:
    """Return ``[B]`` cosines of gradients ``[B, D]``, however short these are; 0 where one vanishes."""
    return F.cosine_similarity(gradient.double(), exact.double(), dim=1, eps=torch.finfo(torch.float64).tiny)


def _check(table: NearestRows, rows: Rows) -> None:
    if rows.requires_grad:
        raise UserError(
            "expected frozen rows, found rows that require a gradient: their neighbours would change; "
            "use engine='reference' to train them"
        )
    if rows.shape[0] != table.count:
        raise UserError(
            f"expected the {table.count} rows that the table of nearest rows was made of, found {rows.shape[0]}; "
            "search the nearest rows of this classifier"
        )


def _generator(seed: int, labels: np.ndarray) -> np.random.Generator:
    """Return random numbers that depend on the seed and the set of labels alone."""
    digest = hashlib.sha256(f"{seed} ".encode() + np.sort(labels).tobytes()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def _draw(near: np.ndarray, count: int, share: float, random: np.random.Generator) -> np.ndarray:
    """Return ``[m] int64``, sorted, of the rows in [0, count) that are not in ``near [n]``, sorted and distinct.

    One draw from each of m equal strata of the others: every row is as likely as any, they come sorted, and the cost
    is O(m + n), not O(count).
    """
    others = count - len(near)
    number = math.ceil(share * others)
    place = (np.arange(number) + random.random(number)) * (others / max(number, 1))  # in [0, others)
    rank = np.minimum(place.astype(np.int64), others - 1)
    # Before the i-th near row lie near[i] - i others; counting these turns the r-th other row into its number.
    return rank + np.searchsorted(near - np.arange(len(near)), rank, side="right")


def _sums_of(unit: Tensor, rows: Rows, chosen: Tensor, masked: Masked, scale: float, bend: Bend | None) -> Sums:
    """Sum over the rows ``chosen [n >= 1]``, gathered piece by piece; ``masked`` names places among them."""
    samples, places = masked
    count, found = rows.shape[0], None
    for start in range(0, len(chosen), PIECE):
        part = _take(rows, chosen[start : start + PIECE])
        piece = sums(unit, part, (samples, places - start), scale, bend, count=count)
        found = piece if found is None else _join(found, piece, 1.0)
    assert found is not None  # every batch has own rows
    return found


def _take(rows: Rows, chosen: Tensor) -> Rows:
    """Return ``[n, D]`` rows as they are stored; sorted numbers read a memory-mapped file in its order."""
    # Residuals are for own rows, and those are not negatives: nothing reads them here.
    codes = codes_of(rows).index_select(0, chosen)
    return CompactRows(codes, rows.fine[:0], rows.steps.index_select(0, chosen)) if in_bytes(rows) else codes


def _join(first: Sums, second: Sums, weight: float) -> Sums:
    """Add sums over different rows, the second ones ``weight`` times."""
    shift = torch.maximum(first.shift, second.shift)
    one, other = torch.exp(first.shift - shift), weight * torch.exp(second.shift - shift)
    return Sums(
        total=one * first.total + other * second.total,
        weighted=one[:, None] * first.weighted + other[:, None] * second.weighted,
        best=torch.maximum(first.best, second.best),
        shift=shift,
    )


def _with_gradient(embeddings: Tensor, losses: Losses, engine: Engine) -> tuple[Tensor, Tensor]:
    """Return losses ``[B]`` and their gradients ``[B, D]``; each loss depends on its own embedding alone."""
    leaf = embeddings.detach().requires_grad_()
    with torch.enable_grad():
        found = losses(leaf, engine)
        (gradient,) = torch.autograd.grad(found.sum(), leaf)
    return found.detach(), gradient
