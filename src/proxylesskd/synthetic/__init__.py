"""Faces out of nothing: the embedded default source, rendered from a parametric head."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxylesskd.synthetic.source import SyntheticSource as SyntheticSource
    from proxylesskd.synthetic.synthesize import synthesize as synthesize
