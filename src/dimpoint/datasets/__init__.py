"""Data sets: layout, splits, labels, checks and repair."""
