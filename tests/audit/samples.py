"""Suspects written by hand about a source of four identities with five images each."""

from __future__ import annotations

from dataclasses import replace

from proxylesskd.audit.finding import Audit, Finding
from proxylesskd.audit.suspects import Inconsistent, Levels, Merged, Mislabelled, Split, Suspects

LEVELS = Levels(0.15, 0.38, 0.57, (-1.0, -0.5, 0.0, 0.5, 1.0), (0, 1, 4, 15), (0, 3, 16, 1))
NONE = Suspects(20, 4, (), (), (), (), LEVELS)
SUSPECTS = replace(
    NONE,
    mislabelled=(
        Mislabelled(1, "id-000", -0.0512, "id-002", 0.8123, True),
        Mislabelled(7, "id-001", 0.0987, "id-003", 0.3456, False),
    ),
    merged=(Merged("id-003", (3, 2), 0.0444, (15, 16, 17), (18, 19)),),
    split=(Split("id-000", "id-002", 0.9111, 0.7222),),
    inconsistent=(Inconsistent("id-001", 0.0333, (5, 6)),),
)
AUDIT = Audit("abcdef0123456789", (Finding("rows", "passed", "4 rows for 4 identities"),))
