"""Room 8: numbers: embeddings, verification, ROC, intervals, both modes."""

from proxylesskd.evaluate.bootstrap import Difference, paired_difference
from proxylesskd.evaluate.evaluation import Evaluation, evaluate
from proxylesskd.evaluate.tables import comparison_table

__all__ = ["Difference", "Evaluation", "comparison_table", "evaluate", "paired_difference"]
