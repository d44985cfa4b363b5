"""The page of an audit: what was checked and the faces behind every suspicion, in one file that loads nothing."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from proxylesskd.atomic import write_atomically
from proxylesskd.audit.album import Album, Group
from proxylesskd.audit.finding import Audit
from proxylesskd.audit.suspects import Levels, Suspects
from proxylesskd.data.source import Source
from proxylesskd.report.charts import histogram_chart

OTHERS = 20  # merged, split and inconsistent identities that are shown, of each at most
OWN, NEAREST = 0, 1  # colours
SYMBOLS = {"passed": "✓", "warning": "!", "failed": "✗"}

LABELS = (
    "Each image stands beside images of the identity that it is labelled as and of the nearest other one. The cosines "
    "are those of the image to the centres of their images, itself and suspected images left out. Look before you "
    "drop: a person as a small child is often suspected under the right label."
)
INCONSISTENT = "The images disagree with each other, and none of them can be called right."
MERGED = "The images fall into two groups that agree within themselves and are strangers to each other."
SPLIT = "The centres of the two are as similar as those of two parts of one identity."


@dataclass(frozen=True)
class Section:
    """One kind of suspicion.

    Attributes:
        id: anchor.
        title: heading.
        text: what the pictures show.
        total: how many were found.
        entries: those that are shown, each as groups of faces.
    """

    id: str
    title: str
    text: str
    total: int
    entries: Sequence[Sequence[Group]]


@dataclass(frozen=True)
class Tile:
    """A number at the top of the page."""

    name: str
    value: str
    detail: str


def write_audit_page(
    folder: str | Path,
    audit: Audit,
    suspects: Suspects | None = None,
    source: Source | None = None,
    *,
    teacher: str = "",
    images: int = 40,
) -> Path:
    """Write ``audit.html``, self-contained, and ``audit.json``.

    Args:
        folder: created if need be.
        audit: its findings are shown as they are: put those of
            :func:`proxylesskd.audit.suspects.suspect_findings` among them if they shall count.
        suspects: what :func:`proxylesskd.audit.images.find_suspects` found, or None.
        source: the faces that were judged, in the order in which they were embedded; None shows names and numbers
            without pictures.
        teacher: its name.
        images: suspected images to show; of the other suspicions 20 each are shown, and everything is in the JSON.

    Returns:
        Path of ``audit.html``.

    Raises:
        UserError: the suspects are not of this source, or a file cannot be written. An image that cannot be decoded
            leaves a gap that says so.
    """
    folder = Path(folder)
    html = _render(audit, suspects, source, teacher, images)
    told = audit.to_dict() | ({"teacher": teacher} if teacher else {})
    told |= {} if suspects is None else {"suspects": suspects.to_dict()}
    write_atomically(folder / "audit.json", json.dumps(told, indent=1, ensure_ascii=False).encode())
    path = folder / "audit.html"
    write_atomically(path, html.encode())
    return path


def _render(audit: Audit, suspects: Suspects | None, source: Source | None, teacher: str, images: int) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("proxylesskd.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("audit.html.j2").render(
        title=headline(audit),
        sentence=_sentence(audit, suspects, teacher),
        findings=audit.findings,
        symbols=SYMBOLS,
        tiles=[] if suspects is None else _tiles(suspects),
        levels=None if suspects is None else suspects.levels,
        chart="" if suspects is None else _chart(suspects.levels),
        sections=[] if suspects is None else _sections(suspects, Album(source, suspects), images),
        pictures=source is not None,
        version=importlib.metadata.version("proxylesskd"),
    )


def headline(audit: Audit) -> str:
    """Return the outcome in a few words."""
    if audit.failed:
        return f"The audit failed: {_count(len(audit.failed), 'check')}"
    if audit.warnings:
        return f"The audit passed with {_count(len(audit.warnings), 'warning')}"
    return "The audit passed"


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}" + ("" if number == 1 else "s")


def _sentence(audit: Audit, suspects: Suspects | None, teacher: str) -> str:
    judged = (
        "" if suspects is None else f" and {_count(suspects.images, 'image')} of {suspects.identities:,} identities"
    )
    by = f", by the teacher {teacher}" if teacher else ""
    return f"{_count(len(audit.findings), 'check')} of the classifier {audit.classifier[:16]}{judged}{by}."


def _tiles(suspects: Suspects) -> list[Tile]:
    share = 100 * len(suspects.mislabelled) / max(suspects.images, 1)
    return [
        Tile("Suspected labels", f"{len(suspects.mislabelled):,}", f"{share:.1f} % of {suspects.images:,} images"),
        Tile("Inconsistent", f"{len(suspects.inconsistent):,}", f"of {suspects.identities:,} identities"),
        Tile("Merged", f"{len(suspects.merged):,}", "identities like two people"),
        Tile("Split", f"{len(suspects.split):,}", "pairs like one person"),
    ]


def _chart(levels: Levels) -> str:
    """Draw both histograms, the empty bins at their ends cut off."""
    filled = [k for k, (own, other) in enumerate(zip(levels.own, levels.nearest, strict=True)) if own or other]
    if not filled:
        return ""
    first, last = max(0, filled[0] - 1), min(len(levels.own), filled[-1] + 2)
    return histogram_chart(
        levels.edges[first : last + 1],
        [
            ("own identity", OWN, levels.own[first:last]),
            ("nearest other identity", NEAREST, levels.nearest[first:last]),
        ],
        title="Cosines of images to their own and to the nearest other identity",
        x_label="cosine",
        y_label="share of images",
        threshold=levels.lookalike,
    )


def _sections(suspects: Suspects, album: Album, images: int) -> list[Section]:
    """Return the suspicions with their pictures."""
    wrong, odd, merged, split = suspects.mislabelled, suspects.inconsistent, suspects.merged, suspects.split
    return [
        Section("labels", "Suspected labels", LABELS, len(wrong), [album.mislabelled(one) for one in wrong[:images]]),
        Section("split", "Split identities", SPLIT, len(split), [album.split(one) for one in split[:OTHERS]]),
        Section("merged", "Merged identities", MERGED, len(merged), [album.merged(one) for one in merged[:OTHERS]]),
        Section(
            "inconsistent",
            "Inconsistent identities",
            INCONSISTENT,
            len(odd),
            [album.inconsistent(one) for one in odd[:OTHERS]],
        ),
    ]
