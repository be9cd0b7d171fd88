"""Synthetic infrared scenes and targets."""
