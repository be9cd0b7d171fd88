"""Pretraining of a foundation encoder on unlabelled frames."""
