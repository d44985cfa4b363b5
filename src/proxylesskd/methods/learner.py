"""A student and what it learns by: one forward pass, then a weighted sum of methods, each with its schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from proxylesskd.methods.method import Batch, Method, Seen
from proxylesskd.models.maps import recording_maps

Schedule = Callable[[float], float]


class Course(Protocol):
    """What the training loop trains: a :class:`Learner`, or something that behaves like one.

    Attributes:
        student: the network that is trained and kept; maps images to un-normalised ``[B, D]`` embeddings.
        needs: what the loop must put into each batch beyond images and labels.
    """

    student: nn.Module
    needs: frozenset[str]

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Return ``{"loss": scalar, …}``; the other scalars are logged."""
        ...

    def to(self, device: torch.device) -> None:
        """Move all but the student, which the loop moves."""
        ...

    def trainable(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Name every parameter that the optimiser may move, the student's included."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return all state beyond the student."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        ...


def always(_progress: float) -> float:
    """Keep a term's weight as it is."""
    return 1.0


@dataclass(frozen=True)
class Term:
    """One summand.

    Attributes:
        name: distinct within a sum; for the log and for checkpoints.
        method: what is summed.
        weight: its factor.
        schedule: a second factor, a function of the fraction of the training that is done.
    """

    name: str
    method: Method
    weight: float = 1.0
    schedule: Schedule = always


class Learner:
    """A student with the methods that teach it.

    The student runs within whatever autocast the loop has chosen; the methods run outside it and see float32.

    Args:
        student: ``[B, 3, H, W] -> [B, D]``.
        terms: at least one.

    Attributes:
        needs: what any of the terms needs.
    """

    def __init__(self, student: nn.Module, terms: Sequence[Term]) -> None:
        self.student = student
        self.terms = tuple(terms)
        self.needs = frozenset[str]().union(*(term.method.needs for term in terms))

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted sum as ``loss`` and what the terms say; of several terms each one's own loss, too."""
        seen = self._look(batch.images)
        with torch.autocast(batch.images.device.type, enabled=False):
            said = [(term, term.method.loss(seen, batch)) for term in self.terms]
        weighted = [term.weight * term.schedule(batch.progress) * parts["loss"] for term, parts in said]
        told = {"loss": torch.stack(weighted).sum() if len(weighted) > 1 else weighted[0]}
        for term, parts in said:
            told |= parts | told if len(said) == 1 else _under(term.name, parts) | told
        return told

    def _look(self, images: Tensor) -> Seen:
        """Run the student once."""
        if "student_maps" not in self.needs:
            return Seen(_wide(self.student(images)))
        with recording_maps(self.student) as maps:
            embeddings = self.student(images)  # [B, D]
        return Seen(_wide(embeddings), tuple(_wide(each) for each in maps))

    def to(self, device: torch.device) -> None:
        """Move what the methods hold."""
        for term in self.terms:
            term.method.to(device)

    def trainable(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Name the student's parameters, then those of each term."""
        yield from self.student.named_parameters()
        for term in self.terms:
            for name, parameter in term.method.named_parameters():
                yield f"{term.name}.{name}", parameter

    def state_dict(self) -> dict[str, Any]:
        """Return the state of each term."""
        return {term.name: dict(term.method.state_dict()) for term in self.terms}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state of each term."""
        for term in self.terms:
            term.method.load_state_dict(state[term.name])


def _wide(values: Tensor) -> Tensor:
    """Return float32 for anything narrower."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _under(name: str, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Say whose numbers these are; an accuracy needs no owner."""
    return {part if part == "accuracy" else f"{name}.{part}": value for part, value in parts.items()}
