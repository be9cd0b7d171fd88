"""Run a model over data sets, or read anybody's predictions, and count under named protocols. No torch."""
