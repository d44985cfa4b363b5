"""The front of the audit: everything that can be checked with what is at hand, in one call."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from proxylesskd.audit.agreement import agreement_level, check_agreement, top_one
from proxylesskd.audit.evidence import Evidence, gather
from proxylesskd.audit.finding import Audit, Finding
from proxylesskd.audit.names import check_count, check_names, current_rows
from proxylesskd.audit.order import check_order
from proxylesskd.audit.preprocessing import check_preprocessing, embed_under
from proxylesskd.audit.rows import SIMILAR, check_rows
from proxylesskd.audit.sample import embed_sample, read_sample
from proxylesskd.audit.search import unit
from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.classifier.embedded import EmbeddedSource
from proxylesskd.data.source import Source
from proxylesskd.losses.rows import gather as stored_rows_at
from proxylesskd.machine import available_memory
from proxylesskd.models.embedder import Embedder
from proxylesskd.models.preprocess import Preprocessing
from proxylesskd.teacher import Teacher

TRIED_IDENTITIES, TRIED_IMAGES = 100, 4  # under every preprocessing
SAMPLED = 16_384  # rows that are judged where memory does not hold the copies that judging all of them takes
_COPIES, _SCRATCH = 8, 512 << 20
LEAST_SIMILAR = 0.8  # however much the images of one person differ, rows less alike than this are not called one person


def audit_classifier(
    classifier: InheritedClassifier,
    source: Source | None = None,
    *,
    embedded: EmbeddedSource | None = None,
    teacher: Embedder | None = None,
    sample: int = 2000,
    seed: int = 0,
    progress: bool = False,
) -> Audit:
    """Run every check that the given material allows.

    Where memory does not hold several copies of all rows in float32, a seeded sample of 16,384 of them is compared with
    itself; names are looked up in all of them, and agreement needs all of them.

    Args:
        classifier: to be judged.
        source: labelled faces; their identities are compared with the names of the rows.
        embedded: the teacher's embeddings of the source or of a part of it; with them agreement and label order are
            checked.
        teacher: embeds a sample of the source itself where ``embedded`` is not given; one of
            :class:`proxylesskd.teacher.Teacher` is tried under other preprocessing as well.
        sample: images that are tried singly.
        seed: of the sample; the same seed gives the same audit.
        progress: draw progress bars where the teacher works.

    Returns:
        The findings; :meth:`Audit.require` stops if one failed.
    """
    given = embedded if source is None else source
    identities = None if given is None else list(given.identities)
    findings: list[Finding] = []
    if identities is not None:
        findings += [check_count(classifier.identities, identities), check_names(classifier.identities, identities)]
    if embedded is None and teacher is not None and source is not None and teacher.dim == classifier.teacher_dim:
        embedded = embed_sample(teacher, source, sample=sample, seed=seed, progress=progress)
    space = check_space(classifier, embedded if teacher is None else teacher)
    evidence = None
    if embedded is not None and embedded.dim == classifier.teacher_dim:
        evidence = gather(embedded, sample=sample, seed=seed, projection=classifier.projection)
    judged, names = _judged(classifier, seed)
    findings += check_rows(
        _placed(judged),
        names,
        identities=identities,
        similar=SIMILAR if evidence is None else usual_similarity(evidence),
        seed=seed,
    )
    if len(names) < len(classifier.identities):
        findings.append(_told(len(names), len(classifier.identities)))
    findings += space
    if evidence is not None:
        findings += check_evidence(classifier.rows.cpu(), classifier.identities, evidence)
    if isinstance(teacher, Teacher) and source is not None and teacher.dim == classifier.teacher_dim:
        findings.append(try_preprocessing(classifier, source, teacher, seed=seed, progress=progress))
    return Audit(classifier.fingerprint, findings)


def try_preprocessing(
    classifier: InheritedClassifier, source: Source, teacher: Teacher, *, seed: int = 0, progress: bool = False
) -> Finding:
    """Judge the teacher's preprocessing on at most four images of each of at most a hundred identities."""
    current = current_rows(classifier.identities, source.identities)
    images, labels = read_sample(source, identities=TRIED_IDENTITIES, images=TRIED_IMAGES, seed=seed)
    named = current[labels] >= 0
    embed, projection = embed_under(teacher), classifier.projection

    def in_space(preprocessing: Preprocessing, images: Tensor) -> Tensor:
        embeddings = embed(preprocessing, images).cpu()
        return embeddings if projection is None else unit(embeddings @ projection.cpu())

    return check_preprocessing(
        in_space,
        teacher.preprocessing,
        images[named],
        current[labels[named]],
        classifier.rows.cpu(),
        progress=progress,
    )


def check_evidence(rows: Tensor, names: Sequence[str], evidence: Evidence) -> list[Finding]:
    """Judge agreement and label order.

    Args:
        rows: ``[R, D] float32`` unit rows.
        names: R names of the rows.
        evidence: embeddings of the data, in the space of the rows.
    """
    current = current_rows(names, evidence.identities)
    tried = top_one(evidence, rows, current)
    agreement = check_agreement(tried, evidence)
    if agreement.details.get("meaningless"):
        return [agreement]
    low = len(tried.hits) > 0 and agreement_level(tried) == "failed"
    return [agreement, check_order(evidence, rows, names, current, low=low)]


def check_space(classifier: InheritedClassifier, given: EmbeddedSource | Embedder | None) -> list[Finding]:
    """Compare the teacher at hand, or the one behind the embeddings, with the one behind the rows."""
    if given is None:
        return []
    if given.dim != classifier.teacher_dim:
        message = (
            f"expected a teacher of dimension {classifier.teacher_dim}, from which the rows come, found one of "
            f"{given.dim}; give the teacher that belongs to the classifier, or inherit from this one"
        )
        return [Finding("teacher", "failed", message, {"rows": classifier.teacher_dim, "teacher": given.dim})]
    expected = str(classifier.provenance.get("teacher_fingerprint") or "")
    details = {"expected": expected, "found": given.fingerprint}
    if expected in ("", given.fingerprint):
        told = "is the one the rows come from" if expected else "has the dimension of the rows"
        return [Finding("teacher", "passed", f"the teacher {told}", details)]
    message = (
        f"expected the teacher and preprocessing that the rows were estimated with ({expected[:16]}), found "
        f"{given.fingerprint[:16]}; give the same teacher with the same options, or inherit from this one"
    )
    return [Finding("teacher", "warning", message, details)]


def usual_similarity(evidence: Evidence) -> float:
    """Return the cosine from which two rows look like one person: what half centres of one person seldom exceed."""
    halves = evidence.half_similarity()
    if not len(halves):
        return SIMILAR
    return min(max(float(halves.quantile(0.9)), LEAST_SIMILAR), SIMILAR)


def memory_needed(count: int, dim: int) -> int:
    """Return the bytes that comparing ``[count, dim]`` rows with each other takes, besides the rows."""
    return _SCRATCH + _COPIES * 4 * dim * min(count, SAMPLED if _too_many(count, dim) else count)


def _too_many(count: int, dim: int) -> bool:
    return _SCRATCH + _COPIES * 4 * dim * count > available_memory()


def _judged(classifier: InheritedClassifier, seed: int) -> tuple[Tensor, Sequence[str]]:
    """Return the rows that are compared with each other, and their names: all, or a sample where memory ends."""
    count, dim = classifier.stored.shape
    if not _too_many(count, dim):
        return classifier.rows, classifier.identities
    sample = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:SAMPLED].sort().values
    rows = stored_rows_at(classifier.stored, sample.to(classifier.stored.device), torch.float32)
    return rows, [classifier.identities[row] for row in sample.tolist()]


def _told(sampled: int, count: int) -> Finding:
    message = f"rows were compared within a sample of {sampled} of {count}: memory does not hold copies of them all"
    return Finding("sample of rows", "passed", message, {"sampled": sampled, "rows": count})


def _placed(rows: Tensor) -> Tensor:
    """Move the rows to where a million of them are compared in seconds, if there is such a place."""
    return rows.cuda() if torch.cuda.is_available() else rows
