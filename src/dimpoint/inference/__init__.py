"""Frames in, detections out: the detector, tiling, decoding and the runtimes."""
