"""Change the code a little, and count how often its own tests notice.

    pip install cosmic-ray==8.7.0
    python benchmarks/mutants.py --rooms losses evaluation --each 12 --seed 0 --out runs/mutants

Of each module ``--each`` mutants are drawn with the seed from all that Cosmic Ray's operators make of it: other
numbers, operators, comparisons, conditions, loops, decorators, exceptions. Texts stay as they are, and so do
annotations, which are never computed. A mutant is killed when a test of the module fails (those of its name, and of its
room where they import it; all of its room where there are none), or takes five times as long as without it. What
survives is written as a diff, to be looked at.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "proxylesskd"
# What draws pictures, and what only Triton's interpreter could run here: minutes for a mutant.
LEFT_OUT = ("plots", "triton", "triton_kernels", "triton_plan", "__init__")
KILLED, SURVIVED, SLOW = "killed", "survived", "timed out"
# Variables at other places are guesses about names, not faults that a programmer makes.
_ORDERS = re.compile(r"Operator_(Eq|NotEq)_(Lt|LtE|Gt|GtE|Is|IsNot)$")
NOT_USED = ("core/VariableReplacer", "core/VariableInserter")


@dataclass(frozen=True)
class Mutant:
    """One change of one module."""

    module: Path
    operator: str
    occurrence: int
    code: str


def mutants(module: Path) -> list[Mutant]:
    """Return all changes of a module that change what it computes."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    text, found = module.read_text(), list[Mutant]()
    seen = {_meaning(text)}
    for name in (name for name in operator_names() if name not in NOT_USED):
        operator = get_operator(name)()
        places = sum(len(list(operator.mutation_positions(node))) for node in ast_nodes(get_ast(text)))
        for occurrence in range(places):
            code = mutate_code(text, operator, occurrence)
            if code is None or (_ORDERS.search(name) and _compares_text(text, code)):
                continue
            if (meaning := _meaning(code)) not in seen:
                seen.add(meaning)
                found.append(Mutant(module, name, occurrence, code))
    return found


def _compares_text(before: str, after: str) -> bool:
    """Say whether the line that differs compares with a text: which name comes first is nobody's mistake."""
    changed = [new for old, new in zip(before.splitlines(), after.splitlines(), strict=False) if old != new]
    return any('"' in line for line in changed)


def _meaning(text: str) -> str:
    """Return the module's tree without annotations; empty where it is no Python."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return ""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.AnnAssign):
            node.annotation = ast.Constant(None) if isinstance(node, ast.AnnAssign) else None
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        # `X = A | B` of types and `if TYPE_CHECKING:` are annotations by another name
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.test, node.body = ast.Constant(False), [ast.Pass()]
    return ast.dump(tree)


def tests_of(module: Path) -> list[str]:
    """Return the test files of a module: that of its name first, then those of its room that import it."""
    room = ROOT / "tests" / module.relative_to(PACKAGE).parts[0]
    named = sorted(room.rglob(f"test_{module.stem}.py"))
    dotted = "proxylesskd." + ".".join(module.relative_to(PACKAGE).with_suffix("").parts)
    others = [file for file in sorted(room.rglob("test_*.py")) if dotted in file.read_text() and file not in named]
    return [str(file) for file in (*named, *others)] or [str(room)]


def fails(tests: Sequence[str], limit: float) -> str:
    """Run tests in a process of their own, as the code now is; return what became of the mutant."""
    began, child = time.monotonic(), os.fork()
    if child == 0:
        _run(tests)
    while time.monotonic() - began < limit:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return SURVIVED if status == 0 else KILLED
        time.sleep(0.02)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return SLOW


def _run(tests: Sequence[str]) -> None:
    """End this process with 0 if all tests pass."""
    import pytest

    os.setpgid(0, 0)
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(silence, stream)
    code = 1
    with suppress(BaseException):
        code = int(pytest.main(["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", *tests]))
    os._exit(0 if code == 0 else 1)


def put(code: str, module: Path, copy: Path) -> None:
    """Write a module's code into the copy of the package that the tests import."""
    (copy / module.relative_to(PACKAGE.parent)).write_text(code)


def wilson(share: float, count: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share of so many."""
    if not count:
        return 0.0, 1.0
    z = 1.959964
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return middle - half, middle + half


def row(name: str, told: Sequence[str], whole: int) -> str:
    """Return a line of the table."""
    count, killed = len(told), sum(one != SURVIVED for one in told)
    low, high = wilson(killed / max(count, 1), count)
    share = f"{100 * killed / max(count, 1):.0f} % [{100 * low:.0f}, {100 * high:.0f}]"
    return f"| {name} | {whole} | {count} | {killed} | {count - killed} | {told.count(SLOW)} | {share} |"


def take(module: Path, copy: Path, each: int, seed: int, out: Path) -> tuple[list[str], int]:
    """Try some mutants of a module; return what became of each, and how many there could be."""
    tests = tests_of(module)
    began = time.monotonic()
    if fails(tests, 600) != SURVIVED:
        raise SystemExit(f"expected tests of {module} that pass, found failures: {' '.join(tests)}")
    limit = 5 * (time.monotonic() - began) + 5
    every = mutants(module)
    drawn = random.Random(f"{seed} {module.stem}").sample(every, min(each, len(every)))
    told = []
    for mutant in drawn:
        put(mutant.code, module, copy)
        told.append(fails(tests, limit))
        if told[-1] == SURVIVED:
            keep(mutant, out)
    put(module.read_text(), module, copy)
    return told, len(every)


def keep(mutant: Mutant, out: Path) -> None:
    """Write a survivor down."""
    where = str(mutant.module.relative_to(ROOT))
    lines = difflib.unified_diff(
        mutant.module.read_text().splitlines(), mutant.code.splitlines(), where, where, lineterm="", n=2
    )
    with (out / "survivors.diff").open("a", encoding="utf-8") as file:
        file.write(f"# {mutant.operator} {mutant.occurrence}\n" + "\n".join(lines) + "\n\n")


def modules(rooms: Sequence[str], only: Sequence[str]) -> Iterator[Path]:
    """Yield the files of rooms."""
    for room in rooms:
        for file in sorted((PACKAGE / room).rglob("*.py")):
            if file.stem not in LEFT_OUT and (not only or file.stem in only):
                yield file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rooms", nargs="+", default=["losses", "evaluation"])
    parser.add_argument("--modules", nargs="*", default=[], help="only these, by their names")
    parser.add_argument("--each", type=int, default=12, help="mutants of a module")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/mutants"))
    args = parser.parse_args()
    os.chdir(ROOT)
    copy = Path(tempfile.mkdtemp(prefix="mutants-"))
    shutil.copytree(PACKAGE, copy / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    # No bytecode: two mutants of one second and size would be taken for one. Processes that tests start see it, too.
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    sys.path.insert(0, str(copy))
    sys.dont_write_bytecode = True
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "survivors.diff").unlink(missing_ok=True)
    import scipy.stats  # noqa: F401  # with pytest and torch, what takes longest to import: once, before the forks
    import torch

    torch.set_num_threads(1)
    print("| module | possible | drawn | killed | survived | timed out | killed, 95 % interval |")
    print("|---|---|---|---|---|---|---|")
    every: list[str] = []
    for module in modules(args.rooms, args.modules):
        told, whole = take(module, copy, args.each, args.seed, args.out)
        every += told
        print(row(f"{module.relative_to(PACKAGE)}", told, whole), flush=True)
    print(row("all", every, 0).replace("| 0 |", "| |", 1))


if __name__ == "__main__":
    main()
