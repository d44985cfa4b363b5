"""IJB-C's size in 1:1: templates, scores and ROC, against the public rules done the way public scripts do them.

    python benchmarks/ijb.py                # some 20 minutes, 5 GiB
    python benchmarks/ijb.py --shrink 10    # to see that it works

The features are synthetic: 469,375 images of 23,124 templates, 3,531 of them enrolled, 512 numbers each, and
15,658,489 pairs. The other side restates what InsightFace's ``recognition/_evaluation_/ijb/ijb_11.py`` does after the
features (``image2template_feature``, ``verification``, then scikit-learn's ROC): one template after the other, each
searched for among all images and each of its media among these, then scores in batches of 100,000 pairs. Both sides
get features in memory and the pair list as arrays. Before they are timed they must agree to 1e-9 on a tenth of the
size; then each step of both runs once a round, in random order, after a round that is not counted.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from interleave import Ratio, Run, Timing, interleave, ratio, timed
from sklearn.metrics import auc, roc_curve
from sklearn.preprocessing import normalize

from proxylesskd.evaluation.evaluation import FARS
from proxylesskd.protocols.ijb_meta import TemplatePairs
from proxylesskd.protocols.score_sets import ScoreSets, verification_curves, verification_measures
from proxylesskd.protocols.template_bootstrap import bootstrap_verification
from proxylesskd.protocols.templates import pair_scores, template_embeddings

OURS, PUBLIC = "ours", "public"
STEPS = ("templates", "scores", "ROC")
Floats = npt.NDArray[np.float64]

IMAGES, TEMPLATES, SUBJECTS, PAIRS, DIM = 469_375, 23_124, 3_531, 15_658_489, 512


@dataclass(frozen=True)
class Made:
    """A synthetic set: ``units [N, 1, D]``, ``norms [N, 1]``, detector's scores, who is where, and the pairs."""

    units: npt.NDArray[np.float32]
    norms: npt.NDArray[np.float32]
    detector: Floats
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


def public_templates(made: Made, features: npt.NDArray[Any]) -> Floats:
    sums = np.zeros((len(made.subject), DIM))
    for template in range(len(made.subject)):
        mine = np.where(made.template == template)[0]
        media = made.media[mine]
        means = [np.mean(features[mine[media == medium]], axis=0) for medium in np.unique(media)]
        sums[template] = np.sum(means, axis=0)
    unit: Floats = normalize(sums)
    return unit


def public_scores(pairs: TemplatePairs, templates: Floats) -> Floats:
    scores = np.zeros(len(pairs))
    for start in range(0, len(pairs), 100_000):
        part = slice(start, start + 100_000)
        scores[part] = np.sum(templates[pairs.first[part]] * templates[pairs.second[part]], -1)
    return scores


def public_rates(pairs: TemplatePairs, scores: Floats) -> dict[float, float]:
    far, tar, _ = roc_curve(pairs.same, scores)
    far, tar = far[::-1], tar[::-1]
    return {0.0: auc(far, tar)} | {wanted: float(tar[np.argmin(np.abs(far - wanted))]) for wanted in FARS}


def our_templates(made: Made) -> Floats:
    return template_embeddings(
        made.units,
        made.template,
        made.media,
        len(made.subject),
        norms=made.norms,
        norm=True,
        detector=made.detector,
    )


def our_scores(pairs: TemplatePairs, templates: Floats) -> Floats:
    return pair_scores(templates, templates, pairs.first, pairs.second)


def our_rates(pairs: TemplatePairs, scores: Floats) -> dict[str, float | None]:
    sets = ScoreSets.of(scores, pairs.same)
    verification_curves(sets)
    return {name: measure.value for name, measure in verification_measures(sets, FARS).items()}


def public_features(made: Made, kind: type[np.floating]) -> npt.NDArray[Any]:
    """Return ``[N, D]`` raw embeddings times the detector's scores, which the public script sums."""
    features = made.units[:, 0].astype(kind)
    features *= made.norms.astype(kind)
    features *= made.detector[:, None].astype(kind)
    return features


def check(made: Made) -> None:
    """Stop unless both sides find the same scores and areas from the same numbers."""
    pairs = made.pairs
    ours = our_scores(pairs, our_templates(made))
    public = public_scores(pairs, public_templates(made, public_features(made, np.float64)))
    areas = our_rates(pairs, ours)["auc"], public_rates(pairs, public)[0.0]
    gaps = np.abs(ours - public).max(), abs((areas[0] or 0.0) - areas[1])
    if max(gaps) > 1e-9:
        raise SystemExit(f"ours and the public rules differ by {gaps[0]:.1e} in scores and {gaps[1]:.1e} in AUC")
    print(
        f"{len(pairs):,} pairs: scores differ by at most {gaps[0]:.0e}, areas by {gaps[1]:.0e}",
        flush=True,
    )


def variants(made: Made) -> dict[str, Callable[[], Run]]:
    """Return both sides of every step by ``"templates, ours"``; each starts from what the step before it gives."""
    features, pairs = public_features(made, np.float32), made.pairs
    templates = our_templates(made)
    scores = our_scores(pairs, templates)
    runs: dict[str, Run] = {
        "templates, ours": lambda: our_templates(made),
        "templates, public": lambda: public_templates(made, features),
        "scores, ours": lambda: our_scores(pairs, templates),
        "scores, public": lambda: public_scores(pairs, templates),
        "ROC, ours": lambda: our_rates(pairs, scores),
        "ROC, public": lambda: public_rates(pairs, scores),
    }
    return {name: lambda run=run: run for name, run in runs.items()}  # type: ignore[misc]


def together(timings: Mapping[str, Timing], side: str, steps: tuple[str, ...]) -> Timing:
    """Return the sum of some steps of a side, round by round."""
    parts = [timings[f"{step}, {side}"] for step in steps]
    wall, cpu = ({n: sum(part.by(clock)[n] for part in parts) for n in parts[0].wall} for clock in ("wall", "cpu"))
    return Timing(wall, cpu)


def show(timings: Mapping[str, Timing]) -> None:
    """Print seconds and ratios of the steps."""
    print("\n| step | ours: wall s | CPU s | public: wall s | CPU s | ratio, wall | ratio, CPU |")
    print("|---|---|---|---|---|---|---|")
    rows = [*((step, (step,)) for step in STEPS), ("templates and scores", STEPS[:2]), ("all", STEPS)]
    for name, steps in rows:
        ours, public = (together(timings, side, steps) for side in (OURS, PUBLIC))
        seconds = [f"{timing.median(clock):.1f}" for timing in (ours, public) for clock in ("wall", "cpu")]
        ratios: list[Ratio] = [ratio(public, ours, clock=clock) for clock in ("wall", "cpu")]
        print(f"| {name} | {' | '.join([*seconds, *map(str, ratios)])} |")


def main() -> None:
    """Check, then time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shrink", type=int, default=1, help="so many times fewer images and templates")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--replicates", type=int, default=0, help="of our bootstrap over identities, timed too")
    asked = parser.parse_args()
    check(make(10 * asked.shrink))
    made = make(asked.shrink)
    sizes = f"{len(made.units):,} images, {len(made.subject):,} templates, {len(made.pairs):,} pairs"
    print(f"{sizes}, {asked.rounds} rounds", flush=True)
    device = torch.device("cpu")
    show(interleave(variants(made), rounds=asked.rounds, seconds=600, device=device, least=1))
    if asked.replicates:
        scores = our_scores(made.pairs, our_templates(made))

        def bootstrap() -> object:
            return bootstrap_verification(scores, made.pairs, made.subject, FARS, replicates=asked.replicates)

        wall, cpu = timed(bootstrap, device)
        print(f"\n{asked.replicates:,} bootstrap replicates, ours: {wall:.1f} s wall, {cpu:.1f} s CPU")


if __name__ == "__main__":
    main()
