"""Whole training steps: what the student itself costs, and what each way to distil adds to it.

    python benchmarks/steps.py backbones --models mobilefacenet iresnet18 iresnet50 --threads 2
    python benchmarks/steps.py whole --identities 10000 100000 --threads 2
    python benchmarks/steps.py backbones --device cuda --batch 256 --models mobilefacenet iresnet18 iresnet50 iresnet100

`backbones` times a plain step (forward, backward of a given gradient at the embedding, SGD) with and without
channels-last layout, bfloat16 autocast and compiling. `whole` times a ProxylessKD step against the student's plain step
and against distilling from a live IResNet-50. All variants of a table run interleaved in one process.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import rivals
import torch
import torch.nn.functional as F
from goals import Goal, Shape, Table, summary
from interleave import Run, Timing, interleave, ratio, timed
from torch import Tensor, nn

import proxylesskd as pk
from proxylesskd.losses.frozen_softmax import margin_softmax
from proxylesskd.losses.margin import ArcFace
from proxylesskd.losses.rows import Rows, quantise
from proxylesskd.models.prelu import PReLU
from proxylesskd.models.registry import memory_format_of
from proxylesskd.training.allocator import keep_freed_memory
from proxylesskd.training.compile import compiled, wants_compile
from proxylesskd.training.optimiser import make_optimiser
from proxylesskd.training.update import make_autocast

DIM, SIZE = 512, 112
STUDENT, TEACHER, NOTABLE = "mobilefacenet", "iresnet50", 1.03
ALONE, PROXYLESS, ADADISTILL = "the student alone", "ProxylessKD", "AdaDistill as released"
PROXYLESS_BYTES = "ProxylessKD, int8 rows"

Learn = Callable[[Tensor], object]  # from [B, D] embeddings, backward pass included


@dataclass(frozen=True)
class Setting:
    """How a step is run.

    Attributes:
        channels_last: layout of images and weights.
        bf16: under bfloat16 autocast.
        compiled: by torch.compile.
    """

    channels_last: bool = False
    bf16: bool = False
    compiled: bool = False

    def __str__(self) -> str:
        parts = [name for name in ("channels_last", "bf16", "compiled") if getattr(self, name)]
        return " + ".join(parts).replace("_", " ") or "plain"


SETTINGS = (
    Setting(),
    Setting(channels_last=True),
    Setting(channels_last=True, bf16=True),
    Setting(compiled=True),
    Setting(channels_last=True, compiled=True),
    Setting(channels_last=True, bf16=True, compiled=True),
)


def by_default(model: nn.Module, device: torch.device) -> Setting:
    """Return what a recipe does that says nothing about it."""
    with make_autocast("auto", device)():
        bf16 = torch.is_autocast_enabled(device.type)
    return Setting(memory_format_of(model) == torch.channels_last, bf16, wants_compile("auto", device))


def step_of(model: nn.Module, images: Tensor, setting: Setting, learn: Learn) -> Run:
    """Return one step of a student: forward, ``learn`` from its embeddings, SGD."""
    layout = torch.channels_last if setting.channels_last else torch.contiguous_format
    model.train().to(memory_format=layout)
    images = images.contiguous(memory_format=layout)
    optimiser = make_optimiser(model.named_parameters(), lr=1e-4)
    autocast = make_autocast("bf16" if setting.bf16 else "off", images.device)

    def run() -> None:
        optimiser.zero_grad(set_to_none=True)
        with autocast():
            embeddings = model(images)
        learn(embeddings)
        optimiser.step()

    return run


def along(gradient: Tensor) -> Learn:
    """Learn nothing, for nothing: the gradient at the ``[B, D]`` embeddings is given."""
    return lambda embeddings: embeddings.backward(gradient.to(embeddings.dtype))


def make_images(batch: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return ``[B, 3, 112, 112]`` images and a ``[B, D]`` gradient."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, SIZE, SIZE, generator=generator)
    return images.to(device), (torch.randn(batch, DIM, generator=generator) / batch).to(device)


def new_model(name: str, device: torch.device) -> nn.Module:
    """Return a network with the same weights every time."""
    torch.manual_seed(0)
    return pk.create_model(name, dim=DIM).to(device)


def time_backbone(name: str, args: argparse.Namespace) -> tuple[dict[str, Timing], dict[str, float], Setting]:
    """Return the timings of every setting, the seconds of its first step, and the recipe's setting."""
    images, gradient = make_images(args.batch, args.device)
    runs: dict[str, Run] = {}
    first: dict[str, float] = {}
    with ExitStack() as stack:
        for setting in chosen_settings(args):
            model = new_model(name, args.device)
            stack.enter_context(compiled(model, setting.compiled))
            runs[str(setting)] = step_of(model, images, setting, along(gradient))
            first[str(setting)], _ = timed(runs[str(setting)], args.device, least=0.0)
        found = interleave(ready(runs), rounds=args.rounds, seconds=args.seconds, device=args.device)
    return found, first, by_default(model, args.device)


def ready(runs: Mapping[str, Run]) -> dict[str, Callable[[], Run]]:
    """Return what :func:`interleave` wants of steps that are set up already."""
    return {name: partial(runs.__getitem__, name) for name in runs}


def chosen_settings(args: argparse.Namespace) -> list[Setting]:
    """Return the settings that are measured."""
    return [s for s in SETTINGS if not (args.no_compile and s.compiled) and not (args.no_bf16 and s.bf16)]


def backbone_lines(name: str, args: argparse.Namespace) -> Iterator[str]:
    """Yield one row per setting, and a last one where the recipe's is not the fastest."""
    found, first, default = time_backbone(name, args)
    for setting, timing in found.items():
        mark = " (the recipe's)" if setting == str(default) else ""
        rate, speed = args.batch / timing.median(args.clock), ratio(found["plain"], timing, args.clock)
        yield f"| {name} | {setting}{mark} | {rate:.1f} | {speed} | {first[setting]:.1f} | {timing.rounds} |"
    best = min(found, key=lambda setting: found[setting].median(args.clock))
    if str(default) in found and ratio(found[str(default)], found[best], args.clock).low > NOTABLE:
        yield f"| {name} | '{best}' is faster than the recipe's | | | | |"


def backbones(args: argparse.Namespace) -> None:
    """Print images per second of every model and setting."""
    print("| model | setting | images/s | times as fast as plain | first step, s | rounds |\n|---|---|---|---|---|---|")
    for name in args.models or pk.list_models():
        torch.compiler.reset()
        print("\n".join(backbone_lines(name, args)), flush=True)


def released(model: nn.Module) -> nn.Module:
    """Put PyTorch's own PReLU into a model in place of ours, which is faster on CPUs."""
    for name, child in list(model.named_children()):
        if isinstance(child, PReLU):
            theirs = nn.PReLU(len(child.weight)).to(child.weight.device)
            theirs.weight = child.weight
            setattr(model, name, theirs)
        else:
            released(child)
    return model


def make_teacher(images: Tensor) -> Callable[[], Tensor]:
    """Return what embeds the batch with a frozen teacher, in the layout of the images."""
    layout = torch.channels_last if images.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    model = new_model(TEACHER, images.device).eval().requires_grad_(False).to(memory_format=layout)

    def embed() -> Tensor:
        with torch.no_grad():
            return model(images)

    return embed


def through_rows(rows: Rows, labels: Tensor) -> Learn:
    """Learn as ProxylessKD does."""

    def learn(embeddings: Tensor) -> None:
        losses, _ = margin_softmax(embeddings, rows, labels, margin=ArcFace(0.5), scale=64.0)
        losses.mean().backward()

    return learn


def towards(teacher: Callable[[], Tensor]) -> Learn:
    """Learn the teacher's unit embeddings by least squares."""

    def learn(embeddings: Tensor) -> None:
        F.mse_loss(F.normalize(embeddings, dim=1), F.normalize(teacher(), dim=1)).backward()

    return learn


def whole_steps(identities: int, args: argparse.Namespace) -> dict[str, Run]:
    """Return a step of every way to train a MobileFaceNet."""
    images, gradient = make_images(args.batch, args.device)
    last = images.contiguous(memory_format=torch.channels_last)
    ours, theirs = by_default(new_model(STUDENT, args.device), args.device), Setting()
    labels = torch.randint(identities, (args.batch,), generator=torch.Generator().manual_seed(3)).to(args.device)
    rows = F.normalize(torch.randn(identities, DIM, generator=torch.Generator().manual_seed(2)), dim=1).to(args.device)
    teacher, cached = make_teacher(last), make_teacher(last)()

    def student(learn: Learn) -> Run:
        return step_of(new_model(STUDENT, args.device), images, ours, learn)

    def their_student(learn: Learn) -> Run:
        return step_of(released(new_model(STUDENT, args.device)), images, theirs, learn)

    def adadistill(teacher: Callable[[], Tensor]) -> Learn:
        return rivals.adadistill(rows.T.contiguous(), labels, teacher, margin=0.45)

    return {
        ALONE: student(along(gradient)),
        PROXYLESS: student(through_rows(rows, labels)),
        PROXYLESS_BYTES: student(through_rows(quantise(rows), labels)),
        "feature distillation, cached teacher": student(towards(lambda: cached)),
        "feature distillation, live teacher": student(towards(teacher)),
        "AdaDistill, our student and layout": student(adadistill(teacher)),
        ADADISTILL: their_student(adadistill(make_teacher(images))),
        "the student alone, as PyTorch has it": their_student(along(gradient)),
    }


GOALS = (
    Goal("of the student's plain step", PROXYLESS, 1.05, (ALONE,), at_most=True, where=lambda s: s.identities <= 1e5),
    Goal("the same, int8 rows", PROXYLESS_BYTES, 1.05, (ALONE,), at_most=True, where=lambda s: s.identities <= 1e5),
    Goal("against AdaDistill as released", PROXYLESS, 4.0, (ADADISTILL,)),
)


def whole(args: argparse.Namespace) -> None:
    """Print what each way to distil takes, per number of identities."""
    tables = {}
    print(f"{STUDENT} student, {TEACHER} teacher; where it is live, it runs without gradients.\n")
    print(f"| identities | step | ms | CPU ms | times '{ALONE}' | rounds |\n|---|---|---|---|---|---|")
    for identities in args.identities:
        runs = whole_steps(identities, args)
        found = interleave(ready(runs), rounds=args.rounds, seconds=args.seconds, device=args.device)
        tables[Shape(identities, args.batch)] = Table(found)
        for name, timing in found.items():
            spent = f"{1e3 * timing.median():.0f} | {1e3 * timing.median('cpu'):.0f}"
            against = ratio(timing, found[ALONE], args.clock)
            print(f"| {identities:,} | {name} | {spent} | {against} | {timing.rounds} |", flush=True)
    print(f"\n### Goals, by {args.clock} time\n")
    print("\n".join(summary(GOALS, tables, args.clock)))


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["backbones", "whole"])
    parser.add_argument("--models", nargs="+", help="of backbones; all unless given")
    parser.add_argument("--identities", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=60.0, help="a step slower than that gets 3 rounds or more")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="of the ratios; cpu on a busy machine")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--no-bf16", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Parse, measure, print."""
    args = parse()
    torch.set_num_threads(args.threads)
    keep_freed_memory()  # as `proxylesskd` does
    print(f"torch {torch.__version__}, {args.device}, {args.threads} threads, B={args.batch}, {SIZE}x{SIZE}\n")
    {"backbones": backbones, "whole": whole}[args.what](args)


if __name__ == "__main__":
    main()
