"""The sections of the page: each is made from files of the run, or says which command would write them."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxylesskd.errors import UserError
from proxylesskd.export.card import field, input_text, snippet
from proxylesskd.export.contract import TEMPLATE
from proxylesskd.export.measured import Mode
from proxylesskd.export.run_folder import read_json
from proxylesskd.report.charts import Series, histogram_chart, line_chart
from proxylesskd.report.curves import Entry, Figure, Line, curves
from proxylesskd.report.run import OWN, Run
from proxylesskd.report.tables import common_fars, far_text, files, results
from proxylesskd.report.wrong_pairs import FOLDER, LIST

LARGEST_PICTURE = 1024 * 1024
SHORT = {"single": "single-model", "cross": "cross-model"}
GENUINE, IMPOSTOR = OWN, 1


@dataclass(frozen=True)
class Section:
    """One section of the page.

    Attributes:
        id: anchor, and the name by which the template knows its form.
        title: heading.
        data: what the template shows, or None when the run folder has nothing for it.
        command: what would add it.
    """

    id: str
    title: str
    data: Any
    command: str


def sections(run: Run) -> list[Section]:
    """Return all sections of a run's page in order."""
    home = run.main.folder
    where = home.resolve().name
    evaluate = f"proxylesskd evaluate {where} PAIRS --gallery TEACHER"
    export = f"proxylesskd export {where} --images folder:FACES"
    distill = f"proxylesskd distill --out {where} --classifier CLASSIFIER data.train=folder:FACES"
    return [
        Section("results", "Results", results(run.models, run.differences), evaluate),
        Section("roc", "ROC", rocs(run) or None, evaluate),
        Section("similarities", "Similarities", similarities(run) or None, evaluate),
        Section("wrong", "Most wrong pairs", wrong_pairs(home), evaluate),
        Section("curves", "Training curves", curves(_lines(run)) or None, distill),
        Section("speed", "Sizes and speed", files(run.models), export),
        Section("use", "How to use the exported file", usage(run), export),
        Section("done", "What was done", settings(run), distill),
        Section("classifier", "The inherited classifier", provenance(run), distill),
        Section("repeat", "How to repeat this", repeating(run), distill),
    ]


def _lines(run: Run) -> list[Line]:
    return [Line(model.name, model.colour, model.rows) for model in run.models if model.rows]


def settings(run: Run) -> list[tuple[str, list[tuple[str, str]]]] | None:
    """Return the resolved recipe as named tables of settings."""
    if run.recipe is None:
        return None
    tables = [(name, values) for name, values in run.recipe.items() if isinstance(values, Mapping)]
    loose = {name: value for name, value in run.recipe.items() if not isinstance(value, Mapping)}
    tables = [("general", loose), *tables] if loose else tables
    return [(name, [(key, plain(value)) for key, value in values.items()]) for name, values in tables]


def plain(value: Any) -> str:
    """Return a value of a recipe or a provenance as a person writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(plain(one) for one in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(one)}" for key, one in value.items())
    return str(value) if value not in ("", None) else "none"


def rocs(run: Run) -> list[Figure]:
    """Draw one ROC per mode with every model that has a curve."""
    figures = [_roc(run, key) for key in SHORT]
    return [figure for figure in figures if figure is not None]


def _roc(run: Run, key: str) -> Figure | None:
    series = []
    for model in run.models:
        mode = model.evaluation.modes.get(key) if model.evaluation else None
        if mode:
            series.append(Series(model.name, *mode.roc, colour=model.colour, dashed=key == "cross"))
    svg = line_chart(
        [_above_zero(one) for one in series],
        title=f"ROC, {SHORT[key]}",
        x_label="false accept rate (log)",
        y_label="true accept rate",
        x_log=True,
        y_range=(0.0, 1.0),
        percent=True,
    )
    legend = tuple(Entry(one.name, one.colour, one.dashed) for one in series)
    return Figure(f"ROC, {SHORT[key]}", svg, legend) if svg else None


def _above_zero(series: Series) -> Series:
    """Leave out FAR 0, which a logarithmic axis does not have."""
    points = [(x, y) for x, y in zip(series.x, series.y, strict=True) if x > 0]
    return Series(series.name, [x for x, _ in points], [y for _, y in points], series.colour, series.dashed)


def similarities(run: Run) -> list[Figure]:
    """Draw the similarities of genuine and impostor pairs of the main model in both modes."""
    evaluation = run.main.evaluation
    if evaluation is None:
        return []
    figures = [_histogram(evaluation.modes[key], key) for key in SHORT if key in evaluation.modes]
    return [figure for figure in figures if figure is not None]


def _histogram(mode: Mode, key: str) -> Figure | None:
    edges, genuine, impostor = _trim(*mode.histogram)
    rate = next((rate for rate in reversed(mode.rates) if rate.threshold is not None and not rate.few), None)
    svg = histogram_chart(
        edges,
        [("same person", GENUINE, genuine), ("different people", IMPOSTOR, impostor)],
        title=f"Similarities, {SHORT[key]}",
        x_label="cosine similarity",
        threshold=rate.threshold if rate else None,
    )
    legend = (Entry("same person", GENUINE), Entry("different people", IMPOSTOR))
    caption = f"The threshold is the one for FAR {far_text(rate.far)}." if rate else ""
    return Figure(f"Similarities, {SHORT[key]}", svg, legend, caption) if svg else None


def _trim(
    edges: Sequence[float], genuine: Sequence[float], impostor: Sequence[float]
) -> tuple[Sequence[float], Sequence[float], Sequence[float]]:
    """Cut off the empty bins at both ends, all but one."""
    filled = [k for k, (a, b) in enumerate(zip(genuine, impostor, strict=True)) if a or b]
    first, last = (max(0, filled[0] - 1), filled[-1] + 2) if filled else (0, len(genuine))
    return edges[first : last + 1], genuine[first:last], impostor[first:last]


def wrong_pairs(folder: Path) -> dict[str, Any] | None:
    """Return the saved wrong pairs with their pictures inlined, or None when none were saved.

    Raises:
        UserError: the list is malformed, or a picture is missing, too large or no JPEG.
    """
    path = folder / FOLDER / LIST
    told = read_json(path)
    if told is None:
        return None
    try:
        pairs = [(bool(entry["same"]), _picture_pair(path, entry)) for entry in told["pairs"]]
        caption = (
            f"{told['model']} at threshold {told['threshold']:.3f}. The number is the similarity; "
            "a pair at or above the threshold counts as the same person."
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"expected the list of wrong pairs in {path}, found {error!r}; evaluate again") from error
    kinds = [
        {"title": "Different people taken for one", "pairs": [pair for same, pair in pairs if not same]},
        {"title": "One person taken for two", "pairs": [pair for same, pair in pairs if same]},
    ]
    return {"caption": caption, "kinds": kinds}


def _picture_pair(path: Path, entry: Mapping[str, Any]) -> dict[str, Any]:
    first, second = (inline_jpeg(path, name) for name in entry["files"])
    names = [str(name) for name in entry["names"]]
    if len(names) != 2:
        raise ValueError(f"{len(names)} names for two pictures")
    return {"first": first, "second": second, "names": names, "score": f"{entry['score']:.3f}"}


def inline_jpeg(path: Path, name: str) -> str:
    """Return a JPEG that stands beside ``path`` as a data URI."""
    if Path(name).name != name:
        raise UserError(f"expected file names without folders in {path}, found '{name}'; evaluate again")
    picture = path.with_name(name)
    data = picture.read_bytes() if picture.is_file() and picture.stat().st_size <= LARGEST_PICTURE else b""
    if not data.startswith(b"\xff\xd8\xff"):
        raise UserError(f"expected a JPEG of at most 1 MiB at {picture}, found none; evaluate again")
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()


def usage(run: Run) -> dict[str, Any] | None:
    """Return the snippet and the contract of the main model's exported file."""
    export = run.main.file
    if export is None or "preprocessing" not in export:
        return None
    points = ", ".join(f"({x:g}, {y:g})" for x, y in TEMPLATE)
    rows = [
        ("input", input_text(export)),
        ("five points in 112x112", points),
        ("embedding", f"{field(export, 'dim')} numbers" + (" of unit length" if export.get("normalised") else "")),
        ("SHA-256", str(field(export, "sha256"))),
    ]
    text = f"{field(export, 'file')} takes any number of aligned faces at once and says inside how it wants them."
    return {"text": text, "snippet": snippet(export), "rows": rows + _thresholds(run)}


def _thresholds(run: Run) -> list[tuple[str, str]]:
    evaluation = run.main.evaluation
    return [
        (f"threshold at FAR {far_text(rate.far)}, {SHORT[key]}", f"{rate.threshold:.4f}")
        for key in SHORT
        for rate in (evaluation.modes[key].rates if evaluation and key in evaluation.modes else ())
        if rate.threshold is not None
    ]


def provenance(run: Run) -> list[tuple[str, str]] | None:
    """Return where the rows of the classifier come from."""
    if run.classifier is None:
        return None
    told = run.classifier.get("provenance")
    rows = [(key, value) for key, value in run.classifier.items() if key != "provenance"]
    rows += list(told.items()) if isinstance(told, Mapping) else []
    return [(key.replace("_", " "), plain(value)) for key, value in rows]


def repeating(run: Run) -> dict[str, str] | None:
    """Return the commands that make this run again."""
    if run.recipe is None:
        return None
    name = run.main.folder.resolve().name
    verb = "train" if run.recipe.get("method", {}).get("name") == "alone" else "distill"
    text = (
        "The resolved recipe stands in the run folder. Which image is seen at which step, and how it is augmented, "
        "is a function of its seed and the step."
    )
    lines = [f"proxylesskd {verb} --recipe {name}/recipe.toml --out {name}-again"]
    if run.main.evaluation is not None:
        lines.append(f"proxylesskd evaluate {name}-again PAIRS --gallery TEACHER")
    if run.main.file is not None:
        lines.append(f"proxylesskd export {name}-again --images folder:FACES")
    lines.append(f"proxylesskd report {name}-again")
    return {"text": text, "command": "\n".join(lines)}


def tiles(run: Run) -> list[dict[str, str]]:
    """Return the few numbers at the top of the page."""
    found = []
    evaluation = run.main.evaluation
    fars = common_fars([run.main])
    for key, mode in evaluation.modes.items() if evaluation else ():
        rate = next((rate for rate in mode.rates if fars and rate.far == fars[0]), None)
        if rate and rate.tar:
            name = f"TAR at FAR {far_text(rate.far)}"
            found.append({"name": name, "value": f"{100 * rate.tar.value:.1f} %", "detail": SHORT[key]})
    return found + _file_tiles(run.main.file or {})


def _file_tiles(file: Mapping[str, Any]) -> list[dict[str, str]]:
    from proxylesskd.report.tables import latencies, size_text

    found = []
    if "bytes" in file:
        found.append({"name": "File", "value": size_text(file["bytes"]), "detail": str(file.get("file", ""))})
    for entry in latencies(file)[:1]:
        detail = f"batch {entry['batch']}, {entry['threads']} thread"
        found.append({"name": "Latency", "value": f"{entry['milliseconds']:.1f} ms", "detail": detail})
    return found


def sentence(run: Run) -> str:
    """Say in plain words what was done."""
    recipe = run.recipe or {}
    model, method, data = (recipe.get(name, {}) for name in ("model", "method", "data"))
    if not model:
        return f"{len(run.models)} models compared: {', '.join(m.name for m in run.models)}."
    text = f"A {model.get('name')} was trained {_how(method)} on {data.get('train') or 'labelled faces'}"
    steps = [row["step"] for row in run.main.rows]
    text += f" for {max(steps):,} steps." if steps else "."
    return text + _where(run)


def _how(method: Mapping[str, Any]) -> str:
    if method.get("name") == "proxyless":
        return "by ProxylessKD, through the frozen class centres of its teacher,"
    return f"by the method '{method.get('name')}'"


def _where(run: Run) -> str:
    if run.classifier is None or "identities" not in run.classifier:
        return ""
    told = run.classifier.get("provenance")
    teacher = told.get("teacher") if isinstance(told, Mapping) else None
    count = run.classifier["identities"]
    rows = f" The classifier has {count} identities" + (
        f" of {run.classifier['dim']} dimensions" if "dim" in run.classifier else ""
    )
    return rows + (f" and comes from the teacher {teacher}." if teacher else ".")
