"""Metrics of detections: counts, and ratios computed from them, by named protocols. No torch."""
