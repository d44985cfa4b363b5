"""Room 10: the run folder as one self-contained page."""
