"""Evaluate models, or predictions on disk, on labelled frames under named protocols. Needs no torch."""
