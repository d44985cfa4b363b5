"""May a teacher's gallery be searched with a student, at what cost, and with which threshold?

Asked before anybody is enrolled again. The pairs are scored three times: both photos by the teacher, as today; the
first by the teacher and the second by the student, as after the migration; both by the student. The cost is the TAR
that is lost at the same FAR, each mode at its own threshold, with a paired bootstrap interval.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from proxylesskd.data.pairs import Pairs, read_pairs
from proxylesskd.errors import UserError
from proxylesskd.evaluation.bootstrap import Difference, paired_difference
from proxylesskd.evaluation.embed import embed_images, pair_scores
from proxylesskd.evaluation.evaluation import FARS, measure
from proxylesskd.evaluation.gallery import Model, gallery_in_space_of
from proxylesskd.evaluation.result import ModeResult
from proxylesskd.export.lineage import SOME_RELATION
from proxylesskd.export.measured import FEW
from proxylesskd.models.projected import ProjectedEmbedder
from proxylesskd.recognition.thresholds import far_name

YES, NO, UNSURE = "yes", "no", "unsure"
MOST = 0.05


@dataclass(frozen=True)
class Cost:
    """What the migration costs at one false accept rate.

    Attributes:
        far: the rate.
        difference: TAR of teacher and teacher minus TAR of teacher and student, with its paired 95 % interval.
        threshold_before: of two embeddings of the teacher.
        threshold: to set for probes of the student.
        far_kept: false accept rate of the student's probes if the teacher's threshold is kept.
        tar_kept: true accept rate likewise.
        few: whether the rate rests on fewer than ten impostor pairs.
    """

    far: float
    difference: Difference
    threshold_before: float
    threshold: float
    far_kept: float
    tar_kept: float
    few: bool


@dataclass(frozen=True)
class Compatibility:
    """Whether a teacher's gallery may be searched with a student.

    Attributes:
        answer: ``"yes"``, ``"no"``, or ``"unsure"`` where the pairs do not decide it.
        far: false accept rate for which it is given.
        most: share of genuine pairs that may be lost for a yes.
        teacher: its name.
        student: its name.
        pairs: name of the verification set.
        before: both embeddings by the teacher.
        after: the first by the teacher, the second by the student.
        student_alone: both by the student.
        costs: at each false accept rate that the pairs support, the highest first.
        projected: whether the gallery has to be projected to the student's dimension.
    """

    answer: str
    far: float
    most: float
    teacher: str
    student: str
    pairs: str
    before: ModeResult
    after: ModeResult
    student_alone: ModeResult
    costs: Sequence[Cost]
    projected: bool

    @property
    def cost(self) -> Cost:
        """The cost at the rate for which the answer is given."""
        return next(cost for cost in self.costs if cost.far == self.far)

    def __str__(self) -> str:
        """Say it in a sentence."""
        cost, found = self.cost, self.cost.difference
        words = {YES: "Yes", NO: "No", UNSURE: "These pairs do not decide it"}[self.answer]
        text = (
            f"{words}: at FAR {far_name(self.far)} searching the gallery of '{self.teacher}' with '{self.student}' "
            f"costs {100 * found.value:.2f} points of TAR (95 % interval {100 * found.lower:.2f} to "
            f"{100 * found.upper:.2f}; {100 * self.most:g} are accepted)"
        )
        if self.after.auc.value < SOME_RELATION:
            return f"{text}: the two do not embed into one space; is this the student of this teacher?"
        if self.answer == NO:
            return f"{text}."
        return f"{text}. Set the threshold to {cost.threshold:.4f}, the teacher's was {cost.threshold_before:.4f}."

    def to_dict(self) -> dict[str, Any]:
        """Return plain values. ``single`` and ``cross`` are the student's, as ``evaluation.json`` has them."""
        plain = ("answer", "far", "most", "teacher", "student", "pairs", "projected")
        return {
            **{name: getattr(self, name) for name in plain},
            "sentence": str(self),
            "costs": [asdict(cost) for cost in self.costs],
            "before": self.before.to_dict(),
            "single": self.student_alone.to_dict(),
            "cross": self.after.to_dict(),
        }

    def save(self, folder: str | Path) -> Path:
        """Write ``compatible.json`` and the page ``compatible.html``, and return the path of the page."""
        from proxylesskd.atomic import write_atomically
        from proxylesskd.recognition.compatible_page import render

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        told = json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
        write_atomically(folder / "compatible.json", told.encode())
        page = folder / "compatible.html"
        write_atomically(page, render(self).encode())
        return page


def compatible(
    teacher: Model,
    student: Model,
    pairs: Pairs | str | Path,
    *,
    root: str | Path | None = None,
    projection: Tensor | str | Path | None = None,
    far: float | None = None,
    most: float = MOST,
    replicates: int = 1000,
    seed: int = 0,
    progress: bool = False,
) -> Compatibility:
    """Say whether a teacher's gallery may be searched with a student.

    The answer is yes where the interval of the cost lies at or below ``most``, no where it lies above, and unsure where
    it does both.

    Args:
        teacher: the model that made the gallery: an embedder, or a path that :func:`proxylesskd.load_teacher` takes.
        student: the model of the probes.
        pairs: verification set of aligned faces, or its path.
        root: folder of the list's images.
        projection: for a student of another dimension: ``[teacher's, student's]``, its classifier or its run folder.
        far: false accept rate for which the answer is given; by default the lowest of 1e-1, 1e-2, … that rests on ten
            impostor pairs, or, with fewer pairs, the highest.
        most: share of genuine pairs that may be lost for a yes, in [0, 1].
        replicates: of the bootstrap, at least 1.
        seed: of the bootstrap.
        progress: draw progress bars.

    Raises:
        UserError: as :func:`proxylesskd.evaluation.evaluate`, or the pairs do not support the rate.
    """
    from proxylesskd.teacher import as_embedder

    if not 0 <= most <= 1 or replicates < 1:
        raise UserError(f"expected most in [0, 1] and at least one replicate, found {most:g} and {replicates}")
    pairs = pairs if isinstance(pairs, Pairs) else read_pairs(pairs, root)
    fars = FARS if far is None else tuple(sorted({*FARS, far}, reverse=True))
    gallery, probe = as_embedder(teacher), as_embedder(student)
    seen = gallery_in_space_of(probe, student, gallery, projection)
    own, probes = (embed_images(one, pairs.images, progress=progress) for one in (gallery, probe))
    enrolled = _projected(own, seen.projection) if isinstance(seen, ProjectedEmbedder) else own
    sides = ((own, own), (enrolled, probes), (probes, probes))
    scores = [pair_scores(first, second, pairs) for first, second in sides]
    before, after, alone = (measure(s, pairs, replicates=replicates, seed=seed, fars=fars) for s in scores)
    supported = [rate for rate, found in after.tar.items() if found.tar is not None]
    chosen = _headline(after, supported, far)
    costs = [_cost(rate, before, after, pairs, replicates, seed) for rate in supported]
    at = next(cost for cost in costs if cost.far == chosen)
    named = (gallery.name, probe.name, pairs.name)
    return Compatibility(
        _answer(at.difference, most), chosen, most, *named, before, after, alone, costs, seen is not gallery
    )


def _projected(embeddings: npt.NDArray[np.float32], projection: Tensor) -> npt.NDArray[np.float32]:
    moved: npt.NDArray[np.float32] = F.normalize(torch.from_numpy(embeddings) @ projection.cpu(), dim=1).numpy()
    return moved


def _headline(found: ModeResult, supported: Sequence[float], far: float | None) -> float:
    if far is not None:
        if far not in supported:
            impostors = int((~found.same).sum())
            raise UserError(f"expected {1 / far:,.0f} impostor pairs for FAR {far_name(far)}, found {impostors:,}")
        return far
    if not supported:
        raise UserError(f"expected at least ten impostor pairs, found {int((~found.same).sum())}")
    sure = [rate for rate in supported if found.tar[rate].allowed >= FEW]
    return min(sure) if sure else max(supported)


def _cost(far: float, before: ModeResult, after: ModeResult, pairs: Pairs, replicates: int, seed: int) -> Cost:
    difference = paired_difference(
        before.scores, after.scores, pairs, metric=f"tar@far={far!r}", replicates=replicates, seed=seed
    )
    kept, new = before.tar[far].threshold, after.tar[far].threshold
    assert kept is not None  # supported rates have thresholds
    assert new is not None
    accepted = after.scores >= kept
    far_kept, tar_kept = (float(np.mean(accepted[after.same == same])) for same in (False, True))
    return Cost(far, difference, kept, new, far_kept, tar_kept, after.tar[far].allowed < FEW)


def _answer(found: Difference, most: float) -> str:
    if found.upper <= most:
        return YES
    return NO if found.lower > most else UNSURE
