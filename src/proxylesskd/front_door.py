"""The front door: from whatever a teacher left behind to one audited classifier file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from proxylesskd.audit.audit import audit_classifier
from proxylesskd.audit.clean import write_clean_list
from proxylesskd.audit.finding import Audit
from proxylesskd.audit.images import find_suspects
from proxylesskd.audit.order import mend_order
from proxylesskd.audit.page import write_audit_page
from proxylesskd.audit.suspects import Suspects, suspect_findings
from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.classifier.combine import concatenate, extend, merge
from proxylesskd.classifier.embed_source import embed_source
from proxylesskd.classifier.inherit import Rows
from proxylesskd.classifier.project import project
from proxylesskd.classifier.stored_rows import require_store
from proxylesskd.data.listed import listed
from proxylesskd.data.source import Source, open_source
from proxylesskd.errors import UserError
from proxylesskd.models.embedder import Embedder
from proxylesskd.obtain import Obtained, fits_memory, obtain
from proxylesskd.processes import rank_and_world
from proxylesskd.teacher import load_teacher


@dataclass(frozen=True)
class Inherited:
    """What came through the front door.

    Attributes:
        classifier: the rows.
        audit: what was found about them, or None where that was skipped.
        page: the audit's page, or None where nothing but the rows could be looked at.
        notes: lines that a person should read.
    """

    classifier: InheritedClassifier
    audit: Audit | None = None
    page: Path | None = None
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return what a person should read: notes, warnings and where the page is."""
        warnings = [] if self.audit is None else [f"warning: {finding.message}" for finding in self.audit.warnings]
        return [*self.notes, *warnings, *([] if self.page is None else [f"audit: {self.page}"])]


def combine(
    classifier: InheritedClassifier,
    *,
    extend_with: str | Path | None = None,
    merge_with: str | Path | None = None,
    concatenate_with: str | Path | None = None,
    same_space: bool = False,
    dim: int = 0,
    projection: str = "cosine",
) -> InheritedClassifier:
    """Put a classifier together with an earlier one, and project the result.

    Args:
        classifier: the one that was just made.
        extend_with: file of a classifier whose rows stay as they are; new identities are added behind them.
        merge_with: file of a classifier of the same teacher; shared identities are joined by name.
        concatenate_with: file of another teacher's classifier; shared identities live in the joint space.
        same_space: take it from the caller that the first two are of this teacher, where the files do not say it.
        dim: of a student that is smaller than the teacher; 0 for the teacher's.
        projection: how it is made smaller, see :func:`proxylesskd.classifier.project.fit_projection`.

    Raises:
        UserError: the classifiers cannot be combined, or the dimension is not smaller.
    """
    if extend_with is not None:
        classifier = extend(InheritedClassifier.load(extend_with), classifier, same_space=same_space)
    if merge_with is not None:
        classifier = merge(InheritedClassifier.load(merge_with), classifier, same_space=same_space)
    if concatenate_with is not None:
        classifier = concatenate(InheritedClassifier.load(concatenate_with), classifier)
    return project(classifier, dim, how=projection) if dim and dim != classifier.dim else classifier


def inherit_into(
    out: str | Path,
    teacher: str,
    *,
    data: str | None = None,
    keep: str | Path | None = None,
    rows: Rows | None = None,
    key: str | None = None,
    transposed: bool | None = None,
    names: Sequence[str] | None = None,
    images_per_identity: int = 0,
    embeddings: str | Path | None = None,
    extend_with: str | Path | None = None,
    merge_with: str | Path | None = None,
    concatenate_with: str | Path | None = None,
    same_space: bool = False,
    dim: int = 0,
    projection: str = "cosine",
    audit: bool = True,
    mend: bool = False,
    clean: str | Path | None = None,
    store: str = "float32",
    progress: bool = False,
) -> Inherited:
    """Make a classifier file of whatever a teacher left behind, audited where there are faces.

    ``rows``, ``key``, ``transposed``, ``names``, ``images_per_identity`` and ``embeddings`` are those of
    :func:`proxylesskd.obtain.inherit_best`; ``extend_with``, ``merge_with``, ``concatenate_with``, ``same_space``,
    ``dim`` and ``projection`` those of :func:`combine`.

    Args:
        out: the file; the audit's page goes into a folder beside it.
        teacher: see :func:`proxylesskd.obtain.inherit_best`.
        data: URI of labelled faces.
        keep: list of images of ``data``; all others are left out.
        audit: stop where rows, identities and teacher do not belong together.
        mend: where the audit proves another order of the rows, put them right and audit again.
        clean: where to write the list of images without those that look wrongly labelled.
        store: how the rows lie in the file, see :func:`proxylesskd.classifier.compact.compact`.
        progress: draw progress bars.

    Raises:
        UserError: nothing can be inherited, or the audit failed; nothing is written to ``out`` then.
    """
    require_store(store)
    rank, _ = rank_and_world()  # before the teacher is loaded: it goes to this process's device
    out = Path(out)
    source = open_source(data) if data else None
    if source is not None and keep is not None:
        source = listed(source, keep)
    obtained = obtain(
        teacher,
        source,
        rows=rows,
        key=key,
        transposed=transposed,
        names=names,
        images_per_identity=images_per_identity,
        embeddings=embeddings,
        progress=progress,
    )
    found = Inherited(obtained.classifier)
    if rank > 0:
        return found  # every process has the same rows; the first one looks at them and writes them
    if source is not None and audit:
        found = _examine(obtained, source, teacher, out, mend=mend, clean=clean, progress=progress)
    whole = combine(
        found.classifier,
        extend_with=extend_with,
        merge_with=merge_with,
        concatenate_with=concatenate_with,
        same_space=same_space,
        dim=dim,
        projection=projection,
    )
    whole.save(out, store)
    return replace(found, classifier=whole)


def _examine(
    obtained: Obtained,
    source: Source,
    teacher: str,
    out: Path,
    *,
    mend: bool,
    clean: str | Path | None,
    progress: bool,
) -> Inherited:
    """Audit against the faces, write the page and, where asked for, the list of clean images."""
    notes: list[str] = []
    model = obtained.teacher or _runnable(teacher, notes)
    classifier, embedded = obtained.classifier, obtained.embedded
    source = obtained.faces or source  # suspects are told by their place among the images that were embedded
    if embedded is None and model is not None and fits_memory(len(source), model.dim) and clean is not None:
        embedded = embed_source(model, source, progress=progress)

    def examine(rows: InheritedClassifier) -> Audit:
        return audit_classifier(rows, source, embedded=embedded, teacher=model, progress=progress)

    findings = examine(classifier)
    if mend and (order := _proven_order(findings)) is not None:
        classifier = mend_order(classifier, order)
        findings = examine(classifier)
        notes.append(f"put {len(order)} rows into the order that the teacher's embeddings prove")
    suspects = None if embedded is None else find_suspects(classifier, embedded)
    if suspects is not None:
        findings = replace(findings, findings=[*findings.findings, *suspect_findings(suspects, len(source))])
    if obtained.norms is not None:
        findings = replace(findings, findings=[obtained.norms, *findings.findings])
    page = write_audit_page(out.with_name(f"{out.stem}-audit"), findings, suspects, source, teacher=teacher)
    findings.require()
    if clean is not None:
        notes.append(_clean(clean, source, suspects))
    return Inherited(classifier.with_provenance(audit=findings.to_dict()), findings, page, tuple(notes))


def _proven_order(findings: Audit) -> Mapping[str, int | None] | None:
    """Return identity -> row where the audit found that the rows stand in another order, else None."""
    wrong = (finding for finding in findings.failed if finding.check == "label order")
    return next((finding.details["mapping"] for finding in wrong if finding.details.get("mapping")), None)


def _runnable(teacher: str, notes: list[str]) -> Embedder | None:
    """Return the teacher where it can be run; a checkpoint may hold a last layer alone."""
    try:
        return load_teacher(teacher)
    except UserError as error:
        notes.append(f"rows were not compared with images, because the teacher cannot be run: {error}")
        return None


def _clean(path: str | Path, source: Source, suspects: Suspects | None) -> str:
    if suspects is None:
        raise UserError("expected a teacher that can be run to find wrong labels, found none; leave --clean out")
    kept = write_clean_list(path, source, suspects)
    return f"{path}: {kept} of {len(source)} images; train on them with data.keep={path}"
