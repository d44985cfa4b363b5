"""One process's part of a classifier whose rows are split over all of them."""

from __future__ import annotations

from torch import nn

from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.classifier.stored_rows import joined, parts
from proxylesskd.errors import UserError
from proxylesskd.losses.engines.sharded import shard
from proxylesskd.losses.rows import Rows


class ClassifierShard(nn.Module):
    """Consecutive rows, which alone move to this process's device; the whole classifier stays where it is.

    Args:
        classifier: the whole one.
        rank: of this process.
        world: number of processes, at most one for each row.

    Attributes:
        fingerprint: of the whole classifier.

    Raises:
        UserError: there are more processes than rows.
    """

    def __init__(self, classifier: InheritedClassifier, rank: int, world: int) -> None:
        super().__init__()
        if world > len(classifier.identities):
            raise UserError(f"expected at least one row a process, found {len(classifier.identities)} for {world}")
        rows = classifier.stored[slice(*shard(len(classifier.identities), rank, world))]
        self.fingerprint = classifier.fingerprint
        self.expect = classifier.expect
        self._parts = tuple(parts(rows))
        for name, tensor in parts(rows).items():
            self.register_buffer(f"stored_{name}", tensor, persistent=False)

    def get_extra_state(self) -> str:
        """Return what a checkpoint says of the whole classifier."""
        return self.fingerprint

    def set_extra_state(self, state: str) -> None:
        """Refuse a checkpoint that was trained through other rows."""
        self.expect(state)

    @property
    def stored(self) -> Rows:
        """``[C / world, D]``, the rows of this process as they are stored."""
        found = joined({name: self.get_buffer(f"stored_{name}") for name in self._parts})
        assert found is not None
        return found
