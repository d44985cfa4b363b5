"""Ten million identities on one machine: a classifier larger than its memory need be, and real steps through it.

    python benchmarks/ten_million.py --folder /big/disk                # int8, 10 GiB of disk, some 10 minutes
    python benchmarks/ten_million.py --folder /big/disk --store bfloat16
    python benchmarks/ten_million.py --identities 100000               # to see that it works

Random unit rows are streamed to a file, `proxylesskd estimate` says what a training takes, then `proxylesskd distill`
trains a student for a few steps and is watched. Its own memory must stay within what was said; pages of the mapped
file are shown apart, for the system drops them when it needs the room.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

from measured_run import distill
from stand_in import require_room, write_faces, write_rows

from proxylesskd.classifier.stored_rows import size_of
from proxylesskd.estimation.estimate import estimate
from proxylesskd.estimation.text import lines, size, span
from proxylesskd.machine import available_memory
from proxylesskd.recipe import load_recipe


def run(folder: Path, args: argparse.Namespace) -> bool:
    """Write, estimate, train; return whether the training kept to the estimate."""
    rows = folder / f"rows-{args.identities}-{args.store}.safetensors"
    if not rows.exists():
        require_room(folder, size_of(args.store, args.identities, args.dim))
        begun = time.monotonic()
        write_rows(rows, args.identities, args.dim, args.store)
        print(f"{rows.name}: {size(rows.stat().st_size)} written in {span(time.monotonic() - begun)}", flush=True)
    faces = folder / "faces"
    shutil.rmtree(faces, ignore_errors=True)
    write_faces(faces, 64, 4, among=args.identities)
    asked = [f"data.train={faces}", f"method.classifier={rows}", f"train.batch={args.batch}"]
    asked += [f"model.name={args.model}", f"model.width={args.width}"]
    said = estimate(load_recipe(None, asked))
    print("\n".join(lines(said)), flush=True)
    begun = time.monotonic()
    found = distill(folder / "run", asked, args.steps)
    whole = time.monotonic() - begun
    print(f"\n| {args.identities} x {args.dim}, {args.store}, B={args.batch} | estimated | measured |\n|---|---|---|")
    print(f"| own memory (RssAnon) | {size(said.private)} | {size(found.private)} |")
    print(f"| pages of files, at most | {size(said.mapped)} | {size(found.mapped)} |")
    print(f"| step | {span(said.step_seconds)} | {span(found.step_seconds)} |")
    print(
        f"\n{found.steps} steps, {span(whole)} with reading and hashing the file; {size(available_memory())} are free"
    )
    return found.private <= 1.15 * said.private


def main() -> None:
    """Parse, run, tidy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="on a disk with room; a temporary one unless given")
    parser.add_argument("--identities", type=int, default=10_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--store", default="int8", help="float32, bfloat16 or int8")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--model", default="mobilefacenet")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--keep", action="store_true", help="leave the files")
    args = parser.parse_args()
    base = args.folder or Path(tempfile.gettempdir())
    base.mkdir(parents=True, exist_ok=True)
    folder = base / f"proxylesskd-{args.identities}"
    try:
        kept = run(folder, args)
    finally:
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)
    if not kept:
        raise SystemExit("the training took more memory than estimated")


if __name__ == "__main__":
    main()
