"""Feeds readers with files made wrong, and sees to it that none crashes, hangs, swells or executes anything.

``python -m tests.security.fuzz READER COUNT [FIRST]`` runs as many cases and prints what they found as JSON. Cases run
in a process of their own: whoever dies is reported with its case and replaced by one that goes on with the next. A
case is a pure function of the reader's name and its number, so that ``READER 1 NUMBER`` repeats it.
"""

from __future__ import annotations

import faulthandler
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MAX_SECONDS, MAX_BYTES = 5.0, 1 << 30
# The clock on the wall is that of a busy machine; what a case uses of the processor is held to MAX_SECONDS.
WALL_SECONDS = 60.0
ADDRESS_SPACE = 8 << 30
MAX_FINDINGS = 20


@dataclass
class Report:
    """What some cases of a reader found.

    Attributes:
        cases: how many ran.
        read: how many of them were read to the end; all others were refused by an error meant for users.
        findings: number of a case -> what went wrong.
        peak_bytes: most memory that the process took at any time.
        slowest_seconds: most time of the processor that a case took.
    """

    cases: int = 0
    read: int = 0
    findings: dict[int, str] = field(default_factory=dict)
    peak_bytes: int = 0
    slowest_seconds: float = 0.0

    def add(self, other: Report) -> None:
        self.cases += other.cases
        self.read += other.read
        self.findings |= other.findings
        self.peak_bytes = max(self.peak_bytes, other.peak_bytes)
        self.slowest_seconds = max(self.slowest_seconds, other.slowest_seconds)


def _case(name: str, number: int, seeds: list[dict[str, bytes]], folder: Path) -> None:
    """Write the files of a case into a folder."""
    from tests.security.fuzz_targets import TARGETS
    from tests.security.mutate import mutate
    from tests.security.target import poison, put

    chance = random.Random(f"{name} {number}")
    files = dict(chance.choice(seeds))
    others = [poison(), *(data for seed in seeds for data in seed.values())]
    for _ in range(chance.choice((1, 1, 2))):
        chosen = chance.choice(list(files))
        if name == "folder" or (len(files) > 3 and chance.random() < 0.1):
            data = files.pop(chosen)
            changed = mutate(os.fsencode(chosen), chance, [])[:300].replace(b"..", b".")
            files[os.fsdecode(changed.lstrip(b"/") or b"x")] = data
        else:
            first = next(iter(files)) if chance.random() < 0.7 else chosen
            files[first] = TARGETS[name].mend(mutate(files[first], chance, others), chance)
    put(folder, files)


def _peak() -> int:
    """Return the most memory this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _try(name: str, folder: Path) -> tuple[bool, str | None]:
    """Return whether the files of a case could be read, and what went wrong that must not."""
    from proxylesskd.errors import UserError
    from tests.security.fuzz_targets import TARGETS
    from tests.security.target import check_message

    try:
        TARGETS[name].read(folder)
    except UserError as error:
        try:
            check_message(error)
        except AssertionError as wrong:
            return False, str(wrong)
        return False, None
    except Exception as error:
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place is not None else ""
        return False, f"{type(error).__name__}: {str(error)[:200]} at {where}"
    return True, None


def work(name: str, first: int, count: int, home: Path) -> None:
    """Run cases; the number of the present one stands in ``home/now``, the report in ``home/report``."""
    from tests.security.fuzz_targets import TARGETS

    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    canary = home / "executed"
    os.environ |= {"FUZZ_CANARY": str(canary), "XDG_CACHE_HOME": str(home / "cache")}
    (home / "seeds").mkdir()
    seeds, report = TARGETS[name].seeds(home / "seeds"), Report()
    for number in range(first, first + count):
        (home / "now").write_text(str(number))
        faulthandler.dump_traceback_later(WALL_SECONDS, exit=True)
        folder = home / f"case-{number}"  # readers may remember a path
        _case(name, number, seeds, folder)
        started = time.process_time()
        read, wrong = _try(name, folder)
        seconds = time.process_time() - started
        if canary.exists():
            wrong = "something in the file was executed"
            canary.unlink()
        wrong = wrong or (f"{seconds:.1f} s" if seconds > MAX_SECONDS else None)
        wrong = wrong or (f"{_peak() >> 20} MiB" if _peak() > MAX_BYTES else None)
        if wrong is not None:
            report.findings[number] = wrong
        report.cases, report.read = report.cases + 1, report.read + read
        report.peak_bytes, report.slowest_seconds = _peak(), max(report.slowest_seconds, seconds)
        shutil.rmtree(folder, ignore_errors=True)
        if wrong is not None or number % 50 == 0 or number == first + count - 1:
            (home / "report").write_text(json.dumps(asdict(report)))
        if len(report.findings) >= MAX_FINDINGS or _peak() > MAX_BYTES:
            break
    (home / "end").touch()


def _one_process(name: str, first: int, count: int, place: Path) -> Report:
    home = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-", dir=place))
    command = [sys.executable, "-m", "tests.security.fuzz", "--work", name, str(first), str(count), str(home)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    report = Report()
    if (home / "report").exists():
        told = json.loads((home / "report").read_text())
        report = Report(**{**told, "findings": {int(k): v for k, v in told["findings"].items()}})
    if not (home / "end").exists():
        if not (home / "now").exists():
            raise RuntimeError(f"the fuzzer itself failed: {done.stderr[-2000:]}")
        number = int((home / "now").read_text())
        report.cases = number + 1 - first
        report.findings[number] = f"the process ended with {done.returncode}: {done.stderr[-1500:]}"
    shutil.rmtree(home, ignore_errors=True)
    return report


def fuzz(name: str, count: int, first: int = 0, place: Path | None = None) -> Report:
    """Run cases of a reader in other processes.

    Args:
        name: of the reader, a key of ``TARGETS``.
        count: how many cases.
        first: number of the first case.
        place: folder for the files, best in memory.
    """
    report = Report()
    shared = Path("/dev/shm")
    place = place or (shared if shared.is_dir() else Path(tempfile.gettempdir()))
    while report.cases < count and len(report.findings) < MAX_FINDINGS:
        report.add(_one_process(name, first + report.cases, count - report.cases, place))
    return report


def _reports(arguments: list[str]) -> Iterator[str]:
    name, count, *first = arguments
    report = fuzz(name, int(count), int(first[0]) if first else 0)
    yield json.dumps({"reader": name, **asdict(report)})


if __name__ == "__main__":
    if sys.argv[1] == "--work":
        work(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
    else:
        for line in _reports(sys.argv[1:]):
            sys.stdout.write(line + "\n")
