"""Room 1b: what is in a source: counts, colours, alignment, duplicates, broken files, before anything is trained."""
