"""Training: recipes, views of frames, the Lightning module and the run folder."""
