"""Protocols by name: ``ijbc:FOLDER``, ``rfw:FOLDER``, ``openset:FILE.csv`` and the others, each into its outcomes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from proxylesskd.errors import UserError, nearest
from proxylesskd.evaluation.gallery import Model
from proxylesskd.machine import cache_folder
from proxylesskd.protocols.outcome import FOLDER, Outcome


@dataclass(frozen=True)
class Protocol:
    """A protocol that can be asked for.

    Attributes:
        what: in words, for the list.
        takes: what stands after the colon.
        home: module and function that takes it.
        fixed: arguments that the name implies.
    """

    what: str
    takes: str
    home: tuple[str, str]
    fixed: Mapping[str, Any]


def _known(what: str, takes: str, module: str, function: str, **fixed: Any) -> Protocol:
    return Protocol(what, takes, (f"proxylesskd.protocols.{module}", function), fixed)


IJB = "folder of meta/ and loose_crop/"
PROTOCOLS: dict[str, Protocol] = {
    "ijbb": _known("IJB-B 1:1 and 1:N, templates", IJB, "ijb", "evaluate_ijb", subset="ijbb"),
    "ijbc": _known("IJB-C 1:1 and 1:N, templates", IJB, "ijb", "evaluate_ijb", subset="ijbc"),
    "rfw": _known("verification by group, with gaps", "folder of .bin files, or CSV", "groups", "evaluate_groups"),
    "blufr": _known("all pairs and open set, ten trials", "source, or CSV of splits", "blufr", "evaluate_blufr"),
    "openset": _known("identification with distractors", "CSV path,identity,role", "open_set", "evaluate_open_set"),
    "allpairs": _known("every pair of a set", "source, or CSV path,identity", "all_pairs", "evaluate_all_pairs"),
    "own": _known("what the header of a CSV asks for", "CSV", "own", "evaluate_own"),
}


def protocol_of(text: str) -> tuple[Protocol, str] | None:
    """Split ``ijbc:FOLDER``; None where the text is a path, and no protocol.

    Raises:
        UserError: a name stands before the colon that is nearly that of a protocol, and nothing stands at such a path.
    """
    name, colon, where = text.partition(":")
    if colon and name in PROTOCOLS:
        return PROTOCOLS[name], where
    if colon and name.isalpha() and len(name) > 1 and not Path(text).exists():
        raise UserError(
            f"expected a verification set, or a protocol such as {', '.join(f'{n}:…' for n in PROTOCOLS)}, "
            f"found '{text}'{nearest(name, PROTOCOLS)}"
        )
    return None


def check_protocol(text: str) -> frozenset[str]:
    """Return the names of a protocol's options; stop before hours are spent on what stands before it in a list.

    Args:
        text: see :func:`take_protocol`.

    Raises:
        UserError: there is no such protocol, or nothing stands where its data should.
    """
    protocol, where = _found(text)
    if not where or (":" not in where and not Path(where).exists()):  # another colon is that of a source
        raise UserError(f"expected for '{text}': {protocol.takes}; found nothing there")
    return _options(protocol)


def take_protocol(text: str, model: Model, **options: Any) -> list[Outcome]:
    """Take a protocol with a model.

    Args:
        text: name of the protocol, a colon, and where its data stand, see :data:`PROTOCOLS`.
        model: the probe's, as :func:`proxylesskd.evaluate` takes it.
        options: ``gallery``, ``projection``, ``flip``, ``replicates``, ``seed``, ``cache``, ``progress``, ``name``,
            ``root``; those that are None are left to the protocol.

    Raises:
        UserError: there is no such protocol, an option does not exist there, or its data or model cannot be used.
    """
    protocol, where = _found(text)
    given = {key: value for key, value in options.items() if value is not None}
    if unknown := sorted(given.keys() - _options(protocol)):
        raise UserError(f"expected no {unknown[0]} for '{text}', which has no such thing, found one; leave it out")
    outcome = _function(protocol)(model, where, **protocol.fixed, **given)
    return [outcome] if isinstance(outcome, Outcome) else list(outcome.values())


def _found(text: str) -> tuple[Protocol, str]:
    found = protocol_of(text)
    if found is None:
        raise UserError(f"expected a protocol such as ijbc:FOLDER, found '{text}'; one of {', '.join(PROTOCOLS)}")
    return found


def _function(protocol: Protocol) -> Callable[..., Outcome | dict[str, Outcome]]:
    module, function = protocol.home
    found: Callable[..., Outcome | dict[str, Outcome]] = getattr(import_module(module), function)
    return found


def _options(protocol: Protocol) -> frozenset[str]:
    return frozenset(inspect.signature(_function(protocol)).parameters)


def evaluation_folder() -> Path:
    """Return where embeddings of evaluation sets are kept unless told, for all runs of this user."""
    return cache_folder() / "evaluation"


def save_outcome(outcome: Outcome, run: Path) -> Path:
    """Write an outcome and its pictures into ``run/protocols/<name>/``, where reports and comparisons look for it."""
    from proxylesskd.protocols.plots import draw

    folder = run / FOLDER / (re.sub(r"[^a-z0-9]+", "-", outcome.protocol.lower()).strip("-") or "protocol")
    outcome.save(folder)
    draw(outcome, folder)
    return folder
