"""ONNX files of a recogniser: one for whole windows, and of a reservoir one that hears a patch at a time."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from proxylesskd.activity.echo import PatchEcho
from proxylesskd.activity.recogniser import Recogniser, load_recogniser
from proxylesskd.errors import UserError
from proxylesskd.export.onnx_file import write_onnx


class OneStep(nn.Module):
    """A reservoir that hears one patch: ``(patch [B, C, p], state [B, R]) -> (logits [B, classes], state [B, R])``.

    The state is all its memory. From zeros, after all patches of a window, the logits are those of the window.
    """

    def __init__(self, model: Recogniser) -> None:
        super().__init__()
        if not isinstance(model.body.network, PatchEcho):
            raise UserError(f"expected a reservoir to stream, found {type(model.body.network).__name__}")
        self.model, self.echo = model, model.body.network

    def forward(self, patch: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is thought after this patch, and the state to go on from."""
        token = self.echo.tokens(self.model.body.standard(patch))[:, 0]
        state = self.echo.reservoir.step(state, token)
        return self.model.read(self.echo.answer(state)), state


def export(run: Path) -> list[Path]:
    """Write ``model.onnx`` into a run folder and, of a reservoir, ``step.onnx``; return the paths."""
    model, told = load_recogniser(run / "model.safetensors")
    windows = torch.randn(2, told["channels"], told["samples"]) * model.body.deviation + model.body.mean
    written = [write_onnx(run / "model.onnx", model, [windows], ["windows"], ["logits"])]
    echo = model.body.network
    if isinstance(echo, PatchEcho):
        given = windows[:, :, : echo.patches.kernel_size[0]].contiguous(), torch.zeros(2, len(echo.reservoir.leak))
        written.append(write_onnx(run / "step.onnx", OneStep(model), given, ["patch", "state"], ["logits", "next"]))
    return written
