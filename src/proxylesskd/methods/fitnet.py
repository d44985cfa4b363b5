"""FitNets (Romero, Ballas, Kahou, Chassang, Gatta, Bengio; ICLR 2015, arXiv 1412.6550): hints from within the teacher.

What the face literature calls FitNet is often the distance of raw embeddings; that is ``l2(normalised=false)``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from proxylesskd.errors import UserError
from proxylesskd.methods.at import Shapes, require_maps, teacher_maps
from proxylesskd.methods.method import Batch, Seen
from proxylesskd.models.maps import resized

# In a sum with the classification loss (mdistiller's value for CIFAR-100).
WEIGHT = 100.0


def fitnet_loss(student: Tensor, teacher: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return the mean squared difference of ``r(s)`` and the hint, ``r`` a 1x1 convolution (Eq. 2 up to a factor).

    Args:
        student: ``[B, c, h, w]`` floating point.
        teacher: ``[B, c', h', w']``, resized to ``(h, w)`` by adaptive average pooling.
        weight: ``[c', c, 1, 1]`` of the regressor.
        bias: ``[c']`` of the regressor.

    Returns:
        A scalar; the mean is over batch, channels and places.
    """
    guess = nn.functional.conv2d(student, weight, bias)
    return (guess - resized(teacher, (student.shape[2], student.shape[3]))).square().mean()


class FitNet(nn.Module):
    """One map of the teacher, guessed from the student's map of the same rank.

    Args:
        student_shapes: ``(c, h, w)`` of the student's maps, shallow to deep.
        teacher_shapes: of the teacher's.
        seed: of the regressor's first values.
        stage: which map, counted from the deepest, which is 1; 2 is the middle of what usual networks share.

    Attributes:
        regressor: 1x1 convolution from the student's channels to the teacher's, dropped after training.
    """

    needs: frozenset[str] = frozenset({"teacher_maps", "student_maps"})

    def __init__(self, *, student_shapes: Shapes, teacher_shapes: Shapes, seed: int = 0, stage: int = 2) -> None:
        super().__init__()
        require_maps(student_shapes, teacher_shapes, "fitnet")
        shared = min(len(student_shapes), len(teacher_shapes))
        if not 1 <= stage <= shared:
            raise UserError(f"expected stage in 1..{shared} of fitnet, counted from the deepest map, found {stage}")
        self.stage = stage
        inputs, outputs = student_shapes[-stage][0], teacher_shapes[-stage][0]
        self.regressor = nn.Conv2d(inputs, outputs, 1)
        start_uniformly(self.regressor, inputs, torch.Generator().manual_seed(seed))

    def loss(self, seen: Seen, batch: Batch) -> dict[str, Tensor]:
        """Return the distance to the hint; labels are not looked at."""
        bias = self.regressor.bias
        assert bias is not None
        teacher = teacher_maps(batch)[-self.stage]
        return {"loss": fitnet_loss(seen.maps[-self.stage], teacher, self.regressor.weight, bias)}


def start_uniformly(layer: nn.Conv2d | nn.Linear, inputs: int, generator: torch.Generator) -> None:
    """Give weight and bias PyTorch's usual first values, ``U(-1/√inputs, 1/√inputs)``, from one's own generator."""
    bound = 1.0 / math.sqrt(inputs)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator) * 2 * bound - bound)
