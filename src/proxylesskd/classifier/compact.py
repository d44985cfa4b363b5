"""The same classifier in fewer bytes: bfloat16 or a byte a number, with a residual for the samples' own rows."""

from __future__ import annotations

from pathlib import Path

from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.classifier.classifier_file import converted
from proxylesskd.classifier.stored_rows import require_store


def compact(
    classifier: InheritedClassifier | str | Path, store: str, out: str | Path | None = None
) -> InheritedClassifier:
    """Store the rows of a classifier in another way.

    Rows take 4 bytes a number in float32, 3 in bfloat16 (a pass over all rows reads 2 of them) and 2 in int8 (it reads
    1); both compact ways keep a sample's own row exact to about 16 bits, see :mod:`proxylesskd.losses.rows`.

    Args:
        classifier: a classifier or its file.
        store: ``"float32"``, ``"bfloat16"`` or ``"int8"``.
        out: where to write it, block by block, so that neither form need fit into memory; the result then lies there.
            In memory unless given.

    Returns:
        A classifier with the same names and another fingerprint; its provenance names that of the given one.

    Raises:
        UserError: there is no such way, the file is no classifier, or it cannot be written.
    """
    require_store(store)
    if not isinstance(classifier, InheritedClassifier):
        classifier = InheritedClassifier.load(classifier)
    if out is not None:
        classifier.save(out, store)
        return InheritedClassifier.load(out)
    if store == classifier.store:
        return classifier
    said = classifier.provenance | {"stored_as": store, "stored_from": classifier.fingerprint}
    rows = converted(classifier.stored, store)
    return InheritedClassifier(rows, classifier.identities, said, classifier.projection)
