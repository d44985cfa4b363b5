"""Every reader is given files made wrong: none may crash, hang, swell, execute anything or raise but for users.

The cases are the same in every run. ``python -m tests.security.fuzz all:10000`` runs more of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from proxylesskd.errors import UserError
from tests.security import fuzz as fuzzer
from tests.security.fuzz import Report, fuzz
from tests.security.fuzz_targets import TARGETS
from tests.security.target import Target, poison

for package in ("pyarrow", "lmdb", "onnx", "h5py"):
    pytest.importorskip(package)

# A whole network is built in every case.
SLOW = {"model": 15}
FEW, MANY = 60, 5_000


def assert_nothing_found(reports: dict[str, Report]) -> None:
    found = {name: report.findings for name, report in reports.items() if report.findings}
    assert not found, json.dumps(found, indent=1)
    for name, report in reports.items():
        assert report.peak_bytes < 1 << 30, name
        assert report.slowest_seconds < fuzzer.MAX_SECONDS, name
        assert report.read or name in ("keras", "listed", "model", "classifier"), f"no case of {name} was read at all"


def test_some_cases_of_every_reader() -> None:
    reports = fuzz((name, SLOW.get(name, FEW), 0) for name in TARGETS)
    assert_nothing_found(reports)
    assert {name: report.cases for name, report in reports.items()} == {n: SLOW.get(n, FEW) for n in TARGETS}


@pytest.mark.slow
def test_a_hundred_thousand_cases() -> None:
    reports = fuzz((name, MANY // (20 if name in SLOW else 1), FEW) for name in TARGETS)
    assert_nothing_found(reports)
    assert sum(report.cases for report in reports.values()) >= 100_000


def _refuses(_folder: Path) -> None:
    raise UserError("expected something else")


def _breaks(_folder: Path) -> None:
    raise KeyError("x")


def _executes(folder: Path) -> None:
    import pickle

    pickle.loads(poison())


def _mumbles(_folder: Path) -> None:
    raise UserError("")


@pytest.mark.parametrize(
    ("read", "found"),
    [
        (_refuses, None),
        (lambda _folder: None, None),
        (_breaks, "KeyError: 'x' at "),
        (_executes, "something in the file was executed"),
        (_mumbles, "an empty message"),
    ],
)
def test_the_fuzzer_sees_what_it_is_to_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], None], found: str | None
) -> None:
    monkeypatch.setitem(TARGETS, "toy", Target(lambda _folder: [{"a": b"some bytes"}], read))
    monkeypatch.setattr(fuzzer.resource, "setrlimit", lambda *_: None)
    monkeypatch.setattr(fuzzer.faulthandler, "dump_traceback_later", lambda *_, **__: None)
    monkeypatch.setattr(fuzzer, "_peak", lambda: 0)
    for variable in ("FUZZ_CANARY", "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, "")
    wrong = fuzzer._Worker(tmp_path).run("toy", 0)
    assert wrong is None if found is None else (wrong or "").startswith(found)


def test_a_process_that_dies_is_told_and_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker is replaced by one that ends itself at one of its cases."""
    script = (
        "import json, os, sys, pathlib; home = pathlib.Path(sys.argv[-1]); "
        "cases = json.loads((home / 'cases').read_text()); "
        "[(home / 'now').write_text(str(i)) and n == 3 and os.abort() for i, (_, n) in enumerate(cases)]; "
        "(home / 'end').touch()"
    )
    run = fuzzer.subprocess.run
    monkeypatch.setattr(
        fuzzer.subprocess, "run", lambda command, **how: run([command[0], "-c", script, command[-1]], **how)
    )
    report = fuzz([("rec", 6, 0)], tmp_path)["rec"]
    assert list(report.findings) == [3]
    assert report.findings[3].startswith("ended with -6")
    assert report.cases == 6
    assert list(tmp_path.iterdir()) == []
