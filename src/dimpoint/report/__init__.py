"""Figures, pictures and the HTML report of an evaluation. Figures need the `report` extra."""
