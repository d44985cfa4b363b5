"""Room 8: numbers: embeddings, verification, ROC, intervals, both modes."""

from proxylesskd.evaluation.bootstrap import Difference, paired_difference
from proxylesskd.evaluation.evaluation import Evaluation, evaluate
from proxylesskd.evaluation.tables import comparison_table

__all__ = ["Difference", "Evaluation", "comparison_table", "evaluate", "paired_difference"]
