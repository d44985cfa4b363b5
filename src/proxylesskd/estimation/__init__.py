"""What a training will need, before anything is launched: memory by part, time per step, and which engine."""
