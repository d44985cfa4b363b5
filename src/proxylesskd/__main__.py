"""``python -m proxylesskd``."""

from proxylesskd.cli import main

main()
