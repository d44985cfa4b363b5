"""Open-set identification of one's own sets: a gallery, probes that may or may not be in it, and distractors.

The list is a CSV ``path,identity,role`` whose roles are ``gallery``, ``probe`` and ``distractor``. Probes whose
identity is enrolled are mated searches, the others give the false positive rate. Distractors are enrolled too and are
nobody's mate; ranks are also told for the first 10, 100, … of them, as MegaFace does (Kemelmacher-Shlizerman et al.,
CVPR 2016).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from proxylesskd.errors import UserError
from proxylesskd.evaluation.gallery import Model
from proxylesskd.protocols.csv_list import one_of, read_rows
from proxylesskd.protocols.embed_set import Embeddings, Images, Models, embed_set, listed_images
from proxylesskd.protocols.identification import Ints, Ranked, identify
from proxylesskd.protocols.identification_bootstrap import rates
from proxylesskd.protocols.identification_rates import (
    FPIRS,
    RANKS,
    check_fpirs,
    check_ranks,
    cmc,
    cmc_curve,
    det_curve,
)
from proxylesskd.protocols.outcome import Curve, Measure, Outcome

COLUMNS = ("path", "identity", "role")
GALLERY, PROBE, DISTRACTOR = ROLES = ("gallery", "probe", "distractor")


@dataclass(frozen=True)
class OpenSet:
    """Who is enrolled and who is searched for.

    Attributes:
        name: what a person would call it.
        images: all N of them.
        identities: ``[N]``; distractors have one of their own each unless the list names it.
        role: ``[N]`` positions in :data:`ROLES`.
    """

    name: str
    images: Images
    identities: Ints
    role: Ints

    def of(self, role: str) -> Ints:
        """Return the images in a role, in the order of the list."""
        return np.flatnonzero(self.role == ROLES.index(role))

    def counts(self) -> dict[str, int]:
        """Return what there is."""
        enrolled = np.unique(self.identities[self.of(GALLERY)])
        mated = np.isin(self.identities[self.of(PROBE)], enrolled)
        return {
            "gallery images": len(self.of(GALLERY)),
            "gallery identities": len(enrolled),
            "distractors": len(self.of(DISTRACTOR)),
            "mated probes": int(mated.sum()),
            "probes without mate": int((~mated).sum()),
        }


def read_open_set(path: Path | str, root: Path | str | None = None) -> OpenSet:
    """Read a list ``path,identity,role``.

    Args:
        path: the CSV.
        root: folder to which its paths are relative; by default its own.

    Raises:
        UserError: the list is of another form, has no gallery or no probe, an image in two roles or a distractor of an
            enrolled or searched identity, or images are missing.
    """
    path = Path(path)
    names, who, roles = zip(*read_rows(path, COLUMNS, filled=("path", "role")), strict=True)
    role = np.array([one_of(name, ROLES, "role", path) for name in roles])
    named = [name or f"\0{number}" for number, name in enumerate(who)]
    identities = np.unique(named, return_inverse=True)[1].astype(np.int64)
    _check(path, names, identities, role, who)
    return OpenSet(path.stem, listed_images(path.parent if root is None else Path(root), names), identities, role)


def _check(path: Path, names: Sequence[str], identities: Ints, role: Ints, who: Sequence[str]) -> None:
    for number, wanted in enumerate((GALLERY, PROBE)):
        if not (role == number).any():
            raise UserError(f"expected images in the role {wanted} in '{path}', found none")
    nameless = [name for name, known, part in zip(names, who, role, strict=True) if not known and part != 2]
    if nameless:
        raise UserError(
            f"expected an identity for every gallery and probe image of '{path}', found none: {nameless[0]}"
        )
    both = np.isin(identities, identities[role != 2]) & (role == 2)
    if both.any():
        raise UserError(
            f"expected distractors of nobody who is enrolled or searched for in '{path}', found "
            f"'{names[int(np.argmax(both))]}'; leave it out, or make it gallery"
        )


def evaluate_open_set(
    model: Model,
    where: OpenSet | Path | str,
    *,
    root: Path | str | None = None,
    gallery: Model | None = None,
    projection: Tensor | str | Path | None = None,
    flip: bool = False,
    ranks: Sequence[int] = RANKS,
    fpirs: Sequence[float] = FPIRS,
    replicates: int = 1000,
    seed: int = 0,
    cache: str | Path | None = None,
    progress: bool = False,
    name: str | None = None,
) -> Outcome:
    """Search every probe among all that are enrolled, and across models where a gallery model is given.

    Args:
        model: embeds the probes, and in single-model mode the gallery.
        where: the set, or its CSV.
        root: folder to which the paths of a CSV are relative.
        gallery: embeds gallery and distractors in cross-model mode.
        projection: for the gallery, see :func:`proxylesskd.evaluation.evaluate`.
        flip: add the embedding of the mirror image.
        ranks: of the hit rates.
        fpirs: false positive identification rates.
        replicates: of the bootstrap over the identities of the probes; 0 for no intervals.
        seed: of the bootstrap.
        cache: folder of embeddings.
        progress: draw progress bars.
        name: of the model, for tables.

    Raises:
        UserError: the set, the models or a rate cannot be used.
    """
    check_ranks(ranks)
    check_fpirs(fpirs)
    chosen = where if isinstance(where, OpenSet) else read_open_set(where, root)
    models = Models.of(model, gallery, projection)
    probes = embed_set(models.probe, chosen.images, flip=flip, cache=cache, progress=progress)
    measures: dict[str, Mapping[str, Measure]] = {}
    curves: dict[str, Mapping[str, Curve]] = {}
    for mode, embedder in models.enrolling().items():
        same = embedder is models.probe
        enrolled = probes if same else embed_set(embedder, chosen.images, flip=flip, cache=cache, progress=progress)
        ranked = search(chosen, probes, enrolled)
        drawn = rates(
            ranked, chosen.identities[chosen.of(PROBE)], ranks=ranks, fpirs=fpirs, replicates=replicates, seed=seed
        )
        measures[mode] = drawn | fewer_distractors(chosen, probes, enrolled, ranked)
        curves[mode] = curves_of(ranked)
    return Outcome(
        protocol=f"open-set identification, {chosen.name}",
        model=name or models.probe.name,
        gallery=models.gallery_name,
        counts=chosen.counts(),
        measures=measures,
        curves=curves,
        drawn={"unit": "probe identities", "replicates": replicates, "seed": seed} if replicates else {},
    )


def search(chosen: OpenSet, probes: Embeddings, enrolled: Embeddings, distractors: int | None = None) -> Ranked:
    """Search all probes among the gallery and the first distractors, all of them unless told.

    Args:
        chosen: the set.
        probes: ``[N, D]`` embeddings of all images by the probe's model.
        enrolled: ``[N, D]`` the same by the gallery's.
        distractors: how many.
    """
    searched = chosen.of(PROBE)
    entries = np.concatenate([chosen.of(GALLERY), chosen.of(DISTRACTOR)[:distractors]])
    ids = chosen.identities
    return identify(probes[searched], enrolled[entries], ids[searched], ids[entries])


def fewer_distractors(chosen: OpenSet, probes: Embeddings, enrolled: Embeddings, ranked: Ranked) -> dict[str, Measure]:
    """Return the rank-1 hit rate with 10, 100, … distractors, by ``"distractors=10/rank-1"``."""
    if not ranked.mated.any():
        return {}
    return {
        f"distractors={count}/rank-1": cmc(search(chosen, probes, enrolled, count), [1])["rank-1"]
        for count in _decades(len(chosen.of(DISTRACTOR)))
    }


def _decades(most: int) -> Iterator[int]:
    count = 10
    while count < most:
        yield count
        count *= 10


def curves_of(ranked: Ranked) -> dict[str, Curve]:
    """Return the CMC where there are mated searches, and the DET where there are others too."""
    found = {"CMC": cmc_curve(ranked)} if ranked.mated.any() else {}
    if ranked.mated.any() and not ranked.mated.all():
        found["DET"] = det_curve(ranked)
    return found
