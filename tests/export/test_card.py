from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from proxylesskd.errors import UserError
from proxylesskd.export.card import _classifier, card_text, snippet, write_card
from proxylesskd.export.measured import Evaluated, Measure, Mode, Rate
from proxylesskd.models.preprocess import Preprocessing
from tests.export.conftest import Exported


def _mode(*rates: Rate) -> Mode:
    any_value = Measure(0.5)
    return Mode(any_value, any_value, any_value, rates, ([0.0], [0.0]), ([0.0, 1.0], [1], [1]))


EVALUATION = Evaluated(
    "lfw.bin",
    (3000, 3000),
    "sface",
    "1,000 bootstrap replicates over identities",
    {
        "single": _mode(Rate(1e-2, Measure(0.8765, (0.8512, 0.8901)), 0.31415), Rate(1e-6, None, None)),
        "cross": _mode(Rate(1e-2, Measure(0.5), 0.27182, few=True)),
    },
)
RECIPE = {"seed": 7, "data": {"train": "folder:a|b"}, "model": {"name": "mobilefacenet", "width": 0.5}}
CLASSIFIER = {"identities": 4233, "provenance": {"teacher": "sface", "how": "class centres"}}


def _export(exported: Exported) -> dict[str, Any]:
    return {**exported.report.to_dict(), "parameters": 1204288}


def test_the_snippet_runs_and_gives_the_networks_similarity(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(exported.path, tmp_path)
    for name, image in zip("ab", exported.faces, strict=False):
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / f"{name}.jpg", format="PNG")
    card = card_text(_export(exported))
    code = card.split("```python\n")[1].split("```")[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    monkeypatch.chdir(tmp_path)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(code, {})
    word, value = out.getvalue().split()
    model = exported.model
    inputs = exported.report.contract.preprocessing(torch.from_numpy(exported.faces[:2]))
    with torch.no_grad():
        a, b = torch.nn.functional.normalize(_copy(model)(inputs), dim=1).numpy()
    assert word == "similarity"
    assert float(value) == pytest.approx(float(a @ b), abs=1e-4)


def _copy(model: torch.nn.Module) -> torch.nn.Module:
    import copy

    return copy.deepcopy(model).eval()


def test_the_snippet_of_plain_embeddings_normalises_them() -> None:
    told = {"file": "x.onnx", "normalised": False, "preprocessing": Preprocessing(layout="nhwc").to_dict()}
    code = snippet(told)
    compile(code, "snippet", "exec")
    assert "embedding /= np.linalg.norm(embedding)" in code
    assert "transpose(0, 1, 2)" in code


def test_the_card_says_what_the_files_say(exported: Exported) -> None:
    card = card_text(_export(exported), evaluation=EVALUATION, recipe=RECIPE, classifier=CLASSIFIER)
    assert exported.report.sha256 in card
    assert f"{exported.report.size:,} bytes" in card
    assert "mobilefacenet, width 0.5, 1,204,288 parameters" in card
    assert "| Embedding | 6 numbers, unit length |" in card
    assert "image [B, 3, 56, 56] float32" in card
    assert "BGR" in card
    assert "(v - 120) / 64" in card
    assert "resized to 56x56" in card
    points = [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
    assert all(f"| {x} | {y} |" in card for x, y in points)
    assert "| 0.01 | 0.3141 | 87.65 % (85.12 to 89.01) |" in card
    assert "| 1e-06 | too few pairs | too few pairs |" in card
    assert "| 0.01 | 0.2718 (rests on fewer than 10 impostor pairs) | 50.00 % |" in card
    assert card.index("Single-model") < card.index("0.3141") < card.index("Cross-model") < card.index("0.2718")
    assert "| data.train | `folder:a\\|b` |" in card
    assert "| seed | `7` |" in card
    assert "| teacher | sface |" in card
    assert "| Licence | none at all |" in card
    assert "## Limits and responsible use" in card


def test_what_is_missing_is_said(exported: Exported) -> None:
    card = card_text(_export(exported))
    assert "Not measured. `proxylesskd evaluate`" in card
    assert "no recipe.toml" in card
    assert "no classifier.json" in card


def test_the_card_of_a_run_folder(exported: Exported, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected an export\.json"):
        write_card(tmp_path)
    (tmp_path / "export.json").write_text(json.dumps(_export(exported)))
    (tmp_path / "recipe.toml").write_text('[model]\nname = "iresnet50"\n')
    path = write_card(tmp_path)
    assert path.name == "card.md"
    assert "iresnet50" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("missing", ["file", "preprocessing", "dim", "sha256", "provenance"])
def test_an_incomplete_export_is_named(exported: Exported, missing: str) -> None:
    told = _export(exported)
    del told[missing]
    with pytest.raises(UserError, match=f"expected '{missing}' in export.json"):
        card_text(told)


def test_a_malformed_preprocessing_is_named(exported: Exported) -> None:
    with pytest.raises(UserError, match=r"expected the preprocessing in export\.json as a table, found 3"):
        card_text({**_export(exported), "preprocessing": 3})
    assert np.isfinite(exported.report.size)


def test_a_student_of_a_projected_classifier_says_how_to_search_the_teachers_gallery() -> None:
    same, smaller = ({"dim": 64, "teacher_dim": dim, "provenance": {}} for dim in (64, 128))
    assert "projection.safetensors" in _classifier(smaller)
    assert "projection.safetensors" not in _classifier(same)
