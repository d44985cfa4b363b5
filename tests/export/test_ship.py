from __future__ import annotations

import hashlib
import json
from pathlib import Path

import onnx
import pytest

from proxylesskd.export import onnx as exporter
from proxylesskd.export.ship import provenance, ship
from tests.export.conftest import PREPROCESSING, Exported


def test_a_shipment_is_file_numbers_and_card(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "network_graph", lambda *_: exported.body)
    (tmp_path / "recipe.toml").write_text(
        '[model]\nname = "tiny"\n[method]\nname = "proxyless"\n[data]\ntrain = "rec:x"\n'
    )
    (tmp_path / "classifier.json").write_text('{"fingerprint": "f00", "provenance": {"teacher": "resnet"}}')
    shipment = ship(
        tmp_path, exported.model, PREPROCESSING, images=exported.faces, repeats=1, metadata={"licence": "mine"}
    )
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        "card.md", "classifier.json", "export.json", "recipe.toml", "student.onnx"
    ]  # fmt: skip
    told = json.loads((tmp_path / "export.json").read_text(encoding="utf-8"))
    data = (tmp_path / "student.onnx").read_bytes()
    assert told["sha256"] == hashlib.sha256(data).hexdigest()
    assert told["bytes"] == len(data) == shipment.export.size
    assert [latency["batch"] for latency in told["latencies"]] == [1, 32]
    # convolution 8x3x5x5, batch norm 2x8, PReLU 8, linear 6x128+6, batch norm 2x6
    assert told["parameters"] == 600 + 16 + 8 + 774 + 12
    # 13x13 places of 8x75 products, then 6x128
    assert told["multiply_adds"] == 13 * 13 * 600 + 768
    assert told["provenance"].pop("made_by").startswith("proxylesskd ")
    assert told["provenance"] == {
        "architecture": "tiny", "method": "proxyless", "training_data": "rec:x", "classifier": "f00",
        "teacher": "resnet", "licence": "mine",
    }  # fmt: skip
    inside = next(entry for entry in onnx.load(tmp_path / "student.onnx").metadata_props if entry.key == "proxylesskd")
    assert json.loads(inside.value)["provenance"]["teacher"] == "resnet"
    assert told["sha256"] in shipment.card.read_text(encoding="utf-8")


def test_a_folder_without_files_still_says_what_made_it(tmp_path: Path) -> None:
    assert list(provenance(tmp_path)) == ["made_by"]
