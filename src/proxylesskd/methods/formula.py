"""A sum of methods as one writes it: ``proxyless + 0.5*rkd(angle=2) @ fade(0.2, 0.8)``.

Summands stand between plus signs. Each is a method's name (of the catalogue, or ``package.module:Class``), before it a
weight if not the paper's, behind it in parentheses its options and, after ``@``, how its weight changes in the course
of the training: ``rise(a, b)`` is 0 until the fraction ``a`` is done, 1 from ``b`` on and linear between;
``fade(a, b)`` is one minus that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from proxylesskd.errors import UserError
from proxylesskd.methods.learner import Schedule, always
from proxylesskd.own import is_own

Option = bool | int | float | str

_NUMBER = r"\d+(?:\.\d*)?(?:[eE][+-]?\d+)?"
_SUMMAND = re.compile(
    rf"\s*(?:(?P<weight>{_NUMBER})\s*\*\s*)?(?P<name>[A-Za-z_][\w.-]*(?::\w+)?)\s*"
    rf"(?:\((?P<options>[^()]*)\))?\s*"
    rf"(?:@\s*(?P<curve>\w+)\s*\(\s*(?P<begin>{_NUMBER})\s*,\s*(?P<end>{_NUMBER})\s*\))?\s*"
)


@dataclass(frozen=True)
class Summand:
    """One method of a sum.

    Attributes:
        name: of the method.
        weight: its factor, or None for the paper's.
        options: what is set apart from the paper's values.
        schedule: a second factor, a function of the fraction of the training that is done.
    """

    name: str
    weight: float | None = None
    options: Mapping[str, Option] = field(default_factory=dict)
    schedule: Schedule = always


def rise(begin: float, end: float, progress: float) -> float:
    """Return 0 until ``begin``, 1 from ``end`` on, and what is linear between."""
    return min(1.0, max(0.0, (progress - begin) / (end - begin)))


def fade(begin: float, end: float, progress: float) -> float:
    """Return one minus :func:`rise`."""
    return 1.0 - rise(begin, end, progress)


_CURVES = {"rise": rise, "fade": fade}


def parse_formula(text: str) -> tuple[Summand, ...]:
    """Read a sum of methods.

    Args:
        text: such as ``"alone + 25*rkd(angle=2) @ fade(0, 0.5)"``.

    Raises:
        UserError: it is none; says where it stops making sense.
    """
    summands, at = list[Summand](), 0
    while True:
        found = _SUMMAND.match(text, at)
        if found is None:
            raise UserError(_lost(text, at, "a method's name, such as proxyless or 0.5*rkd"))
        summands.append(_summand(found, text))
        at = found.end()
        if at == len(text):
            return tuple(summands)
        if text[at] != "+":
            raise UserError(_lost(text, at, "'+' or the end"))
        at += 1


def _lost(text: str, at: int, wanted: str) -> str:
    found = f"'{text[at:].strip()}'" if text[at:].strip() else "nothing"
    return f"expected {wanted} after '{text[:at].strip()}' in method.name, found {found}"


def _summand(found: re.Match[str], text: str) -> Summand:
    weight, options = found["weight"], found["options"]
    return Summand(
        found["name"] if is_own(found["name"]) else found["name"].lower().replace("-", "_"),
        None if weight is None else float(weight),
        _options(options, text) if options else {},
        _schedule(found) if found["curve"] else always,
    )


def _schedule(found: re.Match[str]) -> Schedule:
    curve, begin, end = found["curve"], float(found["begin"]), float(found["end"])
    if curve not in _CURVES:
        raise UserError(f"expected rise(a, b) or fade(a, b) after '@' in method.name, found '{curve}'")
    if not 0.0 <= begin < end <= 1.0:
        raise UserError(f"expected {curve}(a, b) with 0 <= a < b <= 1 in method.name, found {curve}({begin}, {end})")
    return partial(_CURVES[curve], begin, end)


def _options(text: str, formula: str) -> dict[str, Option]:
    options: dict[str, Option] = {}
    for piece in filter(str.strip, text.split(",")):
        key, equals, value = (part.strip() for part in piece.partition("="))
        if not equals or not key or not value:
            raise UserError(f"expected option=value in '{formula}', found '{piece.strip()}'")
        options[key] = _value(value)
    return options


def _value(text: str) -> Option:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
