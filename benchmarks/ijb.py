"""IJB-C's size in 1:1: templates, scores and ROC, against the public rules done the way public scripts do them.

python benchmarks/ijb.py [--shrink 10]

The features are synthetic: 469,375 images of 23,124 templates, 3,531 of them enrolled, 512 numbers each, and
15,658,489 pairs. The other side restates InsightFace's rules: one template after the other, each searched for among all
images and each of its media among these, then scores in batches of 100,000 pairs, then scikit-learn's ROC. Both sides
get features in memory and the pair list as arrays; each runs once, with as many threads as the environment allows.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from sklearn.metrics import auc, roc_curve
from sklearn.preprocessing import normalize

from proxylesskd.evaluation.evaluation import FARS
from proxylesskd.protocols.ijb_meta import TemplatePairs
from proxylesskd.protocols.score_sets import ScoreSets, verification_curves, verification_measures
from proxylesskd.protocols.template_bootstrap import bootstrap_verification
from proxylesskd.protocols.templates import pair_scores, template_embeddings

IMAGES, TEMPLATES, SUBJECTS, PAIRS, DIM = 469_375, 23_124, 3_531, 15_658_489, 512


@dataclass(frozen=True)
class Made:
    """A synthetic set: ``units [N, 1, D]``, ``norms [N, 1]``, detector's scores, who is where, and the pairs."""

    units: npt.NDArray[np.float32]
    norms: npt.NDArray[np.float32]
    detector: npt.NDArray[np.float64]
    template: npt.NDArray[np.int64]
    media: npt.NDArray[np.int64]
    subject: npt.NDArray[np.int64]
    pairs: TemplatePairs


def make(shrink: int, seed: int = 0) -> Made:
    random = np.random.default_rng(seed)
    images, templates, subjects = IMAGES // shrink, TEMPLATES // shrink, SUBJECTS // shrink
    template = np.concatenate([np.arange(templates), random.integers(0, templates, images - templates)])
    random.shuffle(template)
    subject = np.concatenate([np.arange(subjects), random.integers(0, subjects, templates - subjects)])
    centres = random.normal(size=(subjects, DIM)).astype(np.float32)
    raw = random.standard_normal((images, 1, DIM), dtype=np.float32)
    raw *= random.uniform(6, 24, (images, 1, 1)).astype(np.float32)
    raw[:, 0] += centres[subject[template]]
    norms = np.sqrt(np.einsum("nvd,nvd->nv", raw, raw))
    raw /= norms[:, :, None]
    pairs = make_pairs(subject, subjects, PAIRS // shrink**2, random)
    detector = random.uniform(0.3, 1, images)
    return Made(raw, norms, detector, template, random.integers(0, 6, images), subject, pairs)


def make_pairs(subject: npt.NDArray[np.int64], enrolled: int, count: int, random: np.random.Generator) -> TemplatePairs:
    """Pair every probe with its subject's enrolled template, and as many others as there are to be, in their order."""
    probes = np.arange(enrolled, len(subject))
    first = np.concatenate([subject[probes], random.integers(0, enrolled, count - len(probes))])
    second = np.concatenate([probes, random.integers(enrolled, len(subject), count - len(probes))])
    order = np.argsort(first, kind="stable")
    first, second = first[order].astype(np.int32), second[order].astype(np.int32)
    return TemplatePairs(first, second, subject[first] == subject[second])


def public_templates(made: Made, features: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    sums = np.zeros((len(made.subject), DIM))
    for template in range(len(made.subject)):
        mine = np.where(made.template == template)[0]
        media = made.media[mine]
        means = [np.mean(features[mine[media == medium]], axis=0) for medium in np.unique(media)]
        sums[template] = np.sum(means, axis=0)
    return normalize(sums)


def public_scores(pairs: TemplatePairs, templates: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    scores = np.zeros(len(pairs))
    for start in range(0, len(pairs), 100_000):
        part = slice(start, start + 100_000)
        scores[part] = np.sum(templates[pairs.first[part]] * templates[pairs.second[part]], -1)
    return scores


def public_rates(pairs: TemplatePairs, scores: npt.NDArray[np.float64]) -> dict[float, float]:
    far, tar, _ = roc_curve(pairs.same, scores)
    far, tar = far[::-1], tar[::-1]
    return {0.0: auc(far, tar)} | {wanted: float(tar[np.argmin(np.abs(far - wanted))]) for wanted in FARS}


class Clock:
    """Wall and CPU seconds of the steps of both sides."""

    def __init__(self) -> None:
        self.seconds: dict[tuple[str, str], tuple[float, float]] = {}

    def run(self, side: str, step: str, work: Callable[[], Any]) -> Any:
        """Do a step and return what it returns."""
        wall, cpu = time.perf_counter(), time.process_time()
        result = work()
        self.seconds[side, step] = time.perf_counter() - wall, time.process_time() - cpu
        return result

    def show(self, console: Console) -> None:
        """Print a table."""
        table = Table("step", "ours: wall s", "CPU s", "public: wall s", "CPU s", "ratio wall", "CPU")
        steps = ("templates", "scores", "ROC")
        sums = {side: np.sum([self.seconds[side, step] for step in steps[:2]], axis=0) for side in ("ours", "public")}
        rows = {step: (self.seconds["ours", step], self.seconds["public", step]) for step in steps}
        for step, (ours, public) in (rows | {"templates and scores": (sums["ours"], sums["public"])}).items():
            ratios = [f"{public[i] / ours[i]:.1f}" for i in (0, 1)]
            table.add_row(step, *(f"{value:.1f}" for value in (*ours, *public)), *ratios)
        console.print(table)
        ours = np.sum([self.seconds["ours", step] for step in steps], axis=0)
        console.print(f"ours in all: {ours[0]:.1f} s wall, {ours[1]:.1f} s CPU")
        if ("ours", "bootstrap") in self.seconds:
            console.print(
                "1,000 bootstrap replicates: {:.1f} s wall, {:.1f} s CPU".format(*self.seconds["ours", "bootstrap"])
            )


def our_rates(sets: ScoreSets) -> dict[str, float | None]:
    verification_curves(sets)
    return {name: measure.value for name, measure in verification_measures(sets, FARS).items()}


def ours(made: Made, clock: Clock, replicates: int) -> npt.NDArray[np.float64]:
    templates = clock.run(
        "ours",
        "templates",
        lambda: template_embeddings(
            made.units,
            made.template,
            made.media,
            len(made.subject),
            norms=made.norms,
            norm=True,
            detector=made.detector,
        ),
    )
    pairs = made.pairs
    scores = clock.run("ours", "scores", lambda: pair_scores(templates, templates, pairs.first, pairs.second))
    rates = clock.run("ours", "ROC", lambda: our_rates(ScoreSets.of(scores, pairs.same)))
    print("ours:  ", {name: value and round(value, 6) for name, value in rates.items()})
    if replicates:
        clock.run(
            "ours",
            "bootstrap",
            lambda: bootstrap_verification(scores, pairs, made.subject, FARS, replicates=replicates),
        )
    return scores


def public(made: Made, clock: Clock, kind: type[np.floating]) -> npt.NDArray[np.float64]:
    features = made.units[:, 0].astype(kind)
    features *= made.norms.astype(kind)
    features *= made.detector[:, None].astype(kind)
    templates = clock.run("public", "templates", lambda: public_templates(made, features))
    scores = clock.run("public", "scores", lambda: public_scores(made.pairs, templates))
    rates = clock.run("public", "ROC", lambda: public_rates(made.pairs, scores))
    print("public:", {name or "auc": round(value, 6) for name, value in rates.items()})
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shrink", type=int, default=1, help="so many times fewer images and templates")
    parser.add_argument("--replicates", type=int, default=0, help="of our bootstrap over identities, timed too")
    asked = parser.parse_args()
    console, clock = Console(width=120), Clock()
    small = make(10)
    gap = np.abs(ours(small, Clock(), 0) - public(small, Clock(), np.float64)).max()
    console.print(f"a tenth of the size, both from float64 features: scores differ by at most {gap:.1e}")
    made = make(asked.shrink)
    gap = np.abs(ours(made, clock, asked.replicates) - public(made, clock, np.float32)).max()
    console.print(f"as the public script has it, from float32 features: by at most {gap:.1e}")
    clock.show(console)


if __name__ == "__main__":
    main()
