"""The shapes of the maps inside a teacher, for methods that look at them."""

from __future__ import annotations

import torch

from proxylesskd.models.embedder import Embedder
from proxylesskd.models.maps import recording_maps
from proxylesskd.teaching.live import teacher_that_shows


def teacher_map_shapes(teacher: Embedder) -> tuple[tuple[int, int, int], ...]:
    """Return ``(c, h, w)`` of each map of a teacher, shallow to deep, by running one black image.

    Raises:
        UserError: the teacher is no PyTorch network.
    """
    shown, network = teacher_that_shows(teacher)
    size = shown.preprocessing.size
    image = torch.zeros(1, 3, size, size, dtype=torch.uint8, device=network.device)
    with recording_maps(network.module) as maps:
        network(shown.preprocessing(image))
    return tuple((each.shape[1], each.shape[2], each.shape[3]) for each in maps)
