"""Room 8: numbers: embeddings, verification, ROC, intervals, both modes."""
