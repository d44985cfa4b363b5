"""The exact ROC of a thousand million impostor scores, in a process that holds none of them.

    python benchmarks/roc_at_scale.py                   # 44,730 images, all pairs: 10^9 scores, some minutes
    python benchmarks/roc_at_scale.py --images 5000     # to see that it works

Embeddings of identities with ten images each. First a set of `--check` images is evaluated both ways, counted and
sorted, and every threshold and rate must be the same to the last bit. Then the large set is counted, in a process of
its own whose largest resident set is read when it is done.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time

import numpy as np

from proxylesskd.evaluation.all_pairs import AllPairs
from proxylesskd.evaluation.exact_quantiles import SortedScores
from proxylesskd.evaluation.exact_roc import exact_eer, exact_rates
from proxylesskd.evaluation.roc import equal_error_rate, roc_curve, tar_at_far

FARS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)


def made(images: int, dim: int, each: int = 10) -> AllPairs:
    """Return all pairs of embeddings around random centres."""
    random = np.random.default_rng(0)
    ids = np.arange(images) // each
    found = random.standard_normal((images, dim), dtype=np.float32)
    found += random.standard_normal((ids[-1] + 1, dim), dtype=np.float32)[ids]
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return AllPairs.of(found, ids)


def check(images: int, dim: int) -> None:
    """Stop unless counting gives what sorting gives."""
    pairs = made(images, dim)
    genuine, counted = pairs.genuine().scores, SortedScores(pairs.impostors)
    scores = np.concatenate([genuine, *(block.copy() for block in pairs.impostors())]).astype(np.float64)
    roc = roc_curve(scores, np.arange(len(scores)) < len(genuine))
    for far, rate in exact_rates(genuine, counted, FARS).items():
        if rate.tar is not None and (rate.tar.value, rate.threshold) != tar_at_far(roc, far):
            raise SystemExit(f"at FAR {far:g} counting found {rate}, sorting {tar_at_far(roc, far)}")
    if exact_eer(genuine, counted) != equal_error_rate(roc):
        raise SystemExit("counting and sorting found different equal error rates")
    print(f"{len(counted):,} impostor scores of {images:,} images: counting equals sorting to the last bit", flush=True)


def count(images: int, dim: int) -> None:
    """Count a large set, and say what that took."""
    pairs = made(images, dim)
    begun = time.monotonic()
    genuine, counted = pairs.genuine().scores, SortedScores(pairs.impostors)
    first = time.monotonic() - begun
    rates = exact_rates(genuine, counted, FARS)
    second = time.monotonic() - begun - first
    eer, threshold = exact_eer(genuine, counted)
    whole = time.monotonic() - begun
    print(f"\n{len(counted):,} impostor and {len(genuine):,} genuine scores, {images:,} x {dim}\n")
    print("| FAR | TAR | threshold | impostors allowed |\n|---|---|---|---|")
    for far, rate in rates.items():
        print(f"| {far:g} | {rate.value:.6f} | {rate.threshold} | {rate.allowed:,} |")
    print(f"\nequal error rate {eer:.6f} at {threshold:.6f}")
    third = whole - first - second
    print(f"{whole:.0f} s: counting {first:.0f}, thresholds {second:.0f}, equal error rate {third:.0f}")
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(f"largest resident set of the process: {largest / 2**30:.2f} GiB")


def main() -> None:
    """Check, then count in a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=44_730)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--check", type=int, default=3000)
    args = parser.parse_args()
    check(args.check, args.dim)
    child = multiprocessing.get_context("spawn").Process(target=count, args=(args.images, args.dim))
    child.start()
    child.join()
    raise SystemExit(child.exitcode)


if __name__ == "__main__":
    main()
