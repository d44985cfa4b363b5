"""The model card: everything that somebody who gets the file, and nothing else, must know to use it well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from proxylesskd.errors import UserError
from proxylesskd.export.contract import TEMPLATE, TEMPLATE_SIZE
from proxylesskd.export.measured import FEW, Evaluated, Measure, Mode, Rate, read_evaluation
from proxylesskd.export.run_folder import read_json, read_toml
from proxylesskd.models.preprocess import Preprocessing

POINTS = ("left eye", "right eye", "nose", "left corner of the mouth", "right corner of the mouth")
MODES = {
    "single": "Single-model (gallery and probe both by this file)",
    "cross": "Cross-model (gallery by the teacher, probe by this file)",
}

LIMITS = """\
- Similarity is evidence, not identity. Choose the threshold for your own false accept rate, and measure it again on
  your own pictures: cameras, ages, poses and light unlike those of the verification set shift both error rates.
- Error rates differ between groups of people when training data does. Measure them for the people whom you serve
  before anything depends on the answer.
- The file compares faces that were detected and aligned. It neither detects faces nor notices that a face is a
  photograph of a photograph (no liveness).
- An embedding is biometric data: in many places storing or comparing it needs a legal ground, usually the consent of
  the person. Do not identify people who do not know of it, and let no decision about a person rest on it alone.
- A student trained from a teacher inherits its errors, and whatever terms its weights and its training data carry."""


def write_card(folder: Path) -> Path:
    """Write ``card.md`` into a run folder from its ``export.json`` and whatever else stands there.

    Raises:
        UserError: nothing was exported in this folder yet, or a file is malformed.
    """
    export = read_json(folder / "export.json")
    if export is None:
        raise UserError(f"expected an export.json in '{folder}', found none; run proxylesskd export first")
    text = card_text(
        export,
        evaluation=read_evaluation(folder / "evaluation.json"),
        recipe=read_toml(folder / "recipe.toml"),
        classifier=read_json(folder / "classifier.json"),
    )
    path = folder / "card.md"
    path.write_text(text, encoding="utf-8")
    return path


def card_text(
    export: Mapping[str, Any],
    *,
    evaluation: Evaluated | None = None,
    recipe: Mapping[str, Any] | None = None,
    classifier: Mapping[str, Any] | None = None,
) -> str:
    """Return the card as Markdown.

    Args:
        export: content of ``export.json``.
        evaluation: the model's evaluation, for the thresholds.
        recipe: tables of ``recipe.toml``, for architecture and training.
        classifier: content of ``classifier.json``, for its provenance.

    Raises:
        UserError: ``export`` lacks what an export writes.
    """
    parts = [
        _what(export, recipe),
        _files(export),
        _input(export),
        _calling(export),
        _thresholds(evaluation),
        _training(recipe),
        _classifier(classifier),
        "## Limits and responsible use\n\n" + LIMITS,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def field(export: Mapping[str, Any], name: str) -> Any:
    """Return a field of ``export.json``, or say that it is missing."""
    if name not in export:
        raise UserError(f"expected '{name}' in export.json, found {', '.join(export)}; run proxylesskd export again")
    return export[name]


def calling(export: Mapping[str, Any]) -> Preprocessing:
    """Return the preprocessing that ``export.json`` records."""
    fields = field(export, "preprocessing")
    if not isinstance(fields, Mapping):
        raise UserError(f"expected the preprocessing in export.json as a table, found {fields!r}; export again")
    return Preprocessing.from_dict({key: value for key, value in fields.items() if key != "alignment"})


def _what(export: Mapping[str, Any], recipe: Mapping[str, Any] | None) -> str:
    model = (recipe or {}).get("model", {})
    told = field(export, "provenance")
    rows = [
        ("File", f"`{field(export, 'file')}`{f', ONNX, opset {opset}' if (opset := field(export, 'opset')) else ''}"),
        *_identity(export),
        ("Architecture", _architecture(model, export)),
        ("Embedding", f"{field(export, 'dim')} numbers, {'unit length' if export.get('normalised') else 'any length'}"),
        *((key.replace("_", " ").capitalize(), str(value)) for key, value in told.items()),
    ]
    return (
        "# Face embedding model\n\n"
        "Turns the picture of one aligned face into an embedding. The cosine of two embeddings says how alike two\n"
        f"faces are.\n\n{_table(('', ''), rows)}"
    )


def _identity(export: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return size and hash; a card inside of a file knows neither of its file, but the hash of the weights."""
    if "bytes" not in export and "weights" in export:
        return [("SHA-256 of the weights", f"`{export['weights']}`")]
    return [("Size", f"{field(export, 'bytes'):,} bytes"), ("SHA-256", f"`{field(export, 'sha256')}`")]


def _files(export: Mapping[str, Any]) -> str:
    table, files = export.get("table"), export.get("artefacts")
    if not table or not isinstance(files, Sequence):
        return ""
    hashes = [(f"`{one['file']}`", f"`{one['sha256']}`") for one in files if one.get("file")]
    told = f"on {export['pairs']}" if export.get("pairs") else "without verification pairs"
    return (
        "## Files\n\n"
        f"Every file was run in its own runtime and compared with the PyTorch student {told}: accuracy and TAR with "
        "the difference to the student's and the 95 % interval of that, in points. Times are medians of calls side by "
        f"side on {export.get('machine', 'one machine')}.\n\n{table}\n\n{_table(('file', 'SHA-256'), hashes)}"
    )


def _architecture(model: Mapping[str, Any], export: Mapping[str, Any]) -> str:
    words = [str(model.get("name", "not recorded"))]
    if model.get("width", 1.0) != 1.0:
        words.append(f"width {model['width']:g}")
    if "parameters" in export:
        words.append(f"{export['parameters']:,} parameters")
    if "multiply_adds" in export:
        words.append(f"{export['multiply_adds']:,} multiply-adds")
    return ", ".join(words)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def _cell(value: str) -> str:
    return value.replace("|", "\\|").replace("\n", " ")


def input_text(export: Mapping[str, Any]) -> str:
    """Return in one sentence what the file's input is."""
    p = calling(export)
    shape = f"[B, 3, {p.size}, {p.size}]" if p.layout == "nchw" else f"[B, {p.size}, {p.size}, 3]"
    if export.get("dtype") == "uint8":
        return f"image {shape} uint8, any batch size B, colour order {p.order.upper()}, pixel values 0..255 as they are"
    return (
        f"image {shape} float32, any batch size B, colour order {p.order.upper()}, "
        f"each pixel value v in 0..255 as (v - {p.mean:g}) / {p.std:g}"
    )


def _input(export: Mapping[str, Any]) -> str:
    p = calling(export)
    points = "\n".join(f"| {name} | {x:g} | {y:g} |" for name, (x, y) in zip(POINTS, TEMPLATE, strict=True))
    return (
        "## Input\n\n"
        f"{input_text(export)}.\n\n"
        f"The face is aligned first: a similarity transform (rotation, scale, shift) brings its five points to these\n"
        f"places in a {TEMPLATE_SIZE}x{TEMPLATE_SIZE} crop (left and right as seen in the picture):\n\n"
        f"| point | x | y |\n| --- | --- | --- |\n{points}"
        + (f"\n\nThe crop is then resized to {p.size}x{p.size} by area." if p.size != TEMPLATE_SIZE else "")
    )


def _calling(export: Mapping[str, Any]) -> str:
    return (
        "## How to call it\n\n"
        "The same preprocessing stands inside the file as metadata (`proxylesskd`, JSON).\n\n"
        f"```python\n{snippet(export)}\n```"
    )


def snippet(export: Mapping[str, Any]) -> str:
    """Return ten lines of Python that compare two aligned faces with onnxruntime, numpy and Pillow."""
    p = calling(export)
    axes = "(2, 0, 1)" if p.layout == "nchw" else "(0, 1, 2)"
    order = "" if p.order == "rgb" else "[:, :, ::-1]"
    if export.get("dtype") == "uint8":
        pixels = f"np.asarray(face){order}"
    else:
        pixels = f"(np.asarray(face, np.float32){order} - {p.mean:g}) / {p.std:g}"
    unit = "" if export.get("normalised") else "    embedding /= np.linalg.norm(embedding)\n"
    return f"""\
import numpy as np, onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession("{field(export, "file")}")

def embed(path):  # a face aligned to the five points
    face = Image.open(path).convert("RGB").resize(({p.size}, {p.size}), Image.BOX)
    pixels = {pixels}
    embedding = session.run(["embedding"], {{"image": pixels.transpose{axes}[None]}})[0][0]
{unit}    return embedding

print("similarity", float(embed("a.jpg") @ embed("b.jpg")))"""


def _thresholds(evaluation: Evaluated | None) -> str:
    head = "## Thresholds\n\n"
    if evaluation is None:
        return head + "Not measured. `proxylesskd evaluate` on a verification set, then `proxylesskd export` again."
    tables = [f"{title}:\n\n{_rates(mode)}" for key, title in MODES.items() if (mode := evaluation.modes.get(key))]
    return (
        f"{head}Two faces count as the same person from this cosine on. Measured on {evaluation.pairs}; "
        f"a threshold is only as good as these pairs are like yours.\n\n" + "\n\n".join(tables)
    )


def _rates(mode: Mode) -> str:
    rows = [(f"{rate.far:g}", _threshold(rate), _tar(rate.tar)) for rate in mode.rates]
    return _table(("false accept rate", "threshold", "true accept rate"), rows)


def _threshold(rate: Rate) -> str:
    if rate.threshold is None:
        return "too few pairs"
    return f"{rate.threshold:.4f}" + (f" (rests on fewer than {FEW} impostor pairs)" if rate.few else "")


def _tar(tar: Measure | None) -> str:
    if tar is None:
        return "too few pairs"
    interval = f" ({100 * tar.interval[0]:.2f} to {100 * tar.interval[1]:.2f})" if tar.interval else ""
    return f"{100 * tar.value:.2f} %{interval}"


def _training(recipe: Mapping[str, Any] | None) -> str:
    head = "## Training\n\n"
    if recipe is None:
        return head + "Not recorded: the run folder held no recipe.toml."
    rows = [
        (f"{section}.{key}" if key else section, f"`{value}`" if value != "" else "none")
        for section, values in recipe.items()
        for key, value in (values.items() if isinstance(values, Mapping) else [("", values)])
    ]
    return head + "Images and identities came from `data.train`.\n\n" + _table(("setting", "value"), rows)


def _classifier(classifier: Mapping[str, Any] | None) -> str:
    if classifier is None:
        return "## Classifier\n\nNot recorded: the run folder held no classifier.json."
    told, audit = classifier.get("provenance"), classifier.get("audit")
    origin = told if isinstance(told, Mapping) else {}
    facts = [item for item in (*classifier.items(), *origin.items()) if item[0] not in ("provenance", "audit")]
    rows = [(key, str(value)) for key, value in facts]
    if isinstance(audit, Mapping):
        rows.append(("audit", "passed" if audit.get("passed") else "failed"))
    text = "The student was trained through this frozen classifier, inherited from its teacher."
    if classifier.get("teacher_dim", classifier.get("dim")) != classifier.get("dim"):
        text += (
            " It is smaller than the teacher: a gallery that the teacher enrolled is searched after its embeddings are "
            "multiplied by the matrix in `projection.safetensors` and normalised again."
        )
    return f"## Classifier\n\n{text}\n\n" + _table(("", ""), rows)
