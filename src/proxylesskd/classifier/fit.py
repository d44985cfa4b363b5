"""Fitted rows: margin softmax on the teacher's cached embeddings, without its backbone.

A class centre knows only its own images. Where two identities are alike their centres stand close, and a student that
learns to sit on its row sits close to the wrong one too. Fitting moves the rows, and nothing else, to where the
teacher's embeddings are told apart best: the last step of the teacher's own training, made up for afterwards.

For the embedding ``x`` of identity ``y``, rows ``W`` and class centres ``c`` to start from, the loss of one sample is

    L = margin softmax(x, W, y) + anchor · s · (1 - W_y·c_y)

with the margin softmax of :mod:`proxylesskd.losses.frozen_softmax`. Rows live on the unit sphere, so they move along
it: by the tangential part of the gradient, then back to unit length. What is summed over the images of an identity is
divided by their number, by ``s`` and by ``1 + anchor``, the strongest that the two terms can pull; the learning rate
so has one meaning whatever the scale, the batch and the number of identities: how far, at most, the own images take a
row in one pass over the data.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from proxylesskd.classifier.embedded import EmbeddedSource
from proxylesskd.data.sampler import batch_indices
from proxylesskd.errors import UserError
from proxylesskd.losses.frozen_softmax import margin_softmax
from proxylesskd.losses.margin import ArcFace, Margin
from proxylesskd.progress import track

STEPS_A_PASS = 16  # at least: rows that all go far at once chase each other


def fit_rows(
    embedded: EmbeddedSource,
    rows: Tensor,
    *,
    margin: Margin | None = None,
    scale: float = 64.0,
    epochs: int = 6,
    batch: int = 512,
    learning_rate: float = 0.5,
    anchor: float = 0.3,
    weights: Tensor | None = None,
    seed: int = 0,
    progress: bool = False,
    device: str | torch.device | None = None,
) -> Tensor:
    """Train rows by margin softmax on cached embeddings; every view of an image is a sample.

    The same arguments give the same bits on one machine. The ``[B, C]`` cosines exist, some five times over: 43 MiB
    for 4,000 identities at 512 samples, 2 GiB for 200,000; a smaller batch takes less and means the same.

    Args:
        embedded: the teacher's embeddings of N images, and their labels; unreadable images are left out.
        rows: ``[C, D]`` where to start: class centres, one per identity; normalised here.
        margin: default ``ArcFace(0.5)``.
        scale: ``s``, > 0.
        epochs: passes over all views.
        batch: samples a step, at most; of few images fewer are taken, so that a pass has steps enough to be stable.
        learning_rate: of the first step; falls linearly to zero. See the module for its meaning.
        anchor: >= 0, how strongly a row is held at its start, against 1 for the pull of an image that it fails; the
            more, the nearer rows stay to the teacher's embeddings, and the less they part from each other.
        weights: ``[N]`` in [0, 1], how much an image counts; default all alike.
        seed: of the order of the samples.
        progress: draw a progress bar.
        device: where to compute; default CUDA where there is one.

    Returns:
        ``[C, D] float32`` unit rows on the CPU. Those of identities without images, or with weights that are all
        zero, are the normalised start; a zero row stays zero.

    Raises:
        UserError: shapes do not fit, or a number is outside its range.
    """
    positive = {"epochs": epochs, "batch": batch, "learning_rate": learning_rate, "scale": scale}
    _check(embedded, rows, weights, positive, anchor)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    margin = margin or ArcFace(0.5)
    start = F.normalize(rows.detach().float(), dim=1).to(device)  # [C, D]
    samples = _Samples(embedded, torch.ones(len(embedded)) if weights is None else weights.float(), seed)
    # The anchor may pull as hard as it likes: the step shrinks so that it never overshoots.
    rates = learning_rate / (1 + anchor) / scale * samples.rates(len(start)).to(device)
    batch = max(1, min(batch, len(samples) // STEPS_A_PASS))
    steps = -(-epochs * len(samples) // batch)
    fitted = start
    for step in track(range(steps), "fitting the rows", quiet=not progress):
        x, y, w = (tensor.to(device) for tensor in samples.take(step, batch))
        gradient = row_gradient(x, y, w, fitted, start, margin=margin, scale=scale, anchor=anchor)
        fitted = move_on_sphere(fitted, gradient, (1 - step / steps) * rates)
    return fitted.cpu()


class _Samples:
    """All views of the images that count, in a seeded order."""

    def __init__(self, embedded: EmbeddedSource, weights: Tensor, seed: int) -> None:
        self.views, self.seed = embedded.views, seed
        self.labels, self.weights = torch.from_numpy(embedded.labels), weights.cpu()
        self.positions = torch.nonzero((self.labels >= 0) & (self.weights > 0)).flatten()

    def __len__(self) -> int:
        return len(self.positions) * int(self.views.shape[1])

    def rates(self, identities: int) -> Tensor:
        """Return ``[C] float32``, one over the weight of all samples of an identity; 0 where there are none."""
        weights = self.weights[self.positions].double() * self.views.shape[1]
        total = torch.zeros(identities, dtype=torch.float64).index_add_(0, self.labels[self.positions], weights)
        return torch.where(total > 0, 1 / total, 0.0).float()

    def take(self, step: int, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return ``[B, D]`` unit embeddings, ``[B]`` labels and ``[B]`` weights of a step."""
        chosen = batch_indices(step, length=len(self), batch=batch, seed=self.seed)
        image, view = np.divmod(chosen, self.views.shape[1])
        where = self.positions[torch.from_numpy(image)]
        embeddings = torch.from_numpy(np.asarray(self.views[where.numpy(), view], np.float32))
        return F.normalize(embeddings, dim=1), self.labels[where], self.weights[where]


def row_gradient(
    embeddings: Tensor,
    labels: Tensor,
    weights: Tensor,
    rows: Tensor,
    start: Tensor,
    *,
    margin: Margin,
    scale: float,
    anchor: float,
) -> Tensor:
    """Return the gradient ``[C, D]`` with respect to the rows of the weighted sum of the losses of a batch.

    Args:
        embeddings: ``[B, D] float32`` unit embeddings.
        labels: ``[B] int64`` in [0, C).
        weights: ``[B] float32``.
        rows: ``[C, D] float32`` unit rows.
        start: ``[C, D] float32`` unit rows that the anchor holds to.
        margin: of the softmax.
        scale: ``s``.
        anchor: see :func:`fit_rows`.
    """
    rows = rows.detach().requires_grad_()
    losses, _ = margin_softmax(embeddings, rows, labels, margin=margin, scale=scale, engine="reference")
    held = 1 - (rows[labels] * start[labels]).sum(dim=1)  # [B]
    (gradient,) = torch.autograd.grad((weights * (losses + anchor * scale * held)).sum(), rows)
    return gradient


def move_on_sphere(rows: Tensor, gradient: Tensor, rates: Tensor) -> Tensor:
    """Go down the tangential part of a gradient and return to unit length.

    Args:
        rows: ``[C, D]`` unit rows.
        gradient: ``[C, D]``.
        rates: ``[C]``; a row whose rate is 0 keeps every bit.
    """
    tangent = gradient - (gradient * rows).sum(dim=1, keepdim=True) * rows
    moved = F.normalize(rows - rates[:, None] * tangent, dim=1)
    return torch.where(rates[:, None] > 0, moved, rows)


def _check(
    embedded: EmbeddedSource, rows: Tensor, weights: Tensor | None, positive: dict[str, float], anchor: float
) -> None:
    expected = (len(embedded.identities), embedded.dim)
    if tuple(rows.shape) != expected or not rows.is_floating_point():
        raise UserError(
            f"expected rows {list(expected)} to start from, one per identity of the embedded source, found "
            f"{list(rows.shape)} {rows.dtype}; take the class centres of the same source"
        )
    if weights is not None and (weights.shape != (len(embedded),) or not bool(((weights >= 0) & (weights <= 1)).all())):
        raise UserError(f"expected a weight in [0, 1] for each of the {len(embedded)} images, found {_told(weights)}")
    for name, value in positive.items():
        if not value > 0:
            raise UserError(f"expected {name} > 0, found {value}")
    if not anchor >= 0:
        raise UserError(f"expected anchor >= 0, found {anchor}")


def _told(weights: Tensor) -> str:
    span = f" from {float(weights.min()):g} to {float(weights.max()):g}" if weights.numel() else ""
    return f"{list(weights.shape)}{span}"
