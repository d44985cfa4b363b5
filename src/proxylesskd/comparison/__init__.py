"""Room 9: every method at equal budget, with intervals, in one table."""
