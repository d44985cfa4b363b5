from __future__ import annotations

import torch
import torch.nn.functional as F

from proxylesskd.losses.rows import quantise, split
from proxylesskd.methods.logits import cosine_logits


def test_rows_as_they_are_stored() -> None:
    torch.manual_seed(0)
    rows, embeddings = F.normalize(torch.randn(11, 8)), torch.randn(4, 8) * 5
    expected = 16 * (embeddings / embeddings.norm(dim=1, keepdim=True)) @ rows.T
    torch.testing.assert_close(cosine_logits(embeddings, rows, 16.0), expected)
    for stored, right in ((rows.half(), 1e-2), (split(rows), 5e-2), (quantise(rows), 1e-1)):
        torch.testing.assert_close(cosine_logits(embeddings, stored, 16.0), expected, atol=right, rtol=0)
    assert cosine_logits(embeddings.bfloat16(), rows, 16.0).dtype == torch.float32
