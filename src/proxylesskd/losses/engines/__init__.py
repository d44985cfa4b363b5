"""Engines of the frozen softmax: one result, several ways to reach it, one file each."""
