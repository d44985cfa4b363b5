"""The list of images that remain when what looks wrong is left out, and the list of what was left out, with reasons."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from proxylesskd.atomic import write_atomically
from proxylesskd.audit.suspects import Mislabelled, Split, Suspects
from proxylesskd.data.listed import COLUMNS
from proxylesskd.data.source import Source


def write_clean_list(path: str | Path, source: Source, suspects: Suspects) -> int:
    """Write the images to keep, and beside them those to drop.

    Suspected wrong labels and images of inconsistent identities are left out. Identities that look like one person are
    joined under the name of the one with more images, three and more only where every two of them look so. Identities
    that look like two people stay as they are: nobody can say from here what their second name should be; the audit
    page shows them.

    Args:
        path: CSV ``image,identity`` for :func:`proxylesskd.data.listed.listed`; ``NAME-dropped.csv`` beside it holds
            ``image,identity,reason``.
        source: the faces that were judged.
        suspects: from :func:`proxylesskd.audit.images.find_suspects`.

    Returns:
        Number of images kept.

    Raises:
        UserError: a file cannot be written.
    """
    path = Path(path)
    dropped = _reasons(suspects)
    names, labels = source.identities, source.labels.tolist()
    joined = joined_names(suspects.split)
    kept = [
        (source.name(index), joined.get(names[label], names[label]))
        for index, label in enumerate(labels)
        if index not in dropped
    ]
    gone = [(source.name(index), names[labels[index]], reason) for index, reason in sorted(dropped.items())]
    _write(path, COLUMNS, kept)
    _write(path.with_name(f"{path.stem}-dropped.csv"), (*COLUMNS, "reason"), gone)
    return len(kept)


def joined_names(split: Sequence[Split]) -> dict[str, str]:
    """Return old name -> name of the person, for every identity that looks like another one.

    More than two are joined only where every two of them are a pair: in a chain ``a = b``, ``b = c`` without ``a = c``
    the similarity has worn off along the way, as it does among babies. All of them take the name that the most certain
    pair keeps.
    """
    pairs = {frozenset((pair.first, pair.second)) for pair in split}
    person: dict[str, list[str]] = {}  # all names of who has this name, the one to keep first
    rank: dict[str, int] = {}  # of a kept name: its most certain pair
    for number, pair in enumerate(split):
        one, other = (person.setdefault(name, [name]) for name in (pair.first, pair.second))
        if one is not other and all(frozenset((a, b)) in pairs for a in one for b in other):
            kept, gone = sorted((one, other), key=lambda names: rank.get(names[0], len(split)))
            rank.setdefault(kept[0], number)
            person |= dict.fromkeys(gone, kept)
            kept += gone
    return {name: names[0] for name, names in person.items() if name != names[0]}


def _reasons(suspects: Suspects) -> Mapping[int, str]:
    """Return image -> why it is left out."""
    reasons = {
        image: f"the images of '{one.identity}' do not agree" for one in suspects.inconsistent for image in one.images
    }
    return reasons | {one.image: _reason(one) for one in suspects.mislabelled}


def _reason(one: Mislabelled) -> str:
    where = f"looks like '{one.other}'" if one.belongs else "looks like nobody here"
    return f"{where}: {one.own:.3f} to its own identity, {one.similarity:.3f} to '{one.other}'"


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())
