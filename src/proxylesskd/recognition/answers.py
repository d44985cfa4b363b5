"""What recognition answers, as plain values: same or different, who it is, what was enrolled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from proxylesskd.recognition.thresholds import OpenSet, far_name


@dataclass(frozen=True)
class Verification:
    """Whether two photos show one person.

    Attributes:
        same: whether the similarity reaches the threshold.
        similarity: cosine in [-1, 1].
        threshold: the least similarity of one person.
        far: false accept rate of that threshold; None where the threshold was given.
        probability: that they are one person if half of all pairs are (prior 1:1); None for a model without
            calibration.
        model: its name.
    """

    same: bool
    similarity: float
    threshold: float
    far: float | None
    probability: float | None
    model: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def __str__(self) -> str:
        """Say it in a line."""
        sign, which = (">=", "same person") if self.same else ("<", "different people")
        why = "as given" if self.far is None else f"for FAR {far_name(self.far)}"
        text = f"{which}: similarity {self.similarity:.4f} {sign} threshold {self.threshold:.4f} ({why})"
        if self.probability is None:
            return f"{text}; no probability: the model carries no calibration"
        return f"{text}; probability of one person {_share(self.probability)} at even odds before"


@dataclass(frozen=True)
class Candidate:
    """One of those who are most like the probe.

    Attributes:
        identity: name.
        similarity: of the probe to the identity's photo that is most like it, a cosine in [-1, 1].
        photo: name of that photo.
    """

    identity: str
    similarity: float
    photo: str


@dataclass(frozen=True)
class Identification:
    """Who of a gallery a probe shows.

    Attributes:
        identity: whose similarity is highest and reaches the threshold; None for nobody.
        candidates: the most similar identities, the most similar first, whether they reach the threshold or not.
        open_set: the threshold, and the share of strangers who are named at it.
        mode: ``"single"`` or ``"cross"``.
        photos: how many are enrolled.
        model: of the probe.
        gallery_model: that made the gallery.
    """

    identity: str | None
    candidates: Sequence[Candidate]
    open_set: OpenSet
    mode: str
    photos: int
    model: str
    gallery_model: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def __str__(self) -> str:
        """Say it in a line, and in a second one what to know about the threshold."""
        threshold = self.open_set.threshold
        best = self.candidates[0].similarity if self.candidates else None
        if best is None:
            return "nobody: the gallery is empty"
        found = self.identity or "nobody"
        text = f"{found}: similarity {best:.4f} {'<' if self.identity is None else '>='} threshold {threshold:.4f}"
        return text + _strangers(self.open_set, self.photos)


def _strangers(told: OpenSet, photos: int) -> str:
    if told.far is None or told.strangers is None:
        return " (as given)"
    text = f" (for FAR {far_name(told.far)}: of strangers at most {_share(told.strangers)} are named)"
    if not told.reached:
        text += (
            f"\nnote: no threshold that is strict enough for {photos} enrolled photos is known; evaluate the model on "
            "more pairs, or give --threshold"
        )
    return text


@dataclass(frozen=True)
class Skipped:
    """A photo that was not enrolled, and why."""

    photo: str
    reason: str


@dataclass(frozen=True)
class Enrolment:
    """What became of a folder of photos.

    Attributes:
        gallery: its path.
        photos: how many there are.
        enrolled: how many are new in the gallery.
        kept: how many had been enrolled before.
        skipped: those that could not be.
        identities: how many the gallery now holds.
    """

    gallery: str
    photos: int
    enrolled: int
    kept: int
    skipped: Sequence[Skipped]
    identities: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def __str__(self) -> str:
        """Return the summary as lines of text."""
        lines = [f"skipped    {one.reason}" for one in self.skipped]
        before = f", {self.kept} before" if self.kept else ""
        lines.append(f"enrolled   {self.enrolled} of {self.photos} photos{before}, {len(self.skipped)} skipped")
        return "\n".join([*lines, f"gallery    {self.gallery}: {self.identities} identities"])


def _share(value: float) -> str:
    """Return a share as a percentage, never rounded to certainty."""
    if 0 < value < 1e-4:
        return "below 0.01 %"
    return "above 99.99 %" if 0.9999 < value < 1 else f"{100 * value:.2f} %"
