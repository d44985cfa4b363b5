"""Room 7: the training loop: schedule, optimiser, checkpoints, log."""
