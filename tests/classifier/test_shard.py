from __future__ import annotations

import pytest
import torch

from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.classifier.shard import ClassifierShard
from proxylesskd.errors import UserError
from proxylesskd.losses.rows import gather, quantise, split


def classifier(count: int = 7) -> InheritedClassifier:
    torch.manual_seed(0)
    return InheritedClassifier(torch.randn(count, 4), [str(i) for i in range(count)], {})


def test_the_parts_are_the_whole() -> None:
    whole = classifier()
    parts = [ClassifierShard(whole, rank, 3) for rank in range(3)]
    assert torch.equal(
        torch.cat([gather(p.stored, torch.arange(len(p.stored)), torch.float32) for p in parts]), whole.rows
    )
    assert {p.fingerprint for p in parts} == {whole.fingerprint}
    assert not list(parts[0].parameters())


@pytest.mark.parametrize("store", [quantise, split])
def test_compact_rows_stay_compact_and_move(store: object, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = classifier()
    stored = store(whole.rows)  # type: ignore[operator]
    monkeypatch.setattr(InheritedClassifier, "stored", stored)
    found = ClassifierShard(whole, 1, 2)
    assert type(found.stored) is type(stored)
    assert torch.equal(found.stored.codes, stored.codes[4:])  # type: ignore[union-attr]
    assert found.to("meta").stored.device.type == "meta"


def test_other_rows_are_refused() -> None:
    with pytest.raises(UserError, match="earlier run"):
        ClassifierShard(classifier(), 0, 2).expect("0123")


def test_more_processes_than_rows_are_refused() -> None:
    with pytest.raises(UserError, match="found 2 for 3"):
        ClassifierShard(classifier(2), 0, 3)
