"""Methods, losses and the loop know neither faces nor activity: they may not even load what does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import proxylesskd

ROOT = Path(proxylesskd.__file__).parent
FREE = ("methods", "training", "losses")
FACES = (
    "audit", "photos", "synthetic", "protocols", "comparison", "export", "report", "evaluation", "estimation", "data",
    "inspection", "models.preprocess", "models.embedder", "models.teacher", "models.registry", "models.iresnet",
    "models.mobilefacenet", "classifier", "recipe", "runs", "cli",
)  # fmt: skip
LOOK = """
import importlib, sys
for name in sys.argv[1].split(","):
    importlib.import_module(name)
print(*sorted(name for name in sys.modules if name.startswith("proxylesskd.")))
"""


def modules_of(room: str) -> list[str]:
    files = sorted((ROOT / room).rglob("*.py"))
    names = [".".join(("proxylesskd", *file.relative_to(ROOT).with_suffix("").parts)) for file in files]
    return [name.removesuffix(".__init__") for name in names if "triton" not in name]


def test_nothing_loads_faces_or_activity() -> None:
    names = ",".join(name for room in FREE for name in modules_of(room))
    loaded = subprocess.run(
        [sys.executable, "-c", LOOK, names], capture_output=True, text=True, check=True
    ).stdout.split()
    assert {f"proxylesskd.{room}" for room in FREE} <= set(loaded)
    for forbidden in (*FACES, "activity"):
        strange = [name for name in loaded if (name + ".").startswith(f"proxylesskd.{forbidden}.")]
        assert not strange, f"they load {strange}"


def test_the_room_is_small() -> None:
    lines = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in (ROOT / "activity").glob("*.py"))
    assert lines < 900
