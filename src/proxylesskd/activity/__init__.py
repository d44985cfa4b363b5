"""Beyond faces: human activity from body-worn sensors, by the same methods, loop and report."""
