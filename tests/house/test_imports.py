"""The arrows of the design run one way, every folder says what lives there, and the contract sees every room."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "proxylesskd"


def _lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    return subprocess.run([*command, "--no-cache"], cwd=folder, capture_output=True, text=True, check=False)


def _layers() -> list[str]:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    return next(contract["layers"] for contract in contracts if contract["type"] == "layers")


def test_arrows_run_one_way() -> None:
    pytest.importorskip("importlinter")
    done = _lint(ROOT)
    assert done.returncode == 0, done.stdout
    assert "2 kept, 0 broken" in done.stdout


def test_the_linter_finds_an_arrow_that_runs_back(tmp_path: Path) -> None:
    pytest.importorskip("importlinter")
    for name, text in {"low": "import tiny.high\n", "high": ""}.items():
        (tmp_path / "tiny" / name).mkdir(parents=True)
        (tmp_path / "tiny" / name / "__init__.py").write_text(text)
    (tmp_path / "tiny" / "__init__.py").write_text("")
    (tmp_path / ".importlinter").write_text(
        "[importlinter]\nroot_package = tiny\n[importlinter:contract:1]\nname = one way\ntype = layers\n"
        "layers =\n    tiny.high\n    tiny.low\n"
    )
    done = _lint(tmp_path)
    assert done.returncode == 1, done.stdout
    assert "tiny.low is not allowed to import tiny.high" in done.stdout


def test_no_room_reaches_up_without_the_linter() -> None:
    """The same by a plain walk over the sources: no import of a room that stands higher."""
    height = {
        name.strip(" ()"): -row
        for row, line in enumerate(_layers())
        for name in line.replace("|", ",").replace(":", ",").split(",")
    }
    allowed = {("estimation", "cli")}
    up = {
        (room, other)
        for room, other in _arrows()
        if room != other and height[other] >= height[room] and (room, other) not in allowed
    }
    assert up == set()


def _arrows() -> set[tuple[str, str]]:
    found = set()
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found |= {(room, name.split(".")[1]) for name in names if name.startswith("proxylesskd.")}
    return found


@pytest.mark.parametrize("folder", sorted({path.parent for path in PACKAGE.rglob("*.py")}), ids=lambda path: path.name)
def test_every_folder_says_what_lives_there(folder: Path) -> None:
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
    assert text is not None
    assert len(text.split()) >= 4
    assert text.splitlines()[0].endswith((".", "?"))
