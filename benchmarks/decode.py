"""Reading and decoding faces: RecordIO through our loader, a PyTorch DataLoader over folders, and bare libjpeg-turbo.

    python benchmarks/decode.py
    python benchmarks/decode.py --faces folder:FACES --workers 4

The same images three ways, interleaved: ``rec:`` through :func:`proxylesskd.data.loader.load_batches`, a
``torch.utils.data.DataLoader`` over an image folder that opens each file with Pillow (what image folders are commonly
read with), at as many workers; and ``simplejpeg.decode_jpeg`` on the same bytes already in memory, which no reader can
beat by much. Random faces of smooth noise unless real ones are named.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import simplejpeg
import torch
from interleave import Run, interleave, ratio
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from proxylesskd.data.decode import encode_jpeg
from proxylesskd.data.formats.recordio import write_record
from proxylesskd.data.loader import CorruptLog, load_batches
from proxylesskd.data.source import Source, open_source
from proxylesskd.training.allocator import keep_freed_memory

OURS, THEIRS, BARE = "rec: through our loader", "DataLoader over folders with Pillow", "simplejpeg on bytes in memory"


class PillowFolder(Dataset[tuple[torch.Tensor, int]]):
    """One sub-folder per identity, as torchvision's ImageFolder reads it."""

    def __init__(self, root: Path) -> None:
        names = sorted(path.name for path in root.iterdir())
        self.samples = [(path, label) for label, name in enumerate(names) for path in sorted((root / name).iterdir())]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        path, label = self.samples[index]
        with path.open("rb") as file:
            pixels = np.asarray(Image.open(file).convert("RGB"))
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1).contiguous(), label


def write_folder(root: Path, source: Source | None, count: int) -> None:
    """Write ``count`` faces of a source, or of smooth noise, as folders."""
    random = np.random.default_rng(0)
    for number in range(count):
        folder = root / f"{number // 10:06d}"
        folder.mkdir(parents=True, exist_ok=True)
        data = source.read(number * len(source) // count)[0] if source is not None else _noise(random)
        (folder / f"{number:06d}.jpg").write_bytes(data)


def _noise(random: np.random.Generator) -> bytes:
    """Return a JPEG of 112 pixels and about 5 kB: coarse colours and a little grain."""
    coarse = Image.fromarray(random.integers(0, 256, (14, 14, 3), dtype=np.uint8)).resize((112, 112))
    grain = random.normal(0, 6, (112, 112, 3))
    return encode_jpeg(np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8).transpose(2, 0, 1), quality=90)


def ours(source: Source, batch: int, workers: int) -> Run:
    steps = len(source) // batch

    def run() -> None:
        for _ in load_batches(source, batch=batch, seed=0, start=0, stop=steps, workers=workers, corrupt=CorruptLog()):
            pass

    return run


def theirs(folder: PillowFolder, batch: int, workers: int) -> Run:
    loader = DataLoader(
        folder, batch_size=batch, shuffle=True, num_workers=workers, drop_last=True, persistent_workers=True
    )
    _once(loader)  # the workers are started once a training, not once an epoch

    def run() -> None:
        _once(loader)

    return run


def _once(loader: DataLoader[tuple[torch.Tensor, int]]) -> None:
    for _ in loader:
        pass


def bare(source: Source, batch: int) -> Run:
    encoded = [source.read(index)[0] for index in range(len(source) // batch * batch)]

    def run() -> None:
        for start in range(0, len(encoded), batch):  # a batch is held, as whoever wants one must
            pixels = [simplejpeg.decode_jpeg(data, "RGB") for data in encoded[start : start + batch]]
            assert len(pixels) == batch

    return run


def rows(timings: dict[str, float], images: int) -> Iterator[str]:
    for name, seconds in timings.items():
        yield f"| {name} | {images / seconds:,.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", help="source of real ones")
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as the command line does
    device = torch.device("cpu")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "folder"
        write_folder(folder, open_source(asked.faces) if asked.faces else None, asked.images)
        write_record(open_source(str(folder)), Path(scratch) / "rec")
        source = open_source(f"rec:{scratch}/rec")
        size = sum(len(source.read(i)[0]) for i in range(len(source))) / len(source)
        print(f"{len(source)} images of {size:,.0f} bytes, batch {asked.batch}, {asked.rounds} rounds\n")
        together = {
            OURS: lambda: ours(source, asked.batch, asked.workers),
            THEIRS: lambda: theirs(PillowFolder(folder), asked.batch, asked.workers),
        }
        wall = interleave(together, rounds=asked.rounds, seconds=120, device=device)
        alone = {OURS: lambda: ours(source, asked.batch, 1), BARE: lambda: bare(source, asked.batch)}
        cpu = interleave(alone, rounds=asked.rounds, seconds=120, device=device)
    count = asked.images // asked.batch * asked.batch
    print(f"| {asked.workers} workers, wall time | images/s |\n|---|---|")
    print("\n".join(rows({name: timing.median() for name, timing in wall.items()}, count)))
    print("\n| one worker, CPU time | images/s |\n|---|---|")
    print("\n".join(rows({name: timing.median("cpu") for name, timing in cpu.items()}, count)))
    faster, share = ratio(wall[THEIRS], wall[OURS]), ratio(cpu[BARE], cpu[OURS], "cpu")
    print(f"\n| asked | found |\n|---|---|\n| 2 times as fast as the DataLoader | {faster} |")
    print(f"| 0.85 of simplejpeg's own rate | {share} |")


if __name__ == "__main__":
    main()
