"""Exact counts at every threshold at once, for the curves and HSE."""
