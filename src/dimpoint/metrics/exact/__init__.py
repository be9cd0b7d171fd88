"""Counts at every threshold at once, exactly: what the curves and HSE stand on."""
