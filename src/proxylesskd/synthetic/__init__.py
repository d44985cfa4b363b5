"""Faces out of nothing: the embedded default source, rendered from a parametric head."""
