from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from proxylesskd.activity.plan import NetworkPlan
from proxylesskd.activity.recogniser import Recogniser, load_recogniser, make_network, save_recogniser
from proxylesskd.errors import UserError
from proxylesskd.models.standardised import Standardised

SMALL = NetworkPlan(patch=4, stride=2, token=3, size=12, dim=6, layers=1, width=0.1)


def built(
    name: str, apart: bool = False, embeds: bool = False, compand: bool = False
) -> tuple[Recogniser, NetworkPlan, dict[str, object]]:
    plan, out = replace(SMALL, name=name, compand=compand), 6 if embeds else 3
    network = make_network(plan, 2, 20, out, apart=apart, seed=1)
    body = Standardised(
        network, torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]), torch.tensor([0.1, 0.2]) if compand else None
    )
    rows = torch.nn.functional.normalize(torch.randn(3, 6), dim=1) if embeds else None
    told = {"channels": 2, "samples": 20, "out": out, "apart": apart, "activities": ["a", "b", "c"], "rate": 50.0}
    return Recogniser(body, 3, rows, 5.0).eval(), plan, told


@pytest.mark.parametrize(
    ("name", "apart", "embeds", "compand"),
    [
        ("echo", True, False, False),
        ("echo", False, True, True),
        ("mixer", False, True, False),
        ("conv-lstm", False, False, True),
    ],
)
def test_what_was_saved_says_the_same(tmp_path: Path, name: str, apart: bool, embeds: bool, compand: bool) -> None:
    model, plan, told = built(name, apart, embeds, compand)
    save_recogniser(tmp_path / "m.safetensors", model, plan, told)
    random = torch.get_rng_state()
    again, said = load_recogniser(tmp_path / "m.safetensors")
    assert torch.equal(random, torch.get_rng_state())
    windows = torch.randn(4, 2, 20)
    assert torch.equal(model(windows), again(windows))
    assert said["activities"] == ["a", "b", "c"]
    assert not again.training


def test_heads_apart_are_averaged_and_embeddings_meet_rows() -> None:
    windows = torch.randn(4, 2, 20)
    model, _, _ = built("echo", apart=True)
    first, second = model.body(windows).split(3, dim=1)
    assert torch.allclose(model(windows), (first + second) / 2)
    model, _, _ = built("mixer", embeds=True)
    said = model.body(windows)
    for one, logits in zip(said.detach(), model(windows).detach(), strict=True):
        for row, logit in zip(model.rows, logits, strict=True):  # type: ignore[arg-type]
            assert float(logit) == pytest.approx(5 * float(one @ row) / float(one.norm()), abs=1e-5)


def header(path: Path, **changed: object) -> None:
    """Write the file again with another header."""
    model, plan, told = built("echo", apart=True)
    save_recogniser(path, model, plan, told)
    known = {"model": {**plan.__dict__}, "scale": 1.0, **told}
    for key, value in changed.items():
        target = known["model"] if key in known["model"] else known  # type: ignore[operator]
        target[key] = value  # type: ignore[index]
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, path, {"proxylesskd.activity": json.dumps(known)})


@pytest.mark.parametrize(
    "changed",
    [
        {"size": 16384},
        {"size": 10**9},
        {"channels": 5},
        {"name": "eco"},
        {"channels": "x"},
        {"activities": None},
        {"layers": -1},
    ],
)
def test_a_made_up_header_is_refused(tmp_path: Path, changed: dict[str, object]) -> None:
    path = tmp_path / "m.safetensors"
    header(path, **changed)
    with pytest.raises(UserError, match="expected"):
        load_recogniser(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"nothing")
    save_file({"x": torch.zeros(2)}, tmp_path / "b")
    for name in ("a", "b", "c"):
        with pytest.raises(UserError, match="expected"):
            load_recogniser(tmp_path / name)
    with pytest.raises(UserError, match="patch within 3 samples"):
        make_network(SMALL, 2, 3, 3)
