from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from proxylesskd.errors import UserError
from proxylesskd.models import create_model, memory_format_of, spec_of
from proxylesskd.models.maps import map_shapes
from proxylesskd.models.preprocess import Preprocessing
from proxylesskd.models.projector import WithProjector, make_projector
from proxylesskd.models.registry import ModelSpec
from proxylesskd.models.weights import load_model, read_tensors, save_model
from proxylesskd.teacher import load_teacher


def _model(dim: int = 6) -> WithProjector:
    torch.manual_seed(0)
    model = create_model("mobilefacenet", dim=dim, width=0.125, image_size=32, projector=True)
    assert isinstance(model, WithProjector)
    return model


def test_the_projector_in_numpy() -> None:
    torch.manual_seed(0)
    projector = make_projector(5).double()
    values = torch.randn(7, 5, dtype=torch.float64)
    x = values.numpy()
    for number in (0, 3):
        x = x @ projector[number].weight.detach().numpy().T  # type: ignore[operator, union-attr]
        x = np.maximum((x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5), 0.0)
    x = x @ projector[6].weight.detach().numpy().T + projector[6].bias.detach().numpy()  # type: ignore[operator, union-attr]
    np.testing.assert_allclose(projector(values).detach().numpy(), x, atol=1e-9)


def test_it_is_made_saved_and_loaded_with_the_backbone(tmp_path: Path) -> None:
    model, images = _model().eval(), torch.randn(2, 3, 32, 32)
    assert spec_of(model) == ModelSpec("mobilefacenet", 6, 0.125, 32, projector=True)
    assert memory_format_of(model) is torch.channels_last
    assert len(map_shapes(model, 32)) == len(map_shapes(model.backbone, 32)) > 0
    save_model(tmp_path / "m.safetensors", model, Preprocessing(size=32))
    loaded, _ = load_model(tmp_path / "m.safetensors")
    assert isinstance(loaded, WithProjector)
    torch.testing.assert_close(loaded(images), model(images), rtol=0, atol=0)
    assert load_teacher(tmp_path / "m.safetensors").dim == 6


def test_weights_without_one_do_not_pass_for_one(tmp_path: Path) -> None:
    model = _model()
    model.backbone.spec = spec_of(model)  # type: ignore[assignment]
    save_model(tmp_path / "m.safetensors", model.backbone, Preprocessing(size=32))
    assert not any(name.startswith("projector") for name in read_tensors(tmp_path / "m.safetensors"))
    with pytest.raises(UserError, match=r"image_size=32, projector\), found others"):
        load_model(tmp_path / "m.safetensors")


def test_a_spec_says_yes_or_no() -> None:
    with pytest.raises(UserError, match="projector true or false, found 3"):
        ModelSpec("mobilefacenet", projector=3)  # type: ignore[arg-type]
