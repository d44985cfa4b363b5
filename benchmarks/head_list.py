"""The heads that are compared: ours by engine and precision, the floor under them, and the rivals."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import rivals
import torch
from rivals import MARGIN, SCALE, Step
from torch import Tensor, nn

import proxylesskd as pk
from proxylesskd.losses.engines.chunked import CHUNK
from proxylesskd.losses.margin import ArcFace, CosFace
from proxylesskd.losses.rows import Rows, quantise, split

Begin = Callable[[Rows, Tensor], Step]  # stored rows, labels -> what one step does
Store = Callable[[Tensor], Rows]  # [C, D] float32 -> what the head keeps


@dataclass(frozen=True)
class Head:
    """One way to get the loss and its gradient.

    Attributes:
        name: in the tables.
        begin: sets it up.
        store: what it keeps of the rows; the memory that this takes does not count as extra.
        truth: what its loss is: ``"margin"``, ``"straight"`` (the margin with the plain cosine's gradient), ``"plain"``
            (no margin), or ``""`` for what is no loss or an approximation.
        tolerance: largest relative error of loss and gradient before timing.
        rows: copies of ``[C, D]`` float32 that it makes, for skipping what does not fit.
        logits: copies of ``[B, C]`` float32.
        package: that it needs.
    """

    name: str
    begin: Begin
    store: Store
    truth: str
    tolerance: float = 1e-3
    rows: float = 0.0
    logits: float = 0.0
    package: str = "torch"

    def bytes(self, identities: int, batch: int, dim: int) -> float:
        """Return about how many bytes it takes beside the float32 rows that all share."""
        return 4 * identities * (self.rows * dim + self.logits * batch)

    def missing(self, identities: int) -> str:
        """Return why it cannot run, or nothing."""
        if importlib.util.find_spec(self.package) is None:
            return f"needs the package {self.package}"
        if self.package == "quack" and identities % 128:
            return "needs a multiple of 128 identities"
        return ""


def ours(engine: str, *, margin: bool = True) -> Begin:
    """Return our head with one of its engines."""
    chosen = ArcFace(MARGIN) if margin else CosFace(0.0)

    def begin(rows: Rows, labels: Tensor) -> Step:
        def step(embeddings: Tensor) -> Tensor:
            loss = pk.frozen_softmax(embeddings, rows, labels, margin=chosen, scale=SCALE, engine=engine)
            loss.backward()
            return loss

        return step

    return begin


def two_matmuls(chunk: int | None) -> Begin:
    """Return the floor: cosines and their product with the rows, nothing else, whole or over chunks of rows."""

    def begin(rows: Rows, labels: Tensor) -> Step:
        assert isinstance(rows, Tensor)
        size = len(rows) if chunk is None else min(chunk, len(rows))
        cosine = rows.new_empty(size, len(labels))  # [c, B]
        weighted = rows.new_zeros(len(labels), rows.shape[1])  # [B, D]

        def step(embeddings: Tensor) -> Tensor:
            columns = embeddings.detach().to(rows.dtype).T.contiguous()  # [D, B]
            for start in range(0, len(rows), size):
                part = rows[start : start + size]
                torch.mm(part, columns, out=cosine[: len(part)])
                weighted.addmm_(cosine[: len(part)].T, part)
            return weighted

        return step

    return begin


def adadistill(kernel: Rows, labels: Tensor) -> Step:
    """Return AdaDistill's head; a teacher who says what the centres say already leaves them where they are."""
    assert isinstance(kernel, Tensor)
    own = kernel[:, labels].T.clone()
    return rivals.adadistill(kernel, labels, lambda: own)


def as_is(rows: Tensor) -> Tensor:
    """Keep rows as they are."""
    return rows


def transposed(rows: Tensor) -> Tensor:
    """Keep columns instead."""
    return rows.T.contiguous()


def head_list(device: torch.device) -> list[Head]:
    """Return the heads that make sense on a device, the floor first, then ours."""
    return [*_own(device), *_plain(device), *_published(), *_fused(device)]


FLOORS = ("two matmuls, whole", "two matmuls, in chunks")
OURS, OURS_GPU, OFF_GPU = "chunked, float32 rows", "triton, bfloat16 rows", "triton, margin off"
BYTES, HALVES = "chunked, int8 rows", "chunked, bfloat16 rows"
PLAIN = "plain PyTorch, frozen rows"
PLAIN_FOLDED, PLAIN_TRAINED = "plain PyTorch, frozen rows, scale folded in", "plain PyTorch, rows' gradient too"
PFC, PFC_FROZEN = "partial_fc 1.0 as shipped", "partial_fc 1.0, frozen"
SAMPLED = ("partial_fc 0.1 as shipped", "partial_fc 0.1, frozen")
ADADISTILL, LIGER, CCE, QUACK = "AdaDistill's head", "Liger", "Cut Cross-Entropy", "QuACK"


def _own(device: torch.device) -> list[Head]:
    keep = torch.Tensor.bfloat16 if device.type == "cuda" else as_is
    heads = [
        Head(FLOORS[0], two_matmuls(None), keep, "", rows=0.5 if device.type == "cuda" else 0, logits=1),
        Head(FLOORS[1], two_matmuls(CHUNK), keep, "", rows=0.5 if device.type == "cuda" else 0),
        Head("reference", ours("reference"), as_is, "margin", 1e-4, logits=5),
        Head(OURS, ours("chunked"), as_is, "margin", 5e-6),
        Head(HALVES, ours("chunked"), split, "margin", 6e-3, rows=2.5),
        Head(BYTES, ours("chunked"), quantise, "margin", 1e-2, rows=3.5),
    ]
    if device.type == "cuda":
        heads.append(Head(OURS_GPU, ours("triton"), split, "margin", 6e-3, rows=2.5, package="triton"))
        off = ours("triton", margin=False)
        heads.append(Head(OFF_GPU, off, torch.Tensor.bfloat16, "plain", 3e-2, rows=0.5, package="triton"))
    return heads


def _plain(device: torch.device) -> list[Head]:
    gpu = device.type == "cuda"
    keep, error = (torch.Tensor.bfloat16, 0.2) if gpu else (as_is, 1e-3)
    return [
        Head(PLAIN, rivals.plain, keep, "margin", error, rows=0.5 * gpu, logits=5),
        Head(PLAIN_FOLDED, partial(rivals.plain, folded=True), keep, "margin", error, rows=0.5 * gpu, logits=4),
        Head(PLAIN_TRAINED, partial(rivals.plain, trained=True), keep, "margin", error, rows=1 + 0.5 * gpu, logits=5),
        Head("textbook ArcFace", rivals.textbook, as_is, "margin", 1e-2, rows=3.3, logits=11),
    ]


def _published() -> list[Head]:
    return [
        Head(PFC, rivals.partial_fc, as_is, "straight", rows=5.7, logits=4),
        Head(PFC_FROZEN, partial(rivals.partial_fc, frozen=True), as_is, "straight", rows=1.4, logits=4),
        Head(SAMPLED[0], partial(rivals.partial_fc, rate=0.1), as_is, "", rows=3.6, logits=0.4),
        Head(SAMPLED[1], partial(rivals.partial_fc, rate=0.1, frozen=True), as_is, "", rows=0.3, logits=0.4),
        Head(ADADISTILL, adadistill, transposed, "margin", rows=5.7, logits=8),
    ]


def _fused(device: torch.device) -> list[Head]:
    gpu = device.type == "cuda"
    keep, error = (torch.Tensor.bfloat16, 0.2) if gpu else (as_is, 1e-3)
    heads = []
    if hasattr(nn, "LinearCrossEntropyOptions"):
        heads += [
            Head(
                "torch's fused, no margin",
                partial(rivals.torch_fused, one_chunk=False),
                keep,
                "plain",
                error,
                rows=0.5 * gpu,
            ),
            Head(
                "torch's fused in one chunk, no margin",
                partial(rivals.torch_fused, one_chunk=True),
                keep,
                "plain",
                error,
                logits=2,
            ),
        ]
    if gpu:
        half = torch.Tensor.bfloat16
        heads += [
            Head(LIGER, rivals.liger, half, "plain", error, rows=0.5, package="liger_kernel"),
            Head(CCE, rivals.cut_cross_entropy, half, "plain", error, rows=0.5, package="cut_cross_entropy"),
            Head(QUACK, rivals.quack, half, "plain", error, rows=0.5, logits=1, package="quack"),
        ]
    return heads
