"""Does the teacher recognise the images through the rows as well as its own class centres allow?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from proxylesskd.audit.evidence import Evidence
from proxylesskd.audit.finding import Finding, Level
from proxylesskd.audit.search import TIE, nearest_rows, unit

HALF, MOST = 0.5, 0.75  # of the reference: below is failed, below is a warning
SIGMAS = 4.0
ALIKE_SIGMAS = 3.0
LISTED = 20
FEW = 20  # images, before rows are refused without a reference
ENOUGH = 300  # images, before the labels themselves are called meaningless


@dataclass(frozen=True)
class TopOne:
    """Hits of every tried image, by the rows and by the teacher's own class centres.

    Attributes:
        labels: ``[n] int64`` identities tried.
        hits: ``[n] bool``, the nearest row is the identity's own.
        reference: ``[m] bool``, the same with class centres that leave the image out, m <= n images of identities
            that have others.
        own: ``[m] float32``, cosine to the own centre without the image.
        other: ``[m] float32``, mean cosine to all centres.
        pull: ``[n] float32``, cosine to the own row less the mean cosine to all rows.
        candidates: identities to choose from.
    """

    labels: Tensor
    hits: Tensor
    reference: Tensor
    own: Tensor
    other: Tensor
    pull: Tensor
    candidates: int


def top_one(evidence: Evidence, rows: Tensor, current: Tensor) -> TopOne:
    """Try the sampled images on rows and on leave-one-out class centres, among the same identities.

    Args:
        evidence: embeddings of the data.
        rows: ``[R, D] float32`` unit rows.
        current: ``[C] int64`` row of each identity, -1 where it has none.
    """
    candidates = ((evidence.counts > 0) & (current >= 0)).nonzero().flatten()  # [k] identities
    place = torch.full_like(current, -1)
    place[candidates] = torch.arange(len(candidates))
    tried = place[evidence.labels] >= 0
    embeddings, labels = evidence.embeddings[tried], place[evidence.labels[tried]]
    offered = rows[current[candidates]]  # [k, D]
    hits = nearest_rows(embeddings, offered)[1] == labels
    pull = (embeddings * offered[labels]).sum(dim=1) - embeddings @ offered.mean(dim=0)
    many = evidence.counts[candidates][labels] >= 2
    single, own_label = embeddings[many], labels[many]
    centres = evidence.centres[candidates]
    own = (unit(evidence.sums[candidates][own_label] - single) * single).sum(dim=1)
    stranger, _ = nearest_rows(single, centres, exclude=own_label)
    other = single @ centres.mean(dim=0) if len(centres) else own
    return TopOne(candidates[labels], hits, own > stranger + TIE, own, other, pull, len(candidates))


def check_agreement(tried: TopOne, evidence: Evidence) -> Finding:
    """Compare the teacher's top-1 through the rows with what its own class centres reach on the same images.

    The reference leaves each image out of its own class centre, so it is what this teacher can do on this data; rows
    that belong to both reach at least about that.
    """
    if not len(tried.hits) or tried.candidates < 2:
        message = (
            f"expected images of at least two identities that have rows, found {tried.candidates} of these; "
            "give the data that belongs to the classifier"
        )
        return Finding("agreement", "warning", message)
    found, chance = float(tried.hits.float().mean()), 1.0 / tried.candidates
    details = _details(tried, evidence, found, chance)
    told = f"top-1 {found:.1%} through the rows on {len(tried.hits)} images of {tried.candidates} identities"
    if _meaningless(tried, chance):
        message = (
            f"expected images of one identity to be alike, found them no more alike than those of different ones "
            f"(top-1 {details['reference']:.1%} with the images' own class centres, chance {chance:.2%}): labels are "
            "shuffled against images, or the teacher is broken or wrongly fed; check the source's labels and the "
            "teacher's preprocessing"
        )
        return Finding("agreement", "failed", message, {**details, "meaningless": True})
    level = agreement_level(tried)
    reference = _reference(tried)
    if level == "passed":
        own = f"; the teacher's own class centres: {reference:.1%}" if len(tried.reference) else ""
        return Finding("agreement", "passed", f"{told}{own}", details)
    possible = f"(top-1 {reference:.1%})" if len(tried.reference) else "(unknown: nobody has two images)"
    message = (
        f"expected the teacher to recognise its images through the rows about as well as by its own class centres "
        f"{possible}, found {told} (chance {chance:.2%}); "
        "see the finding on label order, or estimate the rows anew from teacher and images"
    )
    return Finding("agreement", level, message, details)


def agreement_level(tried: TopOne) -> Level:
    """Return the level of :func:`check_agreement`, from hits alone."""
    found, reference = float(tried.hits.float().mean()), _reference(tried)
    if not len(tried.reference):
        # Nothing says what this teacher can do, but images that are not even drawn to their rows do not belong.
        return "failed" if len(tried.pull) >= FEW and _sigmas(tried.pull) < ALIKE_SIGMAS else "passed"
    noise = math.sqrt(max(reference * (1 - reference), found * (1 - found), 0.01) * 2 / len(tried.hits))
    sure = reference - found > SIGMAS * noise
    if sure and found < HALF * reference:
        return "failed"
    return "warning" if sure and found < MOST * reference else "passed"


def _reference(tried: TopOne) -> float:
    """Return the leave-one-out top-1; 1 where nobody has a second image."""
    return float(tried.reference.float().mean()) if len(tried.reference) else 1.0


def _sigmas(values: Tensor) -> float:
    """Return by how many standard errors the mean is above zero."""
    return float(values.mean() / (values.std() / math.sqrt(len(values))).clamp_min(1e-9))


def _meaningless(tried: TopOne, chance: float) -> bool:
    """Say whether an image is no nearer to the others of its identity than to those of another."""
    count = len(tried.reference)
    lucky = chance + SIGMAS * math.sqrt(chance * (1 - chance) / max(count, 1))
    # Rows that were averaged over these very images know them even if the labels mean nothing.
    enough = ENOUGH if float(tried.hits.float().mean()) > lucky else ENOUGH // 3
    if count < enough:
        return False
    no_nearer = _sigmas(tried.own - tried.other) < ALIKE_SIGMAS
    return no_nearer and float(tried.reference.float().mean()) <= lucky


def _details(tried: TopOne, evidence: Evidence, found: float, chance: float) -> dict[str, Any]:
    size = len(evidence.identities)
    images = torch.bincount(tried.labels, minlength=size)
    right = torch.bincount(tried.labels[tried.hits], minlength=size)
    missed = images - right
    worst = missed.argsort(descending=True, stable=True)[:LISTED]
    return {
        "top1": round(found, 4),
        "reference": round(_reference(tried), 4),
        "chance": chance,
        "images": len(tried.hits),
        "identities": tried.candidates,
        "worst": [
            {"identity": evidence.identities[i], "images": int(images[i]), "right": int(right[i])}
            for i in worst.tolist()
            if int(missed[i])
        ],
    }
