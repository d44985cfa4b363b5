"""TH-KD (Ben-Baruch, Karklinsky, Biton, Ben-Cohen, Lawen, Zamir; arXiv 2201.06945): the teacher's head as a second one.

The student keeps its own head, which is another term of the sum, and its embedding also goes through the teacher's
frozen head, where its guesses are drawn to the teacher's.
"""

from __future__ import annotations

from torch import Tensor, nn

from proxylesskd.methods.kd import kd_loss
from proxylesskd.methods.logits import Heads, require_temperature
from proxylesskd.methods.method import Batch, Seen
from proxylesskd.methods.proxyless import Frozen


class THKD(nn.Module):
    """Guesses through the teacher's head alone; see :func:`proxylesskd.methods.kd.kd_loss`.

    Args:
        classifier: the teacher's rows, ``[C, D]``.
        dim: of the student's embedding, D as well.
        teacher_dim: of the teacher's, D.
        scale: ``s``: logits are ``s cos``, without margin.
        temperature: ``T``, 4 in the released code.
    """

    needs: frozenset[str] = frozenset({"teacher_embeddings"})

    def __init__(
        self, *, classifier: Frozen, dim: int, teacher_dim: int, scale: float = 64.0, temperature: float = 4.0
    ) -> None:
        super().__init__()
        require_temperature(temperature, "thkd")
        self.heads = Heads(
            classifier=classifier,
            dim=dim,
            teacher_dim=teacher_dim,
            scale=scale,
            head="inherited",
            margin=None,
            seed=0,
            what="thkd",
        )
        self.temperature = temperature

    def loss(self, seen: Seen, batch: Batch) -> dict[str, Tensor]:
        """Return ``T² KL`` of the student's guesses from the teacher's; labels are not looked at."""
        student, teacher = self.heads(seen, batch)  # [B, C]
        return {"loss": kd_loss(student, teacher, self.temperature)}
