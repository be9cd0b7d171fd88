"""Made sequences with known targets, and a finder that needs no network."""

from __future__ import annotations

import cv2
import numpy as np

from dimpoint.inference.detections import Detections


def background(seed: int, height: int = 160, width: int = 200) -> np.ndarray:
    """Clouds and edges of about 60 counts, with structure that corners are found in."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((height, width)).astype(np.float32)
    clouds = cv2.GaussianBlur(noise, (0, 0), 12) * 12 * 12 + cv2.GaussianBlur(noise, (0, 0), 3) * 3 * 6
    return 60 + clouds


def frame_of(
    scene: np.ndarray, spots: list[tuple[float, float]], noise: float, seed: int, height: float = 120
) -> np.ndarray:
    """A scene with spots of `height` counts and sigma 1.2 pixels, and white noise; uint8."""
    y, x = np.mgrid[: scene.shape[0], : scene.shape[1]]
    frame = scene.copy()
    for at_x, at_y in spots:
        frame += height * np.exp(-((x - at_x) ** 2 + (y - at_y) ** 2) / (2 * 1.2**2))
    frame += np.random.default_rng(seed).normal(0, noise, frame.shape)
    return frame.clip(0, 255).astype(np.uint8)


def bright_spots(frame: np.ndarray) -> Detections:
    """Local maxima far above their surroundings, at their centroid; score 0.9."""
    above = frame.astype(np.float32) - cv2.medianBlur(frame, 11)
    count, _, _, centres = cv2.connectedComponentsWithStats((above > 45).astype(np.uint8), connectivity=8)
    xy = centres[1:count].astype(np.float32)
    return Detections(xy, np.full(len(xy), 0.9, np.float32))


def detections(*points: tuple[float, float], score: float = 0.9) -> Detections:
    """Candidates at given places."""
    xy = np.array(points, np.float32).reshape(-1, 2)
    return Detections(xy, np.full(len(xy), score, np.float32))


Scene = list[dict[int, tuple[float, float]]]
SEEDS = (0, 1, 2, 3)
DISTANCE = 4.0


def crossing(seed: int) -> tuple[Scene, Scene]:
    """Three objects that cross, and tracks of them with noise, gaps, switches and false points."""
    rng = np.random.default_rng(seed)
    truth, tracks = [], []
    for n in range(60):
        real = {1: (10.0 + n, 20.0 + 0.5 * n), 2: (70.0 - n, 20.0 + 0.5 * n), 3: (40.0, 80.0 - n)}
        if n < 10:
            del real[3]
        found = {}
        for one, (x, y) in real.items():
            if rng.random() < 0.85:
                name = one if n < 30 or one == 3 else one + 10 * (seed % 2)
                found[name] = (x + rng.normal(0, 1.2), y + rng.normal(0, 1.2))
        if rng.random() < 0.3:
            found[99] = (rng.uniform(0, 80), rng.uniform(0, 80))
        truth.append(real)
        tracks.append(found)
    return truth, tracks
