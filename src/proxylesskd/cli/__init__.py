"""The command line: one verb per command; each parses, calls a function of the library and prints.

Everything else is imported inside the verbs, so that ``--help`` answers at once.
"""

# The order of these imports is the order of the verbs in --help: that of the path of an image.
# isort: off
from proxylesskd.cli import photos, data, pairs, learn, estimate, evaluate, finish
from proxylesskd.cli import recognise, serve, compare, activity, doctor

# isort: on
from proxylesskd.cli.app import app, main

__all__ = [
    "activity",
    "app",
    "compare",
    "data",
    "doctor",
    "estimate",
    "evaluate",
    "finish",
    "learn",
    "main",
    "pairs",
    "photos",
    "recognise",
    "serve",
]
