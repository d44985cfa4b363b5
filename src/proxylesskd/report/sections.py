"""The sections of the page: each is made from files of the run, or says which command would write them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from proxylesskd.export.card import field, input_text, snippet
from proxylesskd.export.contract import TEMPLATE
from proxylesskd.report.curves import Line, curves, notes
from proxylesskd.report.figures import rocs, similarities
from proxylesskd.report.pictures import read_wrong_pairs
from proxylesskd.report.protocols import protocols
from proxylesskd.report.run import Run
from proxylesskd.report.tables import SHORT, far_text, files, results


@dataclass(frozen=True)
class Section:
    """One section of the page.

    Attributes:
        id: anchor, and the name by which the template knows its form.
        title: heading.
        data: what the template shows, or None when the run folder has nothing for it.
        command: what would add it; empty where its absence is not worth a word.
    """

    id: str
    title: str
    data: Any
    command: str


def sections(run: Run) -> list[Section]:
    """Return all sections of a run's page in order."""
    home = run.main.folder
    where = shlex.quote(home.resolve().name)
    evaluate = f"proxylesskd evaluate {where} PAIRS --gallery TEACHER"
    export = f"proxylesskd export {where} --images folder:FACES"
    given = "" if verb(run) == "train" else " --classifier CLASSIFIER"
    train = f"proxylesskd {verb(run)} --out {where}{given} data.train=folder:FACES"
    inherit = f"proxylesskd inherit {where} --out CLASSIFIER" if verb(run) == "train" else train
    return [
        Section("results", "Results", results(run.models, run.differences), evaluate),
        Section("roc", "ROC", rocs(run) or None, evaluate),
        Section("similarities", "Similarities", similarities(run) or None, evaluate),
        Section("protocols", "Protocols", protocols(run) or None, ""),  # few have IJB: its absence is no gap
        Section("wrong", "Most wrong pairs", read_wrong_pairs(home), evaluate),
        Section("curves", "Training curves", training(run), train),
        Section("speed", "Sizes and speed", files(run.models), export),
        Section("use", "How to use the exported file", usage(run), export),
        Section("done", "What was done", settings(run), train),
        Section("classifier", "The inherited classifier", provenance(run), inherit),
        Section("repeat", "How to repeat this", repeating(run), train),
    ]


def verb(run: Run) -> str:
    """Return the command that trains by the recipe's method."""
    return "train" if (run.recipe or {}).get("method", {}).get("name") == "alone" else "distill"


def training(run: Run) -> dict[str, Any] | None:
    """Return the curves of every model that has a log, and the warnings in it."""
    lines = [Line(model.name, model.colour, model.rows) for model in run.models if model.rows]
    figures = curves(lines)
    return {"figures": figures, "notes": notes(lines)} if figures else None


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
    """Return where the rows of the classifier come from, and what its audits found."""
    if run.classifier is None:
        return None
    told = run.classifier.get("provenance")
    origin = told if isinstance(told, Mapping) else {}
    facts = [item for item in (*run.classifier.items(), *origin.items()) if item[0] not in ("provenance", "audit")]
    rows = [(key.replace("_", " "), plain(value)) for key, value in facts]
    return rows + _audited("audit when inherited", origin) + _audited("audit before training", run.classifier)


def _audited(title: str, told: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the outcome of an audit, and every finding that is more than a check that passed."""
    audit = told.get("audit")
    found = audit.get("findings") if isinstance(audit, Mapping) else None
    if not isinstance(found, Sequence):
        return []
    findings = [finding for finding in found if isinstance(finding, Mapping)]
    notable = [finding for finding in findings if finding.get("level") != "passed"]
    rows = [(title, f"{len(findings)} checks, {len(notable)} with findings")]
    return rows + [(f"{title}: {plain(f.get('check'))}", plain(f.get("message"))) for f in notable]


def repeating(run: Run) -> dict[str, str] | None:
    """Return the commands that make this run again."""
    if run.recipe is None:
        return None
    name = shlex.quote(run.main.folder.resolve().name)
    text = (
        "The resolved recipe stands in the run folder. Which image is seen at which step, and how it is augmented, "
        "is a function of its seed and the step."
    )
    lines = [f"proxylesskd {verb(run)} --recipe {name}/recipe.toml --out {name}-again"]
    if run.main.evaluation is not None:
        lines.append(f"proxylesskd evaluate {name}-again PAIRS --gallery TEACHER")
    if run.main.file is not None:
        lines.append(f"proxylesskd export {name}-again --images folder:FACES")
    lines.append(f"proxylesskd report {name}-again")
    return {"text": text, "command": "\n".join(lines)}
