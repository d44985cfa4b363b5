from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from proxylesskd.errors import UserError
from proxylesskd.models import create_model
from proxylesskd.models.preprocess import Preprocessing
from proxylesskd.models.weights import save_model
from proxylesskd.teacher import Teacher, as_embedder, load_teacher, teacher_of
from tests.faces import ColourEmbedder
from tests.models.graphs import images, unit


def _student(seed: int = 0, **options: Any) -> nn.Module:
    torch.manual_seed(seed)
    return create_model("mobilefacenet", **{"dim": 8, "width": 0.125, "image_size": 32, **options})


def _faces(count: int, size: int = 32) -> Tensor:
    return torch.from_numpy(images(count, size=size))


class _Recorder:
    """A network of two features that remembers the batches it saw."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, pixels: Tensor) -> Tensor:
        self.batches.append(len(pixels))
        return torch.stack([pixels.mean((1, 2, 3)), pixels.std((1, 2, 3))], dim=1)


def _expected(faces: Tensor, prepare: Preprocessing) -> np.ndarray:
    pixels = (faces.numpy().astype(np.float64) - prepare.mean) / prepare.std
    return unit(np.stack([pixels.mean((1, 2, 3)), pixels.std((1, 2, 3), ddof=1)], axis=1))


@pytest.mark.parametrize(
    ("options", "batches"), [({"chunk": 4}, [4, 4, 1]), ({"chunk": 100}, [9]), ({"batch": 2}, [2] * 5)]
)
def test_any_number_of_images_in_chunks(options: dict, batches: list[int]) -> None:
    network, prepare = _Recorder(), Preprocessing(size=8, mean=127, std=128)
    teacher = Teacher(network, prepare, 2, "t", "f", **options)
    faces = _faces(9, size=8)
    found = teacher.embed(faces)
    assert network.batches == batches
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), _expected(faces, prepare), atol=1e-5)


def test_the_default_chunk_fits_the_device() -> None:
    network = _Recorder()
    Teacher(network, Preprocessing(size=8), 2, "t", "f").embed(_faces(40, size=8))
    assert max(network.batches) < 40


def test_no_images_give_no_embeddings() -> None:
    teacher = Teacher(_Recorder(), Preprocessing(size=8), 2, "t", "f")
    assert teacher.embed(_faces(0, size=8)).shape == (0, 2)


@pytest.mark.parametrize(
    "wrong",
    [torch.zeros(2, 3, 8, 8), torch.zeros(3, 8, 8, dtype=torch.uint8), torch.zeros(2, 1, 8, 8, dtype=torch.uint8)],
)
def test_other_images_are_refused(wrong: Tensor) -> None:
    teacher = Teacher(_Recorder(), Preprocessing(size=8), 2, "t", "f")
    with pytest.raises(UserError, match=r"expected faces \[B, 3, H, W\] uint8, found"):
        teacher.embed(wrong)


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_broken_embeddings_are_refused(value: float) -> None:
    teacher = Teacher(lambda x: torch.full((len(x), 2), value), Preprocessing(size=8), 2, "broken", "f")
    with pytest.raises(UserError, match="finite embeddings from 'broken'"):
        teacher.embed(_faces(2, size=8))


def test_embeddings_can_be_targets_of_a_loss() -> None:
    teacher = teacher_of(_student(), Preprocessing(size=32))
    targets = teacher.embed(_faces(2))
    weight = torch.ones(8, requires_grad=True)
    (targets * weight).sum().backward()  # embeddings of inference mode would refuse
    torch.testing.assert_close(weight.grad, targets.sum(0))


def test_a_module_as_embedder_equals_the_module() -> None:
    module = _student().train()
    embedder = as_embedder(module)
    faces = _faces(5)
    found = embedder.embed(faces)
    assert module.training
    assert (embedder.dim, embedder.name) == (8, "mobilefacenet")
    with torch.no_grad():
        raw = module.eval()((faces.float() - 127.5) / 127.5).numpy()
    np.testing.assert_allclose(found.numpy(), unit(raw), atol=1e-5)


def test_a_module_without_spec_takes_the_default_size() -> None:
    module = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 6))
    embedder = as_embedder(module)
    assert (embedder.dim, embedder.name) == (6, "Sequential")
    assert isinstance(embedder, Teacher)
    assert "size 112 (assumed)" in embedder.describe()


def test_an_embedder_stays_itself_and_others_are_refused() -> None:
    embedder = ColourEmbedder()
    assert as_embedder(embedder) is embedder
    with pytest.raises(UserError, match="expected an embedder, a torch module or a path, found int"):
        as_embedder(3)


@pytest.mark.parametrize("name", ["model.safetensors", "student.safetensors"])
def test_a_run_folder_and_its_file_are_the_same_teacher(tmp_path: Path, name: str) -> None:
    module, prepare = _student(), Preprocessing(size=32, mean=100.0, std=50.0, order="bgr")
    save_model(tmp_path / name, module, prepare)
    by_folder, by_file = load_teacher(tmp_path), as_embedder(str(tmp_path / name))
    assert by_folder.fingerprint == by_file.fingerprint
    assert by_folder.name == by_file.name == tmp_path.name
    assert by_folder.preprocessing == prepare
    assert "mean 100 (from the file)" in by_folder.describe()
    faces = _faces(3)
    with torch.no_grad():
        raw = module.eval()((faces.flip(1).float() - 100) / 50).numpy()
    np.testing.assert_allclose(by_folder.embed(faces).numpy(), unit(raw), atol=1e-5)


def test_a_run_folders_student_comes_first(tmp_path: Path) -> None:
    save_model(tmp_path / "student.safetensors", _student(dim=4), Preprocessing(size=32))
    save_model(tmp_path / "model.safetensors", _student(dim=8), Preprocessing(size=32))
    assert load_teacher(tmp_path).dim == 4


def test_a_loaded_teacher_is_frozen(tmp_path: Path) -> None:
    save_model(tmp_path / "model.safetensors", _student(), Preprocessing(size=32))
    network = load_teacher(tmp_path).network
    assert not any(p.requires_grad for p in network.module.parameters())
    assert not isinstance(load_teacher(tmp_path), nn.Module)


def test_options_override_the_file(tmp_path: Path) -> None:
    save_model(tmp_path / "t.safetensors", _student(), Preprocessing(size=32))
    plain, turned = load_teacher(tmp_path / "t.safetensors"), load_teacher(tmp_path / "t.safetensors", order="bgr")
    faces = _faces(2)
    torch.testing.assert_close(turned.embed(faces), plain.embed(faces.flip(1)))
    assert plain.fingerprint != turned.fingerprint
    assert "order bgr (given)" in turned.describe()


def test_a_size_that_the_network_cannot_take(tmp_path: Path) -> None:
    save_model(tmp_path / "t.safetensors", _student(), Preprocessing(size=32))
    with pytest.raises(UserError, match="images of 16x16"):
        load_teacher(tmp_path / "t.safetensors", size=16)


def test_a_foreign_checkpoint_with_its_architecture(tmp_path: Path) -> None:
    torch.manual_seed(0)
    published = create_model("iresnet18", dim=24, width=0.125, image_size=32)
    torch.save({"state_dict": {f"module.{k}": v for k, v in published.state_dict().items()}}, tmp_path / "c.pth")
    state = torch.random.get_rng_state()
    teacher = load_teacher(tmp_path / "c.pth", architecture="iresnet18", width=0.125, size=32)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert teacher.dim == 24  # read from the checkpoint
    torch.testing.assert_close(teacher.embed(_faces(2)), as_embedder(published).embed(_faces(2)), rtol=1e-4, atol=1e-5)
    assert "mean 127.5 (assumed)" in teacher.describe()
    with pytest.raises(UserError, match="name it, such as architecture='iresnet50'"):
        load_teacher(tmp_path / "c.pth")
    with pytest.raises(UserError, match="expected weights of iresnet34"):
        load_teacher(tmp_path / "c.pth", architecture="iresnet34", width=0.125, size=32)


def test_a_checkpoint_that_does_not_show_its_dimension_is_taken_as_512(tmp_path: Path) -> None:
    torch.save(_student(dim=512).state_dict(), tmp_path / "c.pt")
    assert load_teacher(tmp_path / "c.pt", architecture="mobilefacenet", width=0.125, size=32).dim == 512


def test_another_dimension_than_asked_for(tmp_path: Path) -> None:
    save_model(tmp_path / "t.safetensors", _student(), Preprocessing(size=32))
    with pytest.raises(UserError, match=r"expected embeddings of dim=512 .*found 8"):
        load_teacher(tmp_path / "t.safetensors", dim=512)


def test_nothing_there_and_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found nothing at"):
        load_teacher(tmp_path / "absent.onnx")
    with pytest.raises(UserError, match=r"expected student.safetensors or model.safetensors in the run folder"):
        load_teacher(tmp_path)
