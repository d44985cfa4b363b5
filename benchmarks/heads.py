"""Heads over a frozen classifier against each other: time, memory and exactness of loss and gradient.

    python benchmarks/heads.py --identities 10000 100000 1000000 --batch 128 512 --threads 2
    python benchmarks/heads.py --device cuda --identities 360448 1000064 --batch 512 1024

Every head is first checked against float64 on a small problem; then all run interleaved, in random order, and each
once more in a process of its own, for its memory. Prints a Markdown table for every shape, and the goals that they were
built for. ArcFace of margin 0.5 and scale 64 throughout, where a head has a margin.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial

import torch
import torch.nn.functional as F
from goals import Goal, Shape, Table, cheaper, summary
from head_list import (
    ADADISTILL,
    BYTES,
    CCE,
    FLOORS,
    HALVES,
    LIGER,
    OFF_GPU,
    OURS,
    OURS_GPU,
    PFC,
    PFC_FROZEN,
    PLAIN,
    PLAIN_FOLDED,
    QUACK,
    SAMPLED,
    Head,
    head_list,
)
from interleave import interleave, ratio
from memory_of import peak_of
from rivals import SCALE, arcface
from torch import Tensor

from proxylesskd.training.allocator import keep_freed_memory

GATE = Shape(10_112, 64)  # a multiple of 128, which some heads need, and not of the chunks

CPU_GOALS = (
    Goal("of the two matmuls", OURS, 1.25, FLOORS, at_most=True, where=lambda s: s.identities >= 100_000),
    Goal("against plain PyTorch, frozen rows", OURS, 0.95, (PLAIN,), where=lambda s: s.identities < 100_000),
    Goal("against plain PyTorch, frozen rows", OURS, 1.6, (PLAIN,), where=lambda s: 1e5 <= s.identities < 1e6),
    Goal("against plain PyTorch, frozen rows", OURS, 2.0, (PLAIN,), where=lambda s: s.identities >= 1e6),
    Goal("against the same, scale folded in", OURS, 0.95, (PLAIN_FOLDED,), where=lambda s: s.identities < 100_000),
    Goal("against the same, scale folded in", OURS, 1.6, (PLAIN_FOLDED,), where=lambda s: 1e5 <= s.identities < 1e6),
    Goal("against the same, scale folded in", OURS, 2.0, (PLAIN_FOLDED,), where=lambda s: s.identities >= 1e6),
    Goal("against partial_fc 1.0 as shipped", OURS, 6.0, (PFC,), where=lambda s: s.identities >= 1e5),
    Goal("against partial_fc 1.0, frozen", OURS, 2.0, (PFC_FROZEN,), where=lambda s: s.identities >= 1e5),
    Goal("against AdaDistill's head", OURS, 4.0, (ADADISTILL,)),
    Goal("extra memory", OURS, 32.0),
    Goal(
        "int8 rows against plain PyTorch, frozen rows", BYTES, 1.6, (PLAIN,), where=lambda s: 1e5 <= s.identities < 1e6
    ),
    Goal("int8 rows against plain PyTorch, frozen", BYTES, 2.0, (PLAIN,), where=lambda s: s.identities >= 1e6),
    Goal("int8 rows against partial_fc 1.0 as shipped", BYTES, 6.0, (PFC,), where=lambda s: s.identities >= 1e5),
    Goal("extra memory, bfloat16 rows", HALVES, 32.0),
    Goal("extra memory, int8 rows", BYTES, 32.0),
)


def large(shape: Shape) -> bool:
    """Say whether the goals on a GPU mean this shape."""
    return shape.identities >= 360_000 and shape.batch >= 512


GPU_GOALS = (
    Goal("of the two matmuls", OURS_GPU, 1.8, FLOORS, at_most=True, where=large),
    Goal("of the two matmuls, stretch", OURS_GPU, 1.4, FLOORS, at_most=True, where=large),
    Goal("against plain PyTorch, frozen rows", OURS_GPU, 2.5, (PLAIN,), where=large),
    Goal("against QuACK, margin off", OFF_GPU, 1.0, (QUACK,), where=large),
    Goal("against Liger, margin off", OFF_GPU, 2.0, (LIGER,), where=large),
    Goal("against Cut Cross-Entropy, margin off", OFF_GPU, 2.0, (CCE,), where=large),
    Goal("extra memory", OURS_GPU, 64.0),
)


def make_rows(shape: Shape, dim: int, device: torch.device) -> Tensor:
    """Return ``[C, D]`` random unit rows."""
    generator = torch.Generator(device).manual_seed(1)
    rows = torch.empty(shape.identities, dim, device=device)
    for part in rows.split(65536):  # so that making them takes no second copy
        part.normal_(generator=generator)
        part.div_(part.norm(dim=1, keepdim=True))
    return rows


def make_batch(rows: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    """Return ``[B, D]`` embeddings at cosines of 0.05 to 0.8 to their own rows, and ``[B]`` labels."""
    generator = torch.Generator().manual_seed(2)
    labels = torch.randint(len(rows), (batch,), generator=generator)
    noise = F.normalize(torch.randn(batch, rows.shape[1], generator=generator), dim=1).to(rows.device)
    cosine = torch.linspace(0.05, 0.8, batch, device=rows.device)[:, None]
    labels = labels.to(rows.device)
    own = rows[labels]
    across = F.normalize(noise - (noise * own).sum(dim=1, keepdim=True) * own, dim=1)
    embeddings = 20 * (cosine * own + (1 - cosine**2).sqrt() * across)
    return embeddings.requires_grad_(), labels


def exactly(embeddings: Tensor, rows: Tensor, labels: Tensor, truth: str) -> tuple[Tensor, Tensor]:
    """Return the mean loss and its ``[B, D]`` gradient, in float64 through autograd."""
    wide = embeddings.detach().double().requires_grad_()
    cosine = F.normalize(wide, dim=1) @ F.normalize(rows.double(), dim=1).T
    own = cosine.gather(1, labels[:, None])
    margined = own if truth == "plain" else arcface(own)
    if truth == "straight":
        margined = own + (margined - own).detach()
    loss = F.cross_entropy(SCALE * cosine.scatter(1, labels[:, None], margined), labels)
    loss.backward()
    assert wide.grad is not None
    return loss.detach(), wide.grad


@cache
def gate(head: Head, dim: int, device: torch.device) -> float:
    """Return the relative error of a head's gradient on a small problem; stop where a head is wrong."""
    rows = make_rows(GATE, dim, device)
    embeddings, labels = make_batch(rows, GATE.batch)
    loss, gradient = exactly(embeddings, rows, labels, head.truth)
    found = float(head.begin(head.store(rows.clone()), labels)(embeddings).detach())
    assert embeddings.grad is not None
    error = float((embeddings.grad.double() - gradient).norm() / gradient.norm())
    if not (error <= head.tolerance and abs(found / float(loss) - 1) <= head.tolerance):
        raise SystemExit(f"{head.name}: loss {found} instead of {float(loss)}, gradient wrong by {error:.1e}")
    return error


def set_up(head: Head, rows: Tensor, batch: int) -> Callable[[], object]:
    """Return one step of a head on its own copy of what it stores."""
    embeddings, labels = make_batch(rows, batch)
    step = head.begin(head.store(rows), labels)

    def run() -> None:
        embeddings.grad = None
        step(embeddings)

    return run


def memory_here(head: Head, shape: Shape, dim: int, device: torch.device) -> float:
    """Return MB beyond the stored rows at the peak of two steps, in this process."""
    stored = head.store(make_rows(shape, dim, device))
    small = make_rows(GATE, dim, device)  # threads and libraries take their own memory at first use
    head.begin(head.store(small), make_batch(small, 8)[1])(make_batch(small, 8)[0])
    generator = torch.Generator().manual_seed(2)
    labels = torch.randint(shape.identities, (shape.batch,), generator=generator).to(device)
    embeddings = torch.randn(shape.batch, dim, generator=generator).to(device).requires_grad_()

    def two_steps() -> None:
        step = head.begin(stored, labels)
        for _ in range(2):
            embeddings.grad = None
            step(embeddings)

    return peak_of(two_steps, device)


def memory_apart(head: Head, shape: Shape, args: argparse.Namespace) -> float:
    """Return what :func:`memory_here` finds in a fresh process."""
    command = [sys.executable, __file__, "--memory-of", head.name, "--identities", str(shape.identities)]
    command += ["--batch", str(shape.batch), "--dim", str(args.dim), "--threads", str(args.threads)]
    command += ["--device", str(args.device)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(shape: Shape, rows: Tensor, heads: list[Head], args: argparse.Namespace) -> Table:
    """Check, time and weigh every head that fits."""
    table, chosen = Table(), []
    for head in heads:
        needed = (4 * rows.numel() + head.bytes(*shape, args.dim)) / 1e9
        why = head.missing(shape.identities)
        why = why or (f"would need about {needed:.0f} GB" if needed > args.limit else "")
        if why:
            table.notes.append(f"{head.name}: left out, {why}")
            continue
        if head.truth:
            table.errors[head.name] = gate(head, args.dim, rows.device)
        chosen.append(head)
    steps = {head.name: partial(set_up, head, rows, shape.batch) for head in chosen}
    table.timings = interleave(steps, rounds=args.rounds, seconds=args.seconds, device=rows.device)
    return table


def lines(shape: Shape, table: Table, ours: str, clock: str) -> Iterator[str]:
    """Yield one shape's Markdown table."""
    yield f"\n### {shape}\n"
    yield f"| head | gradient off by | ms | CPU ms | times '{ours}' | extra MB | rounds |"
    yield "|---|---|---|---|---|---|---|"
    for name, timing in table.timings.items():
        error = f"{table.errors[name]:.0e}" if name in table.errors else "-"
        memory = f"{table.memory[name]:.0f}" if name in table.memory else "-"
        against = ratio(timing, table.timings[ours], clock) if ours in table.timings else "-"
        spent = f"{1e3 * timing.median():.1f} | {1e3 * timing.median('cpu'):.1f}"
        yield f"| {name} | {error} | {spent} | {against} | {memory} | {timing.rounds} |"
    yield from (f"- {note}" for note in table.notes)


def report(tables: Mapping[Shape, Table], device: torch.device, clock: str) -> Iterator[str]:
    """Yield the goals, and where sampling is cheaper."""
    gpu = device.type == "cuda"
    yield f"\n### Goals, by {clock} time\n"
    yield from summary(GPU_GOALS if gpu else CPU_GOALS, tables, clock)
    yield "\nHeads that look at a tenth of the classes only, and are no exact softmax:\n"
    yield from cheaper(OURS_GPU if gpu else OURS, SAMPLED, tables, clock)


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--identities", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--batch", type=int, nargs="+", default=[128])
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=60.0, help="a head slower than that gets 3 rounds or more")
    parser.add_argument("--limit", type=float, default=14.0, help="GB; heads that need more are left out")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="of the ratios; cpu on a busy machine")
    parser.add_argument("--only", nargs="+", help="parts of the names of heads")
    parser.add_argument("--no-memory", action="store_true", help="do not start processes that measure memory")
    parser.add_argument("--keep-freed-memory", action="store_true", help="as `proxylesskd` sets the allocator")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Parse, measure, print."""
    args = parse()
    torch.set_num_threads(args.threads)
    if args.keep_freed_memory:
        keep_freed_memory()
    heads = [head for head in head_list(args.device) if not args.only or any(p in head.name for p in args.only)]
    if args.memory_of:
        (head,) = (head for head in heads if head.name == args.memory_of)
        print(memory_here(head, Shape(args.identities[0], args.batch[0]), args.dim, args.device))
        return
    tables = {}
    print(f"torch {torch.__version__}, {args.device}, {args.threads} threads, D={args.dim}, float32 unless said")
    for identities in args.identities:
        rows = make_rows(Shape(identities, 0), args.dim, args.device)
        for batch in args.batch:
            shape = Shape(identities, batch)
            tables[shape] = measure(shape, rows, heads, args)
        del rows  # the processes below have their own
        for shape in (shape for shape in tables if shape.identities == identities):
            if not args.no_memory:
                known = {head.name: head for head in heads}
                tables[shape].memory = {n: memory_apart(known[n], shape, args) for n in tables[shape].timings}
            print(
                "\n".join(lines(shape, tables[shape], OURS_GPU if args.device.type == "cuda" else OURS, args.clock)),
                flush=True,
            )
    print("\n".join(report(tables, args.device, args.clock)))


if __name__ == "__main__":
    main()
