"""Experiments of several runs: train each, evaluate all on the same frames, and compare."""
