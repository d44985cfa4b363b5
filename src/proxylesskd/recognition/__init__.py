"""Using a model: are these two photos of one person, and who of those enrolled is this."""
