"""What looks wrong among labelled images: single labels, merged and split identities; and the findings that say so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from proxylesskd.audit.finding import Finding

FAILING_SHARE = 0.2


@dataclass(frozen=True)
class Mislabelled:
    """An image whose label looks wrong.

    Attributes:
        image: position in the source.
        identity: the label's name.
        own: cosine to the centre of the label's other images.
        other: the nearest other identity.
        similarity: cosine to the centre of that one.
        belongs: True where the image looks like ``other``, False where it looks like nobody here.
    """

    image: int
    identity: str
    own: float
    other: str
    similarity: float
    belongs: bool


@dataclass(frozen=True)
class Merged:
    """An identity that looks like two people.

    Attributes:
        identity: its name.
        sizes: images of the larger and of the smaller group.
        similarity: cosine between the centres of the two groups.
        first: positions of the larger group's images nearest to its centre.
        second: the same of the smaller group.
    """

    identity: str
    sizes: tuple[int, int]
    similarity: float
    first: tuple[int, ...]
    second: tuple[int, ...]


@dataclass(frozen=True)
class Split:
    """Two identities that look like one person.

    Attributes:
        first: name of the one with more images.
        second: name of the other.
        similarity: cosine between their centres.
        level: what two parts of one identity with as many images reach in nine cases of ten.
    """

    first: str
    second: str
    similarity: float
    level: float


@dataclass(frozen=True)
class Inconsistent:
    """An identity whose images do not agree and give no ground to say which of them is right.

    Attributes:
        identity: its name.
        similarity: mean cosine of an image to the centre of the others.
        images: positions of the images that disagree.
    """

    identity: str
    similarity: float
    images: tuple[int, ...]


@dataclass(frozen=True)
class Levels:
    """What the data themselves say is usual; see :func:`proxylesskd.audit.images.find_suspects`.

    Attributes:
        stranger: cosine below which nine in ten images stay to the centre of another identity.
        lookalike: cosine that one image in a thousand reaches to the centre of another identity.
        member: cosine that three quarters of the images reach to the centre of their own identity's other images.
        edges: ``[K + 1]`` edges of the bins of the two histograms.
        own: ``[K]`` images by cosine to their own identity's other images.
        nearest: ``[K]`` images by cosine to the nearest other identity, of a sample.
    """

    stranger: float
    lookalike: float
    member: float
    edges: tuple[float, ...]
    own: tuple[int, ...]
    nearest: tuple[int, ...]


@dataclass(frozen=True)
class Suspects:
    """All that looks wrong among labelled images, the most certain first.

    Attributes:
        images: how many images were judged.
        identities: how many identities they have.
        mislabelled: single images.
        merged: identities that look like two people.
        split: pairs of identities that look like one person.
        inconsistent: identities that look like no one person.
        levels: what was taken for usual.
    """

    images: int
    identities: int
    mislabelled: Sequence[Mislabelled]
    merged: Sequence[Merged]
    split: Sequence[Split]
    inconsistent: Sequence[Inconsistent]
    levels: Levels

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def suspect_findings(suspects: Suspects, total: int) -> list[Finding]:
    """Turn suspects into findings.

    Args:
        suspects: from :func:`proxylesskd.audit.images.find_suspects`.
        total: number of images in the source.

    Returns:
        Four findings: wrong labels, inconsistent, merged and split identities. A suspicion is a warning; wrong labels
        fail when more than a fifth of the images are suspected.
    """
    return [_labels(suspects, total), _inconsistent(suspects), _merged(suspects), _split(suspects)]


def _labels(suspects: Suspects, total: int) -> Finding:
    name, found = "image labels", suspects.mislabelled
    elsewhere = sum(one.belongs for one in found)
    details = {"suspected": len(found), "images": total, "belong_elsewhere": elsewhere}
    if not found:
        return Finding(name, "passed", f"none of {total} images looks wrongly labelled", details)
    share = len(found) / max(total, 1)
    worst = found[0]
    message = (
        f"expected images that show the person of their label, found {len(found)} of {total} ({100 * share:.1f} %) "
        f"that look wrongly labelled: {elsewhere} like another identity here, {len(found) - elsewhere} like nobody "
        f"here; first image {worst.image} of '{worst.identity}' ({worst.own:.2f} to its own, {worst.similarity:.2f} "
        f"to '{worst.other}'); look at the audit page, then train on the cleaned list"
    )
    if share > FAILING_SHARE:
        message += "; with this many, rather the labels or the teacher belong to other images"
    return Finding(name, "failed" if share > FAILING_SHARE else "warning", message, details)


def _inconsistent(suspects: Suspects) -> Finding:
    name, found = "inconsistent identities", suspects.inconsistent
    details = {"identities": [one.identity for one in found]}
    if not found:
        return Finding(name, "passed", "no identity whose images all disagree", details)
    message = (
        f"expected the images of an identity to agree, found {len(found)} of {suspects.identities} identities where "
        f"they do not and none can be called right, first '{found[0].identity}' ({found[0].similarity:.2f} among its "
        "images); look at them on the audit page and remove or mend them"
    )
    return Finding(name, "warning", message, details)


def _merged(suspects: Suspects) -> Finding:
    name, found = "merged identities", suspects.merged
    details = {"identities": [one.identity for one in found]}
    if not found:
        return Finding(name, "passed", "no identity looks like two people", details)
    worst = found[0]
    message = (
        f"expected one person an identity, found {len(found)} of {suspects.identities} identities that look like two, "
        f"first '{worst.identity}' ({worst.sizes[0]} and {worst.sizes[1]} images, {worst.similarity:.2f} between the "
        "two groups); look at them on the audit page and divide them"
    )
    return Finding(name, "warning", message, details)


def _split(suspects: Suspects) -> Finding:
    name, found = "split identities", suspects.split
    details = {"pairs": [[one.first, one.second, round(one.similarity, 4)] for one in found]}
    if not found:
        return Finding(name, "passed", "no two identities look like one person", details)
    worst = found[0]
    message = (
        f"expected one identity a person, found {len(found)} pairs of identities that look like one person, first "
        f"'{worst.first}' and '{worst.second}' ({worst.similarity:.2f}); look at them on the audit page, then join "
        "them or train on the cleaned list"
    )
    return Finding(name, "warning", message, details)
