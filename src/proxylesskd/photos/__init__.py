"""Room 1a: photos to aligned faces: detect, find five landmarks, bring them to the template."""
