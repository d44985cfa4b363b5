"""The top of the page: what was done in plain words, and the few numbers that matter most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxylesskd.report.run import Run
from proxylesskd.report.tables import SHORT, common_fars, far_text, size_text

NO_RECIPE = "The folder holds no recipe.toml, so the page cannot say what was trained."


def tiles(run: Run) -> list[dict[str, str]]:
    """Return the few numbers at the top of the page."""
    found = []
    evaluation = run.main.evaluation
    fars = common_fars([run.main])
    for key, mode in evaluation.modes.items() if evaluation else ():
        rate = next((rate for rate in mode.rates if fars and rate.far == fars[0]), None)
        if rate and rate.tar:
            low, high = rate.tar.interval or (None, None)
            detail = SHORT[key] + ("" if low is None or high is None else f", {100 * low:.1f} to {100 * high:.1f}")
            found.append(
                {"name": f"TAR at FAR {far_text(rate.far)}", "value": f"{100 * rate.tar.value:.1f} %", "detail": detail}
            )
    return found + _file_tiles(run.main.file or {})


def _file_tiles(file: Mapping[str, Any]) -> list[dict[str, str]]:
    found = []
    if "bytes" in file:
        found.append({"name": "File", "value": size_text(file["bytes"]), "detail": str(file.get("file", ""))})
    for entry in file.get("latencies", [])[:1]:
        detail = f"batch {entry['batch']}, {entry['threads']} thread"
        found.append({"name": "Latency", "value": f"{entry['milliseconds']:.1f} ms", "detail": detail})
    return found


def sentence(run: Run) -> str:
    """Say in plain words what was done."""
    recipe = run.recipe or {}
    model, method, data = (recipe.get(name, {}) for name in ("model", "method", "data"))
    if not model:
        names = ", ".join(one.name for one in run.models)
        return f"{len(run.models)} models side by side: {names}." if len(run.models) > 1 else NO_RECIPE
    text = f"A {model.get('name')} was trained {_how(method)} on {data.get('train') or 'labelled faces'}"
    steps = [row["step"] for row in run.main.rows]
    text += f" for {max(steps):,} steps." if steps else "."
    return text + _where(run)


def _how(method: Mapping[str, Any]) -> str:
    if method.get("name") == "proxyless":
        return "by ProxylessKD, through the frozen classifier of its teacher,"
    if method.get("name") == "alone":
        return "together with a classifier of its own"
    return f"by the method '{method.get('name')}'"


def _where(run: Run) -> str:
    if run.classifier is None or "identities" not in run.classifier:
        return ""
    told = run.classifier.get("provenance")
    teacher = told.get("teacher", told.get("run")) if isinstance(told, Mapping) else None
    count = run.classifier["identities"]
    rows = f" The classifier has {count} identities" + (
        f" of {run.classifier['dim']} dimensions" if "dim" in run.classifier else ""
    )
    return rows + (f" and comes from '{teacher}'." if teacher else ".")
