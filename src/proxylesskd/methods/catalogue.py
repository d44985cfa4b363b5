"""Every method by its name: its paper, the file it stands in, and the sum that its paper trains with."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from importlib import import_module
from types import MappingProxyType, ModuleType
from typing import Any

from proxylesskd.errors import UserError, nearest
from proxylesskd.losses.engines.engine import Engine
from proxylesskd.losses.margin import Margin
from proxylesskd.methods.formula import Option, Summand, parse_formula
from proxylesskd.methods.learner import Term
from proxylesskd.methods.method import NEEDS, TEACHER_NEEDS, Method
from proxylesskd.own import import_own, is_own

Shapes = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Entry:
    """One method.

    Attributes:
        name: in recipes and tables.
        title: what the paper calls it.
        paper: authors, where and when, arXiv number.
        place: ``module:Class`` in this room, or ``package.module:Class`` of the user's own.
        formula: the sum that the paper trains with, where that is more than the method itself.
    """

    name: str
    title: str
    paper: str
    place: str
    formula: str = ""

    @property
    def made(self) -> Callable[..., Method]:
        """The class."""
        if is_own(self.name):
            return import_own(self.place)
        found: Callable[..., Method] = getattr(self._module, self.place.partition(":")[2])
        return found

    @property
    def label(self) -> str:
        """What its part of a sum is called in logs and checkpoints."""
        return self.name.rpartition(":")[2]

    @property
    def weight(self) -> float:
        """The paper's weight of the term in its sum, 1 unless its module says otherwise."""
        return float(getattr(self._module, "WEIGHT", 1.0))

    @property
    def projects(self) -> bool:
        """Whether its student ends in a projector, see :mod:`proxylesskd.models.projector`."""
        return bool(getattr(self._module, "PROJECTOR", False))

    @property
    def needs(self) -> frozenset[str]:
        """What a batch must hold, unless an option changes that."""
        needs = getattr(self.made, "needs", None)
        if not isinstance(needs, frozenset) or not needs <= NEEDS:
            known = ", ".join(sorted(NEEDS))
            raise UserError(f"expected {self.name}.needs, a frozenset of {known}, found {needs!r}")
        return needs

    @property
    def takes(self) -> tuple[str, ...]:
        """Names of the arguments that make one."""
        return tuple(inspect.signature(self.made).parameters)

    @property
    def options(self) -> tuple[str, ...]:
        """Names of those that a formula may set."""
        return tuple(name for name in self.takes if name not in RESOURCES)

    @property
    def _module(self) -> ModuleType:
        module = self.place.partition(":")[0]
        return import_module(self.made.__module__ if is_own(self.name) else f"proxylesskd.methods.{module}")


@dataclass(frozen=True)
class Resources:
    """What methods are made of beyond their options; None is what this training does not have.

    Attributes:
        num_identities: size of the label space.
        dim: of the student's embedding.
        seed: of the first values of trained parts.
        images: in the source.
        margin: makes one; each method gets its own, since margins may learn.
        scale: ``s``.
        engine: of the margin softmax.
        smoothing: of the labels.
        gap_every: see :class:`proxylesskd.methods.proxyless.Proxyless`.
        classifier: the inherited one, or this process's part of it.
        teacher_dim: of the teacher's embedding.
        student_shapes: ``(c, h, w)`` of the student's maps, shallow to deep.
        teacher_shapes: of the teacher's.
    """

    num_identities: int
    dim: int
    seed: int
    images: int
    margin: Callable[[], Margin]
    scale: float
    engine: str | Engine = "auto"
    smoothing: float = 0.0
    gap_every: int = 0
    classifier: Any = None
    teacher_dim: int | None = None
    student_shapes: Shapes | None = None
    teacher_shapes: Shapes | None = None


RESOURCES = frozenset(entry.name for entry in fields(Resources))
_MISSING = {
    "classifier": "an inherited classifier; give method.classifier=…",
    "teacher_dim": "a teacher; give method.teacher=…",
    "teacher_shapes": "a PyTorch teacher that shows its maps; give method.teacher=…",
    "student_shapes": "a student that shows its maps",
}


def expand(text: str) -> tuple[Summand, ...]:
    """Read a formula; a method that stands by itself becomes the sum that its paper trains with.

    Raises:
        UserError: it is no formula, or names a method or an option that there is none of.
    """
    summands = parse_formula(text)
    for summand in summands:
        _check(summand)
    entry = entry_of(summands[0].name)
    if len(summands) > 1 or not entry.formula:
        return summands
    whole = parse_formula(entry.formula)
    return tuple(summands[0] if part.name == entry.name else part for part in whole)


def entry_of(name: str) -> Entry:
    """Return the method of a name: one of the catalogue, or of the user's own as ``package.module:Class``.

    Raises:
        UserError: there is none of that name.
    """
    if is_own(name):
        return Entry(name, name.rpartition(":")[2], "your own", name)
    if name not in CATALOGUE:
        hint = nearest(name, CATALOGUE) or f"; known are {', '.join(CATALOGUE)}, and package.module:Class"
        raise UserError(f"expected a method of 'proxylesskd compare --list', found '{name}'{hint}")
    return CATALOGUE[name]


def _check(summand: Summand) -> None:
    options = entry_of(summand.name).options
    for key in summand.options:
        if key not in options:
            hint = nearest(key, options) or f"; known are {', '.join(options) or 'none'}"
            raise UserError(f"expected an option of {summand.name}, found '{key}'{hint}")


def wants(summands: tuple[Summand, ...]) -> frozenset[str]:
    """Return all that a sum asks for: needs of batches, and ``classifier``, ``teacher`` and ``projector``."""
    entries = [entry_of(summand.name) for summand in summands]
    found = frozenset[str]().union(*(entry.needs for entry in entries))
    found |= {"classifier"} if any("classifier" in entry.takes for entry in entries) else set()
    found |= {"projector"} if any(entry.projects for entry in entries) else set()
    return found | ({"teacher"} if found & TEACHER_NEEDS else set())


def make_terms(summands: tuple[Summand, ...], resources: Resources) -> list[Term]:
    """Make the methods of a sum.

    Args:
        summands: of :func:`expand`.
        resources: what they are made of.

    Raises:
        UserError: a method needs what there is not, or an option is out of range.
    """
    terms, counts = list[Term](), dict[str, int]()
    for summand in summands:
        entry = entry_of(summand.name)
        counts[entry.label] = counts.get(entry.label, 0) + 1
        name = entry.label if counts[entry.label] == 1 else f"{entry.label}-{counts[entry.label]}"
        weight = entry.weight if summand.weight is None else summand.weight
        terms.append(Term(name, _make(entry, summand.options, resources), weight, summand.schedule))
    return terms


def _make(entry: Entry, options: Mapping[str, Option], resources: Resources) -> Method:
    given: dict[str, Any] = {key: getattr(resources, key) for key in entry.takes if key in RESOURCES}
    for key, value in given.items():
        if value is None:
            raise UserError(f"expected {_MISSING[key]}, which {entry.name} needs; found none")
    if "margin" in given:
        given["margin"] = resources.margin()
    if entry.name != "proxyless" and not isinstance(given.get("engine", ""), str):
        raise UserError(
            f"expected method.engine auto, reference, chunked or triton for {entry.name}, found one that only "
            "proxyless can use; leave method.engine out"
        )
    defaults = {name: each.default for name, each in inspect.signature(entry.made).parameters.items()}
    return entry.made(**given, **{key: _typed(entry, key, defaults[key], value) for key, value in options.items()})


def _typed(entry: Entry, key: str, default: object, value: Option) -> Option:
    """Return an option's value as its default is typed."""
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if default is inspect.Parameter.empty or type(value) is type(default):
        return value
    kind = type(default).__name__
    raise UserError(f"expected a value of type {kind} for {entry.name}({key}=…), found {value!r}")


_ENTRIES = (
    Entry("alone", "trained alone", "Deng et al., ArcFace, CVPR 2019, arXiv 1801.07698", "alone:Alone"),
    Entry("proxyless", "ProxylessKD", "Shi, Ren, Chen, Yan, 2020, arXiv 2011.00265", "proxyless:Proxyless"),
    Entry("homing", "Homing", "this toolkit, 2026; see docs/research.md", "homing:Homing"),
    Entry("adadistill", "AdaDistill", "Boutros, Struc, Damer, ECCV 2024, arXiv 2407.01332", "adadistill:AdaDistill"),
    Entry("ekd", "EKD", "Huang, Wu, Xu, Ding, CVPR 2022, arXiv 2206.02325", "ekd:EKD", "alone + ekd"),
    Entry("gkd", "GKD", "Zhao, Zhu, Guo, Zhang, Lei, AAAI 2023, arXiv 2304.04462", "gkd:GKD"),
    Entry(
        "margin_distillation",
        "MarginDistillation",
        "Svitov, Alyamkin, 2020, arXiv 2003.02586",
        "margin_distillation:MarginDistillation",
    ),
    Entry("l2", "feature L2", "after Romero et al., ICLR 2015, arXiv 1412.6550", "l2:L2"),
    Entry("angular", "ShrinkTeaNet", "Duong et al., 2019, arXiv 1905.10620", "angular:Angular", "alone + angular"),
    Entry("kd", "KD", "Hinton, Vinyals, Dean, 2015, arXiv 1503.02531", "kd:KD", "proxyless + kd"),
    Entry("dkd", "DKD", "Zhao et al., CVPR 2022, arXiv 2203.08679", "dkd:DKD", "proxyless + dkd"),
    Entry("thkd", "TH-KD", "Ben-Baruch et al., 2022, arXiv 2201.06945", "thkd:THKD", "alone + thkd"),
    Entry("rkd", "RKD", "Park et al., CVPR 2019, arXiv 1904.05068", "rkd:RKD", "alone + rkd"),
    Entry("sp", "SP", "Tung, Mori, ICCV 2019, arXiv 1907.09682", "sp:SP", "alone + sp"),
    Entry("cckd", "CCKD", "Peng et al., ICCV 2019, arXiv 1904.01802", "cckd:CCKD", "alone + cckd"),
    Entry("pkt", "PKT", "Passalis, Tefas, ECCV 2018, arXiv 1803.10837", "pkt:PKT", "alone + pkt"),
    Entry(
        "darkrank",
        "DarkRank",
        "Chen, Wang, Zhang, AAAI 2018, arXiv 1707.01220",
        "darkrank:DarkRank",
        "alone + darkrank",
    ),
    Entry(
        "triplet_distillation",
        "TripletDistillation",
        "Feng et al., ICIP 2020, arXiv 1905.04457",
        "triplet_distillation:TripletDistillation",
    ),
    Entry(
        "coupleface",
        "CoupleFace",
        "Liu et al., ECCV 2022, arXiv 2204.05502",
        "coupleface:CoupleFace",
        "alone + coupleface",
    ),
    Entry("crd", "CRD", "Tian, Krishnan, Isola, ICLR 2020, arXiv 1910.10699", "crd:CRD", "alone + crd"),
    Entry("at", "AT", "Zagoruyko, Komodakis, ICLR 2017, arXiv 1612.03928", "at:AT", "alone + at"),
    Entry("fitnet", "FitNet", "Romero et al., ICLR 2015, arXiv 1412.6550", "fitnet:FitNet", "alone + fitnet"),
    Entry("simkd", "SimKD", "Chen et al., CVPR 2022, arXiv 2203.14001", "simkd:SimKD"),
)

CATALOGUE: Mapping[str, Entry] = MappingProxyType({entry.name: entry for entry in _ENTRIES})
