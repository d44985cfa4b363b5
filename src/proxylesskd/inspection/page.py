"""The folder of an inspection: what was found as a page, as JSON and as pictures."""

from __future__ import annotations

import base64
import importlib.metadata
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from proxylesskd.atomic import write_atomically
from proxylesskd.audit.album import Face, picture_of
from proxylesskd.data.source import Source
from proxylesskd.inspection.duplicates import Twins
from proxylesskd.inspection.inspect import Inspection
from proxylesskd.inspection.sheet import contact_sheet
from proxylesskd.report.charts import histogram_chart

PAGE, JSON, SHEET, MEAN = "inspection.html", "inspection.json", "contact-sheet.png", "mean-face.png"
SHOWN = 40  # twins and corrupt files on the page; all of them stand in the JSON
BINS = 30


def write_inspection(
    found: Inspection, source: Source, folder: str | Path, *, identities: int = 10, images: int = 10
) -> Path:
    """Write ``inspection.html`` (self-contained), ``inspection.json``, ``contact-sheet.png`` and ``mean-face.png``.

    Args:
        found: what :func:`proxylesskd.inspection.inspect.inspect_source` found.
        source: the same one.
        folder: created if need be.
        identities: rows of the sheet, at most.
        images: faces in a row, at most.

    Returns:
        Path of the page.

    Raises:
        UserError: fewer than one row or column is asked for.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    contact_sheet(source, folder / SHEET, identities=identities, images=images)
    Image.fromarray(found.mean_face.transpose(1, 2, 0)).save(folder / MEAN, "PNG")
    told = found.to_dict() | {"source": [source.name(0), source.name(len(source) - 1)]}
    write_atomically(folder / JSON, json.dumps(told, indent=1, ensure_ascii=False).encode())
    write_atomically(folder / PAGE, _render(found, source, folder).encode())
    return folder / PAGE


def _render(found: Inspection, source: Source, folder: Path) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("proxylesskd.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("inspection.html.j2").render(
        title=folder.resolve().name,
        sentence=sentence(found),
        tiles=_tiles(found),
        lines=found.lines(),
        chart=_chart(found.histogram),
        mean=_inline(found.mean_face.transpose(1, 2, 0)),
        sheet="data:image/png;base64," + base64.b64encode((folder / SHEET).read_bytes()).decode(),
        sizes=[(f"{width} x {height}", count) for (height, width), count in list(found.sizes.items())[:SHOWN]],
        corrupt=list(found.corrupt.values())[:SHOWN],
        twins=[_pair(one, source) for one in found.twins[:SHOWN]],
        found=found,
        version=importlib.metadata.version("proxylesskd"),
    )


def sentence(found: Inspection) -> str:
    """Say in one sentence whether the source can be trained on as it is."""
    wrong = [
        "red and blue are swapped" if found.colours.verdict == "bgr" else "",
        str(found.alignment) if found.alignment.verdict in ("not aligned", "elsewhere") else "",
        f"{len(found.corrupt):,} of {found.read:,} images cannot be read" if found.corrupt else "",
        "pictures stand under two identities" if found.equal or found.near else "",
    ]
    told = [text for text in wrong if text]
    return f"To mend or to know: {'; '.join(told)}." if told else "Nothing stands against training on it."


def _tiles(found: Inspection) -> list[dict[str, str]]:
    low, median, high = found.per_identity
    told = [
        ("Images", f"{found.images:,}", "all of them counted"),
        ("Identities", f"{found.identities:,}", f"{low} to {high} images, median {median:g}"),
        ("Corrupt", f"{len(found.corrupt):,}", f"of {found.read:,} that were read"),
        ("Twins", f"{found.equal + (found.near or 0):,}", "pictures under two identities"),
    ]
    return [{"name": name, "value": value, "detail": detail} for name, value, detail in told]


def _chart(histogram: Mapping[int, int]) -> str:
    """Draw how many images the identities have."""
    most = max(histogram)
    edges = np.unique(np.linspace(0.5, most + 0.5, min(BINS, most) + 1).round() + 0.5)
    counts, _ = np.histogram(list(histogram), bins=edges, weights=list(histogram.values()))
    return histogram_chart(
        edges.tolist(),
        [("identities", 0, counts.tolist())],
        title="Images of an identity",
        x_label="images of an identity",
        y_label="share of identities",
    )


def _inline(picture: npt.NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _pair(one: Twins, source: Source) -> tuple[Sequence[Face], Sequence[str], str]:
    """Return both faces, their identities, and how near they are."""
    both = (one.first, one.second)
    names = [source.identities[int(source.labels[index])] for index in both]
    return [picture_of(source, index) for index in both], names, "equal" if one.cosine is None else f"{one.cosine:.3f}"
