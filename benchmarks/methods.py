"""One training step of every method, with a cached and with a live teacher, against a ProxylessKD step.

    python benchmarks/methods.py --threads 2
    python benchmarks/methods.py --methods proxyless adadistill ekd --identities 85000 --teacher-file teacher.onnx
    python benchmarks/methods.py --methods proxyless "proxyless + 0.5*rkd" --teach cached

A step is the training loop's own: bytes to the device, flips, the teacher, the student, the method, SGD. All variants
run interleaved in one process, each with its own student of the same first values. Images, rows and what a cache holds
are drawn at random: they cost what real ones cost. A method that looks at maps has a live teacher alone. All students
and trained classifiers are held at once: for hundreds of thousands of identities name a few methods.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
import torch.nn.functional as F
from goals import Goal, Shape, Table, summary
from interleave import Run, Timing, interleave, ratio
from stand_in import write_embedded
from torch import Tensor, nn

import proxylesskd as pk
from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.classifier.embedded import EmbeddedSource
from proxylesskd.data.augment import Augmentation, augment, flipped
from proxylesskd.data.keys import sample_keys
from proxylesskd.losses.margin import ArcFace
from proxylesskd.methods.catalogue import CATALOGUE, Resources, Shapes, expand, make_terms, wants
from proxylesskd.methods.learner import Learner
from proxylesskd.methods.method import TEACHER_NEEDS
from proxylesskd.models.maps import map_shapes
from proxylesskd.models.preprocess import Preprocessing
from proxylesskd.models.registry import memory_format_of
from proxylesskd.models.teacher import Teacher
from proxylesskd.models.torch_network import TorchNetwork
from proxylesskd.teacher import load_teacher, teacher_of
from proxylesskd.teaching.cached import Cached
from proxylesskd.teaching.live import Live
from proxylesskd.teaching.taught import Teach
from proxylesskd.training.allocator import keep_freed_memory
from proxylesskd.training.set_up import set_up
from proxylesskd.training.update import Loaded, make_autocast, to_batch, update

BASE, PER_IDENTITY = "proxyless", 4
STEPS = 10_000  # of the training whose steps these are, for schedules within a method
FLIPS = Augmentation(flip=0.5)


@dataclass
class World:
    """What all variants share.

    Attributes:
        args: the options.
        teacher: the live one.
        embedded: what a cache holds, memory-mapped.
    """

    args: argparse.Namespace
    teacher: Teacher
    embedded: EmbeddedSource

    @cached_property
    def classifier(self) -> InheritedClassifier:
        """``[C, D]`` random rows."""
        count = self.args.identities
        rows = torch.randn(count, self.teacher.dim, generator=torch.Generator().manual_seed(2))
        names = [str(number) for number in range(count)]
        return InheritedClassifier(F.normalize(rows, dim=1), names, {"how": "drawn at random"})

    @cached_property
    def teacher_shapes(self) -> Shapes | None:
        """Of the teacher's maps; None of a teacher that shows none."""
        network = self.teacher.network
        return (
            map_shapes(network.module, self.teacher.preprocessing.size) if isinstance(network, TorchNetwork) else None
        )

    def student(self, projector: bool = False) -> nn.Module:
        """Return a student with the same first values every time."""
        torch.manual_seed(0)
        args = self.args
        return pk.create_model(
            args.student, dim=self.teacher.dim, width=args.width, image_size=args.size, projector=projector
        )

    def learner(self, formula: str) -> Learner:
        """Return a student with the methods of a sum."""
        summands = expand(formula)
        wanted = wants(summands)
        student = self.student(projector="projector" in wanted)
        resources = Resources(
            num_identities=self.args.identities,
            dim=self.teacher.dim,
            seed=0,
            images=len(self.embedded),
            margin=partial(ArcFace, 0.5),
            scale=64.0,
            classifier=self.classifier,
            teacher_dim=self.teacher.dim,
            student_shapes=map_shapes(student, self.args.size) if "student_maps" in wanted else None,
            teacher_shapes=self.teacher_shapes if "teacher_maps" in wanted else None,
        )
        return Learner(student, make_terms(summands, resources))

    def teach(self, how: str, needs: frozenset[str]) -> Teach | None:
        """Return what a method hears of the teacher; nothing where it does not listen."""
        if not needs & TEACHER_NEEDS:
            return None
        if how == "live":
            return Live(self.teacher, "teacher_maps" in needs)
        return Cached(self.embedded, lambda indices, step: flipped(sample_keys(0, step, indices), FLIPS))


def loaded(number: int, world: World, balanced: float) -> Loaded:
    """Return a batch as the loader gives it; a share of it, at its end, has four images an identity."""
    args, generator = world.args, torch.Generator().manual_seed(number)
    together = int(balanced * args.batch) // PER_IDENTITY * PER_IDENTITY
    few = torch.randint(args.identities, (together // PER_IDENTITY,), generator=generator)
    labels = torch.randint(args.identities, (args.batch - together,), generator=generator)
    labels = torch.cat([labels, few.repeat_interleave(PER_IDENTITY)])
    images = torch.randint(0, 256, (args.batch, 3, args.size, args.size), dtype=torch.uint8, generator=generator)
    return number, images, labels, torch.randint(len(world.embedded), (args.batch,), generator=generator)


def flips(images: Tensor, indices: Tensor, step: int) -> Tensor:
    """Augment as a recipe does that says nothing about it."""
    return augment(images, sample_keys(0, step, indices), FLIPS)


def share_of(needs: frozenset[str]) -> float:
    """Return which share of a batch is some images of each of a few identities."""
    return 0.5 if "balanced_half" in needs else 1.0 if "balanced" in needs else 0.0


def step_of(learner: Learner, teach: Teach | None, world: World) -> Run:
    """Return one step of the training loop."""
    args, share = world.args, share_of(learner.needs)
    learner.to(args.device)
    last = memory_format_of(learner.student) == torch.channels_last
    state = set_up(learner, args.device, last, lr=1e-4)
    preprocessing = Preprocessing(size=args.size)
    batches = [loaded(number, world, share) for number in range(2)]
    feed = partial(
        to_batch,
        steps=STEPS,
        device=state.device,
        channels_last=last,
        prepare=lambda images, indices, step: preprocessing(images),  # noqa: ARG005 - all transforms are called alike
        augment=flips,
        teach=teach,
        general=args.batch // 2 if share == 0.5 else None,
    )
    autocast = make_autocast("auto", state.device)

    def run() -> None:
        batch = feed(batches[state.step % len(batches)], step=state.step)
        update(state, [batch], lr=1e-4, clip=5.0, accumulate=1, autocast=autocast)
        state.step += 1

    return run


def look_up(world: World, how: str) -> Run:
    """Return what the teacher alone costs a step."""
    teach = world.teach(how, frozenset({"teacher_embeddings"}))
    assert teach is not None
    _, images, _, indices = loaded(0, world, 0.0)
    images = images.to(world.args.device)
    return lambda: teach(images, indices, 0)


def variants(world: World, methods: list[str]) -> Iterator[tuple[str, Run]]:
    """Yield every method with every kind of teacher that it can have."""
    for how in world.args.teach:
        yield f"the teacher alone, {how}", look_up(world, how)
    for formula in methods:
        needs = wants(expand(formula))
        if "teacher_maps" in needs and world.teacher_shapes is None:
            print(f"{formula} is left out: it looks at maps, and {world.teacher.name} shows none.\n")
        elif not needs & TEACHER_NEEDS:
            yield formula, step_of(world.learner(formula), None, world)
        else:
            for how in world.args.teach:
                if how == "live" or "teacher_maps" not in needs:
                    learner = world.learner(formula)
                    yield f"{formula}, {how}", step_of(learner, world.teach(how, learner.needs), world)


GOALS = (Goal("AdaDistill, cached, against ProxylessKD", "adadistill, cached", 1.15, (BASE,), at_most=True),)


def lines(found: dict[str, Timing], clock: str) -> Iterator[str]:
    """Yield the table."""
    yield f"| step | ms, median (range) | times '{BASE}' [95 % interval] | rounds |\n|---|---|---|---|"
    for name, timing in found.items():
        spent = [1e3 * seconds for seconds in timing.by(clock).values()]
        against = ratio(timing, found[BASE], clock)
        ms = f"{1e3 * timing.median(clock):.1f} ({min(spent):.1f} to {max(spent):.1f})"
        yield f"| {name} | {ms} | {against} | {timing.rounds} |"


def open_teacher(args: argparse.Namespace) -> Teacher:
    """Return the teacher that is given, or a network of random weights."""
    if args.teacher_file:
        return load_teacher(args.teacher_file, threads=args.threads)
    torch.manual_seed(1)
    model = pk.create_model(args.teacher, dim=args.dim, width=args.teacher_width, image_size=args.size)
    return teacher_of(model.eval().requires_grad_(False).to(args.device), Preprocessing(size=args.size))


def compare(args: argparse.Namespace, folder: Path) -> None:
    """Measure and print."""
    teacher = open_teacher(args)
    world = World(args, teacher, write_embedded(folder, args.images, teacher.dim, args.identities))
    methods = list(dict.fromkeys([BASE, *(args.methods or CATALOGUE)]))
    print(f"{args.student} student, {teacher.name} teacher, B={args.batch}, C={args.identities:,}, D={teacher.dim}")
    print(f"torch {torch.__version__}, {args.device}, {args.threads} threads, {args.images:,} images in the cache\n")
    runs = {name: partial(_given, run) for name, run in variants(world, methods)}
    found = interleave(runs, rounds=args.rounds, seconds=args.seconds, device=args.device)
    print("\n".join(lines(found, args.clock)))
    print(f"\n### Goals, by {args.clock} time\n")
    print("\n".join(summary(GOALS, {Shape(args.identities, args.batch): Table(found)}, args.clock)))


def _given(run: Run) -> Run:
    return run


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", help="names or sums; all of the catalogue unless given")
    parser.add_argument("--teach", nargs="+", choices=["cached", "live"], default=["cached", "live"])
    parser.add_argument("--identities", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=50_000, help="in the cache")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--student", default="mobilefacenet")
    parser.add_argument("--width", type=float, default=1.0, help="of the student")
    parser.add_argument("--teacher-file", help="a PyTorch or ONNX teacher; random weights unless given")
    parser.add_argument("--teacher", default="iresnet50", help="architecture of random weights")
    parser.add_argument("--teacher-width", type=float, default=1.0)
    parser.add_argument("--dim", type=int, default=512, help="of random weights")
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=60.0, help="a step slower than that gets 3 rounds or more")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="cpu on a busy machine")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--folder", type=Path, help="for the cache, deleted afterwards; the system's unless given")
    return parser.parse_args()


def main() -> None:
    """Parse, measure, print."""
    args = parse()
    torch.set_num_threads(args.threads)
    keep_freed_memory()  # as `proxylesskd` does
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        compare(args, Path(folder))


if __name__ == "__main__":
    main()
