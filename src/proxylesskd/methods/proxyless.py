"""ProxylessKD (Shi, Ren, Chen, Yan; arXiv 2011.00265): learn recognition inside the teacher's embedding space."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Protocol

import torch
from torch import Tensor, nn

from proxylesskd.losses.engines.chunked import Chunked
from proxylesskd.losses.engines.engine import Engine
from proxylesskd.losses.engines.neighbours import Neighbours
from proxylesskd.losses.frozen_softmax import margin_softmax
from proxylesskd.losses.margin import Margin
from proxylesskd.losses.rows import Rows
from proxylesskd.methods.method import Batch, Seen
from proxylesskd.models.modes import evaluating


class Frozen(Protocol):
    """What a method must know of a classifier, whole or a part of it; a module of buffers that are never trained.

    As a part of a method it moves with it. A checkpoint keeps its fingerprint alone, and refuses other rows.
    """

    @property
    def stored(self) -> Rows:
        """``[C, D]`` rows of unit length."""
        ...


class Proxyless(nn.Module):
    """The student meets the teacher's frozen classifier and labels; the teacher itself is never run.

    Args:
        classifier: the inherited rows, ``[C, D]``, D being the student's dimension; with ``engine = Sharded(…)`` this
            process's part of them, see :class:`proxylesskd.classifier.shard.ClassifierShard`.
        margin: on the cosine with the own row.
        scale: ``s`` of the softmax.
        engine: see :func:`proxylesskd.losses.frozen_softmax.margin_softmax`.
        smoothing: of the labels, ``ε`` in [0, 1).
        gap_every: steps between two comparisons of an approximate engine with the exact loss; 0 for none.
    """

    needs: frozenset[str] = frozenset()

    def __init__(
        self,
        *,
        classifier: Frozen,
        margin: Margin,
        scale: float = 64.0,
        engine: str | Engine = "auto",
        smoothing: float = 0.0,
        gap_every: int = 0,
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.margin, self.scale, self.engine, self.smoothing = margin, scale, engine, smoothing
        self.gap_every = gap_every
        self._mean_row: Tensor | None = None

    def loss(self, seen: Seen, batch: Batch) -> dict[str, Tensor]:
        """Return the mean margin softmax through the frozen rows, and the accuracy without margin.

        With an approximate engine, some steps also tell how far it is from the exact loss, see
        :meth:`proxylesskd.losses.engines.neighbours.Neighbours.gap`.
        """
        embeddings, labels = seen.general(batch)
        losses, correct = self._softmax(embeddings, labels, self.engine)
        told = {"loss": losses.mean(), "accuracy": correct.float().mean()}
        if isinstance(self.engine, Neighbours) and self.gap_every > 0 and batch.step % self.gap_every == 0:
            # a second look at the batch must not move the margin's state
            with evaluating(self.margin) if isinstance(self.margin, nn.Module) else nullcontext():
                told |= self.engine.gap(embeddings, lambda x, engine: self._softmax(x, labels, engine)[0])
        return told

    def _softmax(self, embeddings: Tensor, labels: Tensor, engine: str | Engine) -> tuple[Tensor, Tensor]:
        return margin_softmax(
            embeddings,
            self.classifier.stored,
            labels,
            margin=self.margin,
            scale=self.scale,
            engine=engine,
            smoothing=self.smoothing,
            mean_row=self._mean(embeddings.device) if self.smoothing > 0 else None,
        )

    def _mean(self, device: torch.device) -> Tensor:
        """Return ``[D]``, the mean of all rows, taken once: they never move."""
        if self._mean_row is None or self._mean_row.device != device:
            engine = Chunked() if isinstance(self.engine, str) else self.engine
            self._mean_row = engine.mean_row(self.classifier.stored, torch.float32)
        return self._mean_row
