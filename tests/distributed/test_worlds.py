"""One recipe on 1, 2 and 4 processes: the same losses, the same student, one writer."""

from __future__ import annotations

import io
import shutil
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from proxylesskd import runs
from proxylesskd.classifier.classifier import InheritedClassifier
from proxylesskd.errors import EndedElsewhere, UserError
from proxylesskd.recipe import load_recipe
from proxylesskd.recipe_fit import share_of_batch
from proxylesskd.training.checkpoint import checkpoint_path, list_checkpoints
from proxylesskd.training.log import read_metrics
from tests.distributed.ring import run_together
from tests.faces import write_faces

STEPS, FEW, IDENTITIES, DIM = 50, 15, 6, 8


def recipe_of(faces: Path, *overrides: str) -> Any:
    common = [
        f"data.train=folder:{faces}", "data.workers=1", "model.name=tests.distributed.ring:student", f"model.dim={DIM}",
        "model.image_size=16", "method.m=0.2", "method.scale=4", f"train.steps={STEPS}", "train.batch=8",
        "train.log_every=1", "train.checkpoint_every=25", "train.learning_rate=0.01",
    ]  # fmt: skip
    return load_recipe(None, [*common, *overrides])


def inherited() -> InheritedClassifier:
    rows = torch.randn(IDENTITIES, DIM, generator=torch.Generator().manual_seed(2))
    rows = torch.nn.functional.normalize(rows, dim=1)
    return InheritedClassifier(rows, [f"id-{i:03d}" for i in range(IDENTITIES)], {"how": "drawn"})


def distil(faces: Path, out: Path, *overrides: str, **settings: Any) -> runs.Run:
    return runs.distill(recipe_of(faces, *overrides), out, classifier=inherited(), audit=False, quiet=True, **settings)


def both_methods(rank: int, world: int, faces: str, place: str) -> None:
    """Distil and train alone; leave what this process has in the end, and what it printed."""
    shown = io.StringIO()
    with redirect_stderr(shown):
        distilled = distil(Path(faces), Path(place) / "distilled")
        recipe = recipe_of(Path(faces), "method.name=alone", "train.accumulate=2", f"train.steps={FEW}")
        alone = runs.train(recipe, Path(place) / "alone")
    assert distilled.folder.joinpath("student.safetensors").exists()  # for every process, when the verb returns
    found = {"distilled": distilled.student.state_dict(), "alone": alone.student.state_dict()}
    found["rows"] = {"rows": alone.classifier.rows}
    found["said"] = {"text": shown.getvalue(), "data": alone.data}
    torch.save(found, Path(place) / f"rank-{rank}.pt")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    faces = write_faces(tmp_path_factory.mktemp("faces"), IDENTITIES, 5)
    (faces / "id-003" / "002.jpg").write_bytes(b"torn")
    found = {}
    found[1] = tmp_path_factory.mktemp("world-1")
    both_methods(0, 1, str(faces), str(found[1]))
    for world in (2, 4):
        found[world] = tmp_path_factory.mktemp(f"world-{world}")
        assert run_together(world, both_methods, str(faces), str(found[world])) == [0] * world
    return found


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize(("run", "steps"), [("distilled", STEPS), ("alone", FEW)])
def test_losses_are_those_of_one_process(places: dict[int, Path], run: str, steps: int, world: int) -> None:
    one, several = (read_metrics(places[w] / run / "metrics.jsonl") for w in (1, world))
    assert [row["step"] for row in several] == list(range(1, steps + 1))
    for name in ("loss", "accuracy", "grad_norm", "lr", "epoch", "skipped"):
        assert [row[name] for row in several] == pytest.approx([row[name] for row in one], rel=1e-5), name
    assert one[0]["loss"] > 1.3 * one[-1]["loss"]  # they learn, so a wrong gradient would show


@pytest.mark.parametrize("world", [2, 4])
def test_every_process_ends_with_the_same_student_and_rows(places: dict[int, Path], world: int) -> None:
    one = torch.load(places[1] / "rank-0.pt")
    several = [torch.load(places[world] / f"rank-{rank}.pt") for rank in range(world)]
    for part in ("distilled", "alone", "rows"):
        for name, value in one[part].items():
            assert all(torch.equal(other[part][name], several[0][part][name]) for other in several), name
            assert torch.allclose(several[0][part][name].double(), value.double(), rtol=1e-3, atol=1e-5), name


def test_one_process_writes_and_speaks(places: dict[int, Path]) -> None:
    files = [
        sorted(str(f.relative_to(p)) for f in p.rglob("*") if f.is_file() and "rank-" not in f.name)
        for p in places.values()
    ]
    assert files[0] == files[1] == files[2]
    said = [torch.load(places[4] / f"rank-{rank}.pt")["said"] for rank in range(4)]
    assert "step 15/15" in said[0]["text"]
    assert [s["text"] for s in said[1:]] == ["", "", ""]
    one = torch.load(places[1] / "rank-0.pt")["said"]["data"]
    assert "1 corrupt in 240 images read, first " in one
    assert {s["data"] for s in said} == {one}  # each process saw a quarter of them


def refuse(rank: int, world: int, faces: str, place: str) -> None:
    """Everybody finds the same mistake; one of them says so."""
    with pytest.raises(UserError) as caught:
        distil(Path(faces), Path(place) / "run", "train.batch=7")
    (Path(place) / f"{rank}-{type(caught.value).__name__}").write_text(str(caught.value))


def test_one_process_speaks_of_what_is_wrong_for_all(places: dict[int, Path], tmp_path: Path) -> None:
    assert run_together(2, refuse, str(places[1].parent / "faces0"), str(tmp_path)) == [0, 0]
    assert sorted(path.name.split("-")[1] for path in tmp_path.glob("*-*")) == ["EndedElsewhere", "UserError"]
    assert all("multiple of the 2 processes" in path.read_text() for path in tmp_path.glob("*-*"))


def occupied(rank: int, world: int, faces: str, place: str) -> None:
    """Only the first process looks into the folder; the others hear of it."""
    with pytest.raises(EndedElsewhere if rank else UserError, match=r"found a run in .*give --resume"):
        distil(Path(faces), Path(place) / "distilled")
    (Path(place) / f"refused-{rank}").touch()


def test_a_folder_with_a_run_is_refused_by_all(places: dict[int, Path]) -> None:
    assert run_together(2, occupied, str(places[1].parent / "faces0"), str(places[1])) == [0, 0]
    assert len(list(places[1].glob("refused-*"))) == 2


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    assert [share_of_batch(12, world) for world in (1, 2, 3)] == [12, 6, 4]
    with pytest.raises(UserError, match=r"multiple of the 4 processes .*found 126; give train\.batch=128"):
        share_of_batch(126, 4)
    with pytest.raises(UserError, match=r"give train\.batch=4,"):
        share_of_batch(1, 4)


def resume_distilling(rank: int, world: int, faces: str, out: str) -> None:
    torch.manual_seed(rank)
    assert distil(Path(faces), Path(out), resume=True).result.resumed_from == 25


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (4, 4)])
def test_resumed_by_another_number_of_processes(
    places: dict[int, Path], tmp_path: Path, before: int, after: int
) -> None:
    whole = places[before] / "distilled"
    shutil.copytree(whole, tmp_path / "run")
    for folder in (whole, tmp_path / "run"):
        assert [step for step, _ in list_checkpoints(folder / "checkpoints")] == [25, 50]
    checkpoint_path(tmp_path / "run" / "checkpoints", 50).unlink()
    faces = places[before].parent / "faces0"
    assert run_together(after, resume_distilling, str(faces), str(tmp_path / "run")) == [0] * after
    one, other = (read_metrics(folder / "metrics.jsonl") for folder in (whole, tmp_path / "run"))
    assert [row["step"] for row in other] == list(range(1, STEPS + 1))
    for name in ("loss", "grad_norm"):
        assert [row[name] for row in other] == pytest.approx([row[name] for row in one], rel=1e-5), name
    if before == after:
        left, right = (load_file(folder / "student.safetensors") for folder in (whole, tmp_path / "run"))
        assert left.keys() == right.keys()
        assert all(torch.equal(left[name], right[name]) for name in left)
