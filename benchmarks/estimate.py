"""Is `proxylesskd estimate` right? It is asked first, then the training runs and is watched.

    python benchmarks/estimate.py --folder /tmp/estimate          # all, on a quiet machine: about 15 minutes
    python benchmarks/estimate.py --smoke                         # two small ones

Memory is the process's own (RssAnon): what must be free. Pages of mapped files are shown apart; the system drops them
when it needs the room. The last line names what missed by more than the tolerance.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from measured_run import Measured, distill
from stand_in import require_room, write_faces, write_rows

from proxylesskd.classifier.stored_rows import size_of
from proxylesskd.estimation.estimate import Estimate, estimate
from proxylesskd.recipe import load_recipe

DIM = 512


@dataclass(frozen=True)
class Case:
    """One training."""

    model: str
    width: float
    batch: int
    identities: int
    store: str

    @property
    def overrides(self) -> list[str]:
        """What its recipe says."""
        return [f"model.name={self.model}", f"model.width={self.width}", f"train.batch={self.batch}"]


CASES = (
    Case("mobilefacenet", 1.0, 32, 10_000, "float32"),
    Case("mobilefacenet", 1.0, 128, 10_000, "float32"),
    Case("mobilefacenet", 0.5, 64, 100_000, "float32"),
    Case("mobilefacenet", 2.0, 32, 100_000, "int8"),
    Case("mobilefacenet", 1.0, 64, 1_000_000, "float32"),
    Case("mobilefacenet", 1.0, 64, 1_000_000, "bfloat16"),
    Case("mobilefacenet", 1.0, 64, 1_000_000, "int8"),
    Case("iresnet18", 1.0, 32, 100_000, "bfloat16"),
)
SMOKE = (Case("mobilefacenet", 0.25, 8, 2_000, "float32"), Case("mobilefacenet", 0.25, 16, 40_000, "int8"))


def run(case: Case, folder: Path, faces: Path, steps: int) -> tuple[Estimate, Measured]:
    """Ask, then measure."""
    rows = folder / f"rows-{case.identities}-{case.store}.safetensors"
    if not rows.exists():
        require_room(folder, size_of(case.store, case.identities, DIM))
        write_rows(rows, case.identities, DIM, case.store)
    asked = [*case.overrides, f"data.train={faces}", f"method.classifier={rows}"]
    said = estimate(load_recipe(None, asked))
    out = folder / "run"
    shutil.rmtree(out, ignore_errors=True)
    return said, distill(out, asked, steps)


def rows_of_table(case: Case, said: Estimate, found: Measured, tolerance: float) -> Iterator[tuple[str, bool]]:
    """Yield lines of the table, and whether each is right."""
    name = f"{case.model} x {case.width:g}, B={case.batch}, C={case.identities}, {case.store} ({said.engine})"
    mib = 2**20
    yield _line(f"{name} | memory, MiB", said.private / mib, found.private / mib, tolerance)
    yield _line(f"{name} | step, ms", 1e3 * said.step_seconds, 1e3 * found.step_seconds, tolerance)
    yield f"| {name} | file pages, MiB | {said.mapped / mib:.0f} | {found.mapped / mib:.0f} | | |", True


def _line(what: str, said: float, found: float, tolerance: float) -> tuple[str, bool]:
    right = abs(said / found - 1) <= tolerance
    return f"| {what} | {said:.0f} | {found:.0f} | {said / found:.2f} | {'' if right else 'MISSED'} |", right


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="for files of rows, a few GiB; a temporary one unless given")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--tolerance", type=float, default=0.15)
    parser.add_argument("--smoke", action="store_true", help="small ones, to see that it works")
    args = parser.parse_args()
    missed = 0
    with tempfile.TemporaryDirectory(dir=args.folder and args.folder.parent) as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        cases = SMOKE if args.smoke else CASES
        faces = Path(temporary) / "faces"
        write_faces(faces, 200, 4, among=min(case.identities for case in cases))
        print("| training | what | estimated | measured | ratio | |\n|---|---|---|---|---|---|", flush=True)
        for case in cases:
            for line, right in rows_of_table(case, *run(case, folder, faces, args.steps), args.tolerance):
                print(line, flush=True)
                missed += not right
    print(f"\n{missed} missed by more than {args.tolerance:.0%}" if missed else f"\nall within {args.tolerance:.0%}")


if __name__ == "__main__":
    main()
