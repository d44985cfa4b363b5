"""The examination agrees with pip's own metadata, with the command line's verbs, and ends quickly."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from importlib import metadata

import numpy as np
import pytest
import typer

from proxylesskd.cli import app, main
from proxylesskd.doctor import examine as examination
from proxylesskd.doctor.examine import examine
from proxylesskd.doctor.packages import Package, asked_for, installed, numbers
from proxylesskd.doctor.speed import decoded_per_second, gigaflops, rate, read_decoding, read_multiplying
from proxylesskd.doctor.verbs import NEEDS, mend, missing
from proxylesskd.errors import UserError

LINES = [
    "numpy>=1.26",
    'torch>=2.9; extra == "train"',
    "onnx>=1.18; extra == 'onnx'",
    "proxylesskd[train]; extra == 'onnx'",
    "proxylesskd[onnx,train]; extra == 'all'",
    'triton==3.5.1; (sys_platform == "linux") and extra == "dev"',
]
HERE = {"numpy": "2.4.6", "torch": "2.8.1+cpu"}


def test_extras_hold_what_their_own_extras_ask_for() -> None:
    found = asked_for(LINES, find=HERE.get)
    assert {extra: [p.name for p in packages] for extra, packages in found.items()} == {
        "": ["numpy"],
        "train": ["torch"],
        "onnx": ["onnx", "torch"],
        "all": ["onnx", "torch"],
        "dev": ["triton"],
    }
    assert found["dev"][0].least == "3.5.1"


def test_missing_and_old_packages_have_their_command() -> None:
    found = asked_for(LINES, find=HERE.get)
    assert [p.name for p in missing(("onnx",), found)] == ["onnx", "torch"]
    assert mend((), found) is None
    assert mend(("train",), found) == "pip install 'proxylesskd[train]'"
    assert mend(("train",), asked_for(LINES, find={**HERE, "torch": "2.10"}.get)) is None
    assert mend((), asked_for(LINES, find={}.get)) == "pip install --upgrade proxylesskd"


@pytest.mark.parametrize(
    ("least", "found", "fits"),
    [
        ("2.9", "2.10.0", True),
        ("2.9", "2.8.9", False),
        ("", "0.1", True),
        ("2.9", None, False),
        ("3", "3.0.0+cpu", True),
    ],
)
def test_versions_are_numbers_not_text(least: str, found: str | None, fits: bool) -> None:
    assert Package("x", least, found).fits is fits
    assert numbers("2.13.0rc1+cpu") == (2, 13, 0)


def test_the_other_opencv_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "opencv-python":
            return "4.12"
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(metadata, "version", version)
    assert installed("opencv-python-headless") == "4.12"
    assert installed("torch") is None


def test_every_verb_of_the_command_line_is_known() -> None:
    command = typer.main.get_command(app)
    assert set(command.commands) == set(NEEDS)  # type: ignore[attr-defined]
    extras = {
        line.split("extra == ")[1].strip("'\")") for line in metadata.requires("proxylesskd") or [] if "extra" in line
    }
    assert {extra for needs in NEEDS.values() for extra in needs} <= extras


def test_rates_are_those_of_a_plain_clock() -> None:
    assert rate(lambda: time.sleep(0.01), 0.2) == pytest.approx(95, rel=0.2)
    assert rate(lambda: None, 0.0) > 0
    assert decoded_per_second(0.05) > 50
    assert gigaflops(0.05) > 0.1


def test_readings_say_when_something_is_slow() -> None:
    assert read_decoding(5e6 / 3600) == "one core reads a set of 5 million faces in 1.0 hours; that is slow: " + (
        "is another program busy?"
    )
    assert "slow" not in read_decoding(4000)
    assert "slow" in read_multiplying(1, 2)
    assert "with 2 threads" in read_multiplying(50, 2)


def test_the_verb_prints_json_and_text(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "_devices", lambda: {"torch": ["cpu"], "onnxruntime": []})
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--json", "--no-speed"])
    told = json.loads(capsys.readouterr().out)
    assert ended.value.code == 1 - told["healthy"]
    assert told["packages"]["core"]["numpy"]["found"] == np.__version__
    assert told["verbs"]["verify"]["mend"] is None
    assert told["speed"] == {}
    with pytest.raises(SystemExit):
        main(["doctor", "--no-speed"])
    out = capsys.readouterr().out
    assert f"numpy {np.__version__}" in out
    assert "onnxruntime runs on nothing" in out


def test_an_old_package_is_not_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "requires", lambda _: ["numpy>=99", "torch>=99; extra == 'train'"])
    monkeypatch.setattr(examination, "_devices", dict)
    found = examine(speed=False)
    assert not found.healthy
    assert "numpy " + np.__version__ + " (too old)" in str(found)
    assert "pip install --upgrade proxylesskd" in str(found)


def test_sources_that_are_not_installed_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def requires(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", requires)
    with pytest.raises(UserError, match="pip install"):
        examine(speed=False)


def test_devices_and_speed_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("proxylesskd.doctor.examine.decoded_per_second", lambda: 1e4)
    monkeypatch.setattr("proxylesskd.doctor.examine.gigaflops", lambda: 20.0)
    monkeypatch.setattr("proxylesskd.doctor.examine.torch_gigaflops", lambda _: 30.0)
    found = examine()
    assert "CPUExecutionProvider" in found.devices["onnxruntime"]
    assert "matmul numpy: 20 GFLOP/s; as a CPU should, with 1 thread;" in str(found)


def test_the_module_runs_and_completes_verbs() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "proxylesskd", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"proxylesskd {metadata.version('proxylesskd')}\n"
