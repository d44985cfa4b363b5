"""Room 6: one file per paper, all behind one Protocol."""
