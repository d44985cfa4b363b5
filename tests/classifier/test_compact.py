from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from typer.testing import CliRunner

import proxylesskd as pk
from proxylesskd.classifier import classifier as home
from proxylesskd.classifier import names
from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.classifier.names import Names
from proxylesskd.cli import app
from proxylesskd.errors import UserError
from proxylesskd.machine import own_memory

STORES = ("float32", "bfloat16", "int8")


def example(count: int = 40, dim: int = 16, projected: bool = False) -> InheritedClassifier:
    generator = torch.Generator().manual_seed(count)
    rows = torch.randn(count, dim, generator=generator)
    projection = torch.randn(dim + 4, dim, generator=generator) if projected else None
    return InheritedClassifier(rows, [f"é{row}" for row in range(count)], {"how": "drawn"}, projection)


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("mapped", [False, True])
def test_a_file_gives_back_what_was_stored(
    tmp_path: Path, store: str, mapped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mapped:
        monkeypatch.setattr(home, "MAPPED_FROM", 0)
        monkeypatch.setattr(names, "FEW", 0)
    classifier = example(projected=True)
    made = pk.compact(classifier, store)
    streamed = pk.compact(classifier, store, tmp_path / "c.safetensors")
    assert streamed.store == made.store == store
    assert streamed.fingerprint == made.fingerprint
    assert isinstance(streamed.identities, Names) == mapped
    assert streamed.identities == classifier.identities
    assert streamed.projection is not None
    assert classifier.projection is not None
    assert torch.equal(streamed.projection, classifier.projection)
    np.testing.assert_allclose(streamed.rows.numpy(), classifier.rows.numpy(), atol=4e-5)
    assert streamed.rows_of(["é7", "é0", "é39"]).tolist() == [7, 0, 39]
    assert streamed.describe()["store"] == store
    if store != "float32":
        assert streamed.provenance["stored_from"] == classifier.fingerprint != streamed.fingerprint
        assert streamed.provenance["stored_as"] == store
    else:
        assert streamed.fingerprint == classifier.fingerprint
        assert streamed.provenance == classifier.provenance
    streamed.save(tmp_path / "again.safetensors")
    assert InheritedClassifier.load(tmp_path / "again.safetensors").fingerprint == streamed.fingerprint
    (tmp_path / "again.safetensors").unlink()


def test_compact_rows_are_buffers_that_move_and_never_parameters() -> None:
    for store, parts in (("int8", ["codes", "fine", "steps"]), ("bfloat16", ["codes", "fine", "steps"])):
        made = pk.compact(example(), store)
        assert list(made.parameters()) == []
        assert [name for name, _ in made.named_buffers()] == [f"stored_{part}" for part in parts]
        assert made.to("meta").stored.device.type == "meta"


def test_compact_and_back(tmp_path: Path) -> None:
    classifier = example()
    there = pk.compact(classifier, "int8")
    assert pk.compact(there, "int8") is there
    back = pk.compact(there, "float32")
    assert back.store == "float32"
    torch.testing.assert_close(back.rows.norm(dim=1), torch.ones(40))
    np.testing.assert_allclose(back.rows.numpy(), classifier.rows.numpy(), atol=4e-5)
    there.with_provenance(more=1).save(tmp_path / "c.safetensors", "bfloat16")
    assert InheritedClassifier.load(tmp_path / "c.safetensors").provenance["more"] == 1


def test_the_loss_through_compact_rows_is_nearly_that_through_all_bits() -> None:
    classifier = example(200, 32)
    embeddings, labels = torch.randn(8, 32, generator=torch.Generator().manual_seed(1)), torch.arange(8)
    exact = pk.frozen_softmax(embeddings, classifier.stored, labels, margin=pk.ArcFace(0.5), scale=16.0)
    for store in STORES[1:]:
        rows = pk.compact(classifier, store).stored
        loss = pk.frozen_softmax(embeddings, rows, labels, margin=pk.ArcFace(0.5), scale=16.0)
        assert float(loss) == pytest.approx(float(exact), rel=5e-3)


def test_a_large_file_is_opened_hashed_searched_and_saved_without_memory_of_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """64 MiB of rows, while each of these may take a few blocks."""
    monkeypatch.setattr(home, "MAPPED_FROM", 1 << 20)
    for module in (home, __import__("proxylesskd.classifier.stored_rows", fromlist=["x"])):
        monkeypatch.setattr(module, "BLOCK", 512)
    monkeypatch.setattr(names, "FEW", 0)
    rows = F.normalize(torch.randn(1 << 15, 512), dim=1)
    InheritedClassifier(rows, [str(i) for i in range(1 << 15)], {}).save(tmp_path / "c.safetensors")
    del rows
    own = _grown(tmp_path / "c.safetensors", tmp_path / "d.safetensors")
    assert own < 24 << 20, f"{own >> 20} MiB"


def _grown(path: Path, other: Path) -> int:
    before = own_memory()["anonymous"]
    classifier = InheritedClassifier.load(path)
    most = own_memory()["anonymous"]
    assert len(classifier.fingerprint) == 16
    assert classifier.rows_of(["5", "32767"]).tolist() == [5, 32767]
    most = max(most, own_memory()["anonymous"])
    classifier.save(other)
    classifier.save(other, "int8")
    return max(most, own_memory()["anonymous"]) - before


def test_large_rows_that_are_not_unit_are_normalised_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "MAPPED_FROM", 0)
    rows, text = 3 * torch.eye(4), torch.frombuffer(bytearray(json.dumps(list("abcd")).encode()), dtype=torch.uint8)
    tensors = {"rows": rows, "identities": text}
    safetensors.torch.save_file(tensors, tmp_path / "old.safetensors", {"provenance": "{}"})
    found = InheritedClassifier.load(tmp_path / "old.safetensors")
    assert torch.equal(found.rows, torch.eye(4))
    assert found.identities == list("abcd")


def test_files_whose_rows_or_story_do_not_fit(tmp_path: Path) -> None:
    text = torch.frombuffer(bytearray(b'["a", "b"]'), dtype=torch.uint8)
    file = tmp_path / "c.safetensors"
    for provenance in ("[]", "nonsense", "[" * 100_000):
        safetensors.torch.save_file({"rows": torch.eye(2), "identities": text}, file, {"provenance": provenance})
        with pytest.raises(UserError, match="without identities and provenance"):
            InheritedClassifier.load(file)
    safetensors.torch.save_file({"rows": torch.eye(3), "identities": text}, file, {"provenance": "{}"})
    with pytest.raises(UserError, match="3 rows and 2 identities"):
        InheritedClassifier.load(file)


def test_the_verb_converts_a_file(tmp_path: Path) -> None:
    example().save(tmp_path / "c.safetensors")
    arguments = ["compact", str(tmp_path / "c.safetensors"), "-o", str(tmp_path / "d.safetensors"), "--store"]
    told = CliRunner().invoke(app, [*arguments, "bfloat16"], catch_exceptions=False)
    assert "40 identities x 16 as bfloat16" in told.output
    assert InheritedClassifier.load(tmp_path / "d.safetensors").store == "bfloat16"
    with pytest.raises(UserError, match="did you mean 'int8'"):
        CliRunner().invoke(app, [*arguments, "int7"], catch_exceptions=False)
    assert pk.inherit_from_checkpoint(tmp_path / "d.safetensors").store == "bfloat16"
