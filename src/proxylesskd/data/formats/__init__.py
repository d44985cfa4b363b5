"""How labelled faces lie on disk: one file per format, its reader and its writer side by side."""
