"""Studies of several training runs: train each, evaluate all on the same frames, and compare."""
