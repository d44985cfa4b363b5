"""Room 4: the inherited classifier: one unit row per identity, frozen."""
