"""Every command that a page shows exists with its options and settings; every block of shell and Python runs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer

from proxylesskd.activity.plan import Plan
from proxylesskd.cli import app
from proxylesskd.cli.app import spread
from proxylesskd.recipe import Recipe, laid_over
from tests.documented.blocks import ROOT, Block, blocks, pages, words
from tests.documented.world import copy_of, make_world, shell

# What is not typed again here, and what does it instead.
ELSEWHERE = {
    "make demo": "tests/end_to_end/test_demo.py",
    "make test": ".ci/run",
    "pip install": "tests/house/test_build.py",
    "python benchmarks/": "tests/documented/test_commands.py::test_measuring_scripts_know_their_options",
    "python -m http.server": "tests/web/test_browser.py",
}
OTHERS = ("insightface", "uniface")  # tests/export/test_dropin.py has them in an environment of their own
SETTING = re.compile(r"^[a-z]+(\.[a-z_0-9]+)?=")
PYTHON = "from tests.documented.cheaply import make_small; make_small()\n"


def _named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _shells() -> list[Block]:
    return [block for page in pages() for block in blocks(page) if block.language == "sh"]


def _command(arguments: list[str]) -> tuple[Any, list[str]]:
    """Return the verb that the arguments name, and what follows it."""
    found: Any = typer.main.get_command(app)
    while hasattr(found, "commands"):
        assert arguments, "a verb is missing"
        name, *arguments = arguments
        assert name in found.commands, f"no verb '{name}'"
        found = found.commands[name]
    return found, arguments


@pytest.mark.parametrize("page", pages(), ids=_named)
def test_blocks_say_what_they_are(page: Path) -> None:
    for block in blocks(page):
        assert block.language or "proxylesskd " not in block.text, f"{page}:{block.line}: call it sh or text"


@pytest.mark.parametrize("page", pages(), ids=_named)
def test_verbs_options_and_settings_exist(page: Path) -> None:
    calls = [(block, one) for block in _shells() if block.page == page for c in block.commands() for one in words(c)]
    for block, arguments in calls:
        where = f"{page}:{block.line}: {' '.join(arguments)}"
        if arguments[:1] in (["--help"], ["--version"], ["--install-completion"]):
            continue
        verb, rest = _command(list(spread(arguments)))
        try:
            _, left, _ = verb.make_parser(verb.context_class(verb)).parse_args(list(rest))
        except Exception as error:
            pytest.fail(f"{where}: {error}")
        settings = [word for word in rest if SETTING.match(word) and "$" not in word]
        laid_over(Plan() if arguments[0] == "activity" else Recipe(), None, settings)
        assert left == [], where


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("documented") / "world")


@pytest.fixture
def place(world: Path, tmp_path: Path) -> Iterator[Path]:
    folder = copy_of(world, tmp_path / "place")
    yield folder
    if (folder / "served.pid").is_file():
        os.killpg(int((folder / "served.pid").read_text()), signal.SIGTERM)


def _kept(block: Block) -> str:
    return "\n".join(line for line in block.commands() if not line.startswith(tuple(ELSEWHERE)))


def _run(block: Block, folder: Path) -> None:
    if block.language == "sh":
        done = shell(_kept(block), folder)
    else:
        (folder / "snippet.py").write_text(PYTHON + block.text)
        done = shell(f"{sys.executable} snippet.py", folder)
    assert done.returncode == 0, f"{block.page}:{block.line}\n{block.text}\n{done.stdout[-3000:]}"


def _absent(block: Block) -> bool:
    """Say whether a snippet is for a package of others that is not installed."""
    return any(re.search(rf"\b{name}\b", block.text) and not find_spec(name) for name in OTHERS)


def _typed(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.language in ("sh", "python")]


TYPED = [page for page in pages() if _typed(page)]


@pytest.mark.slow
@pytest.mark.parametrize("page", TYPED, ids=_named)
def test_a_page_can_be_typed_from_its_top_to_its_end(page: Path, place: Path) -> None:
    for block in _typed(page):
        if not _absent(block):
            _run(block, place)


def test_what_is_done_elsewhere_is_shown_and_done() -> None:
    lines = [line for block in _shells() for line in block.commands()]
    for start, where in ELSEWHERE.items():
        assert any(line.startswith(start) for line in lines), f"no page shows '{start}'"
        assert (ROOT / where.partition("::")[0]).is_file()


def _scripts() -> dict[str, set[str]]:
    """Return the options that pages give to each script of ``benchmarks/``, and each verb of one."""
    found: dict[str, set[str]] = {}
    for block in _shells():
        for line in block.commands():
            for script, rest in re.findall(r"python (benchmarks/\w+\.py(?: [a-z]+(?=\s))?)([^;&|]*)", line):
                found.setdefault(script, set()).update(re.findall(r"(?<=\s)--[\w-]+", rest))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted(_scripts()))
def test_measuring_scripts_know_their_options(script: str) -> None:
    helped = [sys.executable, *script.split(), "--help"]
    done = subprocess.run(helped, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    unknown = _scripts()[script] - set(re.findall(r"--[\w-]+", done.stdout))
    assert not unknown
