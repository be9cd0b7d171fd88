"""Tracks from video: candidates of a detector, camera motion, resting spots, Kalman filter, results."""
