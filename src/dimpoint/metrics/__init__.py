"""Metrics of detections by named protocols. Needs no torch, except for `dimpoint.metrics.torch`."""
