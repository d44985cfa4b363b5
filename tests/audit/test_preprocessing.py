from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import Tensor

from proxylesskd.audit.finding import Finding
from proxylesskd.audit.preprocessing import check_preprocessing, embed_under, leave_one_out, sharply, variants
from proxylesskd.errors import UserError
from proxylesskd.models.preprocess import Preprocessing
from proxylesskd.teacher import Teacher
from tests.audit.worlds import unit

PEOPLE, IMAGES = 30, 4
LABELS = torch.arange(PEOPLE).repeat_interleave(IMAGES)


def pictures(seed: int = 0) -> Tensor:
    """[n, 3, 7, 7]: red shows who it is, blue only which image, green nothing."""
    random = np.random.default_rng(seed)
    red = random.uniform(30, 225, (PEOPLE, 1, 7, 7)) + random.normal(0, 12, (PEOPLE, IMAGES, 7, 7))
    blue = random.uniform(30, 225, (PEOPLE, IMAGES, 7, 7))
    planes = np.stack([red, np.full_like(red, 128), blue], axis=2)
    return torch.from_numpy(np.clip(planes, 0, 255).astype(np.uint8)).flatten(0, 1)


def reads_red(pixels: Tensor) -> Tensor:
    """A network trained on -1 to 1, RGB: what is far outside saturates."""
    return torch.tanh(2 * pixels[:, 0]).flatten(1)


def tolerant(pixels: Tensor) -> Tensor:
    """A network that neither colour order nor scaling disturbs."""
    grey = pixels.sum(dim=1).flatten(1)
    return grey - grey.mean(dim=1, keepdim=True)


def overflowing(pixels: Tensor) -> Tensor:
    """One that answers with infinities when fed 0 to 255."""
    return torch.where(pixels.abs().amax() > 2, torch.inf, reads_red(pixels))


def teacher(network: object = reads_red, **options: object) -> Teacher:
    return Teacher(network, Preprocessing(size=7, **options), 49, "fake", "fake")  # type: ignore[arg-type]


def rows_under(**options: object) -> Tensor:
    """Rows estimated from other images of the same people, by hand."""
    embeddings = teacher(**options).embed(pictures()).numpy()
    centres = [embeddings[number * IMAGES : (number + 1) * IMAGES].sum(axis=0) for number in range(PEOPLE)]
    return torch.from_numpy(unit(np.stack(centres).astype(np.float64))).float()


def judge(fed: Teacher, rows: Tensor | None = None) -> Finding:
    found = check_preprocessing(embed_under(fed), fed.preprocessing, pictures(), LABELS, rows)
    json.dumps(dict(found.details))
    return found


@pytest.mark.parametrize(
    ("wrong", "options"),
    [
        ({"order": "bgr"}, "order=rgb"),
        ({"mean": 0.0, "std": 1.0}, "mean=127.5,std=127.5"),
        ({"order": "bgr", "mean": 0.0, "std": 1.0}, "order=rgb,mean=127.5,std=127.5"),
    ],
)
def test_a_wrong_preprocessing_is_named_by_the_teachers_own_rows(wrong: dict[str, object], options: str) -> None:
    found = judge(teacher(**wrong), rows_under())
    assert found.level == "failed"
    assert f"under {options} (through the rows, 120 images); give the teacher as PATH:{options}" in found.message
    assert found.details["options"] == options


@pytest.mark.parametrize("wrong", [{"order": "bgr"}, {"mean": 0.0, "std": 1.0}])
def test_rows_estimated_under_the_same_wrong_preprocessing_do_not_hide_it(wrong: dict[str, object]) -> None:
    for rows in (rows_under(**wrong), None):
        found = judge(teacher(**wrong), rows)
        assert found.level == "failed"
        assert "with class centres made under it" in found.message
        assert "inherit the rows anew" in found.message


def test_what_is_right_passes_and_so_does_a_tolerant_teacher() -> None:
    assert judge(teacher(), rows_under()).level == "passed"
    found = judge(teacher(tolerant, order="bgr", mean=0.0, std=255.0))
    assert found.level == "passed"
    assert [trial["options"] for trial in found.details["tried"]] == [
        "present", "order=rgb", "mean=127.5,std=127.5", "mean=127.5,std=128", "mean=0,std=1", "mean=127,std=128",
    ]  # fmt: skip


def test_a_network_that_overflows_under_another_preprocessing_is_no_accident() -> None:
    found = judge(teacher(overflowing), rows_under())
    assert found.level == "passed"
    assert {"options": "mean=0,std=1", "through_rows": 0.0, "centres": 0.0} in found.details["tried"]


def test_equal_embeddings_recognise_nobody() -> None:
    same = torch.nn.functional.normalize(torch.ones(12, 49)).expand(12, 49)
    assert leave_one_out(same, torch.arange(4).repeat(3)) == 0.0


def test_a_network_that_overflows_under_the_present_one_is_an_error() -> None:
    with pytest.raises(UserError, match="finite embeddings"):
        judge(teacher(overflowing, mean=0.0, std=1.0))


def test_leave_one_out_against_loops() -> None:
    random = np.random.default_rng(3)
    labels = np.array([5, 9, 5, 2, 2, 9, 9, 5, 2, 2])
    embeddings = unit(random.standard_normal((10, 3)))
    hits = []
    for image in range(10):
        cosines = {}
        for label in (2, 5, 9):
            others = embeddings[(labels == label) & (np.arange(10) != image)]
            cosines[label] = float(embeddings[image] @ unit(others.sum(axis=0)))
        hits.append(max(cosines, key=cosines.__getitem__) == labels[image])
    found = leave_one_out(torch.from_numpy(embeddings).float(), torch.from_numpy(labels))
    assert found == pytest.approx(np.mean(hits))


def test_a_gain_must_be_large_and_outside_the_noise() -> None:
    assert sharply(0.5, 0.75, 400)
    assert not sharply(0.5, 0.6, 400)  # 2.8 standard errors
    assert not sharply(0.80, 0.88, 10000)  # only eight points


def test_too_few_images_are_said_and_the_present_is_no_variant() -> None:
    present = Preprocessing(mean=127.0, std=128.0)
    assert present not in variants(present)
    found = check_preprocessing(embed_under(teacher()), present, pictures()[:8], LABELS[:8])
    assert found.level == "passed"
    assert "not tried" in found.message
