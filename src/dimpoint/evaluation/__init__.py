"""Evaluate models, or predictions on disk, on labelled frames under named protocols. No torch."""
