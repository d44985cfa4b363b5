"""A margin of one's own: hard on faces that the student is sure of, gentle on the others.

proxylesskd distill … method.margin=own_margin:Sure method.m=0.4
"""

from torch import Tensor

from proxylesskd.losses.margin import Margined


class Sure:
    """``φ(c) = c - m (1 + c) / 2``: nothing is taken from a face opposite to its row, ``m`` from one that is on it.

    Any function of the target cosine and the embedding's length will do; PyTorch works out its slope. The engines leave
    everything else of the softmax as it is, whatever the number of identities.
    """

    def __init__(self, m: float) -> None:
        self.m = m

    def __call__(self, cosine: Tensor, _norms: Tensor) -> Margined:
        """Take ``[B]`` cosines with the own rows and ``[B]`` lengths; return what stands in for the cosines."""
        return Margined(cosine - self.m * (1 + cosine) / 2)
