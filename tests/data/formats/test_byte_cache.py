from __future__ import annotations

import numpy as np

from proxylesskd.data.formats.byte_cache import ByteCache


def test_keeps_what_was_used_last_within_its_bytes() -> None:
    made: list[int] = []

    def get(key: int, size: int = 40) -> None:
        cache.get(key, lambda: made.append(key) or np.zeros(size, np.uint8))  # type: ignore[func-returns-value]

    cache: ByteCache[np.ndarray] = ByteCache(100)
    for key in (1, 2, 1, 3, 1, 2):  # 3 drives 2 out, as 1 was used after it
        get(key)
    assert made == [1, 2, 3, 2]
    assert cache.held == 80
    get(9, 101)
    get(9, 101)
    assert made == [1, 2, 3, 2, 9, 9]
    assert cache.held == 80
