"""A method of one's own: the student's embedding is drawn to the teacher's, most where it is furthest away.

proxylesskd distill … --teacher teacher.onnx "method.name=proxyless + 0.5*own_method:Angle(power=2)"
"""

import torch.nn.functional as F
from torch import Tensor, nn

from proxylesskd.methods.method import Batch, Seen, needed


def angle_loss(student: Tensor, teacher: Tensor, power: float) -> Tensor:
    """Return the batch's mean of ``(1 - cos(s, t))^power``, both ``[B, D]``."""
    return (1 - F.cosine_similarity(student, teacher)).clamp_min(0).pow(power).mean()


class Angle(nn.Module):
    """What its parameters and buffers are is trained, saved and resumed with the student.

    Options of the formula are arguments with a default; ``dim``, ``teacher_dim``, ``num_identities``, ``classifier``,
    ``margin``, ``scale`` and the other fields of ``proxylesskd.methods.catalogue.Resources`` come by their names.
    """

    needs = frozenset({"teacher_embeddings"})  # what each batch must hold; see proxylesskd.methods.method.NEEDS

    def __init__(self, *, dim: int, teacher_dim: int, power: float = 1.0) -> None:
        super().__init__()
        assert dim == teacher_dim
        self.power = power

    def loss(self, seen: Seen, batch: Batch) -> dict[str, Tensor]:
        """Return the loss, and beside it whatever the log is to show."""
        teacher = needed(batch.teacher_embeddings, "teacher_embeddings")
        return {"loss": angle_loss(seen.embeddings, teacher, self.power)}
