"""Feeds readers with files made wrong, and sees to it that none crashes, hangs, swells or executes anything.

``python -m tests.security.fuzz READER:COUNT[:FIRST] …`` runs as many cases of each reader, or of all readers for
``all:COUNT``, and prints what they found, a line of JSON for each. Cases run in a process of their own: whoever dies
is reported with its case and replaced by one that goes on with the next. A case is a pure function of the reader's name
and its number, so that ``READER:1:NUMBER`` repeats it.
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
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MAX_SECONDS, MAX_BYTES = 5.0, 1 << 30
# The clock on the wall is that of a busy machine; what a case uses of the processor is held to MAX_SECONDS.
WALL_SECONDS = 60.0
ADDRESS_SPACE = 8 << 30
MAX_FINDINGS = 20
Case = tuple[str, int]
Span = tuple[str, int, int]


@dataclass
class Report:
    """What some cases of a reader found.

    Attributes:
        cases: how many ran.
        read: how many of them were read to the end; all others were refused by an error meant for users.
        findings: number of a case -> what went wrong.
        peak_bytes: most memory that the process had taken by then, the packages it loaded included.
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
    """Return the most memory this process has held; ``ru_maxrss`` would begin with that of whoever started it."""
    from proxylesskd.machine import own_memory

    return own_memory()["peak"]


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


class _Worker:
    """Runs cases in this process; the present one stands in ``home/now``, the reports in ``home/report``."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.reports: dict[str, Report] = {}
        self._seeds: dict[str, list[dict[str, bytes]]] = {}
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.environ |= {"FUZZ_CANARY": str(home / "executed"), "XDG_CACHE_HOME": str(home / "cache")}

    def seeds(self, name: str) -> list[dict[str, bytes]]:
        from tests.security.fuzz_targets import TARGETS

        if name not in self._seeds:
            place = self.home / f"seeds-{name}"
            place.mkdir()
            self._seeds = {name: TARGETS[name].seeds(place)}
        return self._seeds[name]

    def run(self, name: str, number: int) -> str | None:
        """Run one case; return what went wrong."""
        report = self.reports.setdefault(name, Report())
        seeds = self.seeds(name)
        faulthandler.dump_traceback_later(WALL_SECONDS, exit=True)
        folder = self.home / f"{name}-{number}"  # readers may remember a path
        _case(name, number, seeds, folder)
        started = time.process_time()
        read, wrong = _try(name, folder)
        seconds = time.process_time() - started
        shutil.rmtree(folder, ignore_errors=True)
        wrong = self._executed() or wrong or (f"{seconds:.1f} s" if seconds > MAX_SECONDS else None)
        wrong = wrong or (f"{_peak() >> 20} MiB" if _peak() > MAX_BYTES else None)
        if wrong is not None:
            report.findings[number] = wrong
        report.cases, report.read = report.cases + 1, report.read + read
        report.peak_bytes, report.slowest_seconds = _peak(), max(report.slowest_seconds, seconds)
        return wrong

    def _executed(self) -> str | None:
        canary = self.home / "executed"
        if not canary.exists():
            return None
        canary.unlink()
        return "something in the file was executed"

    def save(self) -> None:
        told = {name: asdict(report) for name, report in self.reports.items()}
        (self.home / "report").write_text(json.dumps(told))


def work(cases: list[Case], home: Path) -> None:
    """Run cases in this process, until its memory is spoilt."""
    worker = _Worker(home)
    for done, (name, number) in enumerate(cases):
        (home / "now").write_text(str(done))
        wrong = worker.run(name, number)
        if wrong is not None or done % 50 == 0 or done == len(cases) - 1:
            worker.save()
        if _peak() > MAX_BYTES:
            (home / "now").write_text(str(done + 1))
            break
    (home / "end").touch()


def _one_process(cases: list[Case], place: Path, reports: dict[str, Report]) -> list[Case]:
    """Run cases in another process; return those that remain after its end."""
    home = Path(tempfile.mkdtemp(prefix="fuzz-", dir=place))
    (home / "cases").write_text(json.dumps(cases))
    command = [sys.executable, "-m", "tests.security.fuzz", "--work", str(home)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if not (home / "now").exists():
        raise RuntimeError(f"the fuzzer itself failed: {done.stderr[-2000:]}")
    now, ended = int((home / "now").read_text()), (home / "end").exists()
    told = json.loads((home / "report").read_text()) if (home / "report").exists() else {}
    shutil.rmtree(home, ignore_errors=True)
    for name, values in told.items():
        values["findings"] = {int(number): wrong for number, wrong in values["findings"].items()}
        reports.setdefault(name, Report()).add(Report(**values))
    if ended:
        return cases[now:] if now < len(cases) - 1 else []
    name, number = cases[now]
    reports.setdefault(name, Report()).findings[number] = f"ended with {done.returncode}: {done.stderr[-1500:]}"
    return cases[now + 1 :]


def fuzz(spans: Iterable[Span], place: Path | None = None) -> dict[str, Report]:
    """Run cases of readers in other processes.

    Args:
        spans: name of a reader, how many cases, number of the first one.
        place: folder for the files, best in memory.

    Returns:
        What was found, by reader. A reader with many findings is given up.
    """
    spans = list(spans)
    reports: dict[str, Report] = {name: Report() for name, _, _ in spans}
    shared = Path("/dev/shm")
    place = place or (shared if shared.is_dir() else Path(tempfile.gettempdir()))
    cases: list[Case] = [(name, number) for name, count, first in spans for number in range(first, first + count)]
    while cases:
        cases = _one_process(cases, place, reports)
        cases = [case for case in cases if len(reports[case[0]].findings) < MAX_FINDINGS]
    for name, count, _ in spans:  # a process that died took with it what it counted since it last reported
        if len(reports[name].findings) < MAX_FINDINGS:
            reports[name].cases = max(reports[name].cases, count)
    return reports


def spans_of(words: Iterable[str]) -> list[Span]:
    """Parse ``READER:COUNT[:FIRST]``."""
    from tests.security.fuzz_targets import TARGETS

    spans: list[Span] = []
    for word in words:
        name, count, *first = word.split(":")
        spans += [(each, int(count), int(first[0]) if first else 0) for each in (TARGETS if name == "all" else [name])]
    return spans


if __name__ == "__main__":
    if sys.argv[1] == "--work":
        work(json.loads((Path(sys.argv[2]) / "cases").read_text()), Path(sys.argv[2]))
    else:
        for span in spans_of(sys.argv[1:]):
            for reader, found in fuzz([span]).items():
                sys.stdout.write(json.dumps({"reader": reader, **asdict(found)}) + "\n")
                sys.stdout.flush()
