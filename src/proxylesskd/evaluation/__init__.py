"""Room 8: numbers: embeddings, verification, ROC, intervals, both modes."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from proxylesskd.evaluation.bootstrap import Difference, paired_difference
    from proxylesskd.evaluation.evaluation import Evaluation, evaluate
    from proxylesskd.evaluation.tables import comparison_table

# Imported when first touched: rates and calibrations are read where PyTorch is not wanted.
_HOME_OF = {
    "Difference": "bootstrap",
    "Evaluation": "evaluation",
    "comparison_table": "tables",
    "evaluate": "evaluation",
    "paired_difference": "bootstrap",
}

__all__ = ["Difference", "Evaluation", "comparison_table", "evaluate", "paired_difference"]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'proxylesskd.evaluation' has no attribute '{name}'")
    return getattr(import_module(f"proxylesskd.evaluation.{_HOME_OF[name]}"), name)
