"""A running `dimpoint label` and small sources for it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import httpx
import numpy as np

SPOTS = [(40.3, 30.6), (150.2, 60.4), (90.5, 120.1)]


def write_frames(folder: Path, count: int, dtype: type = np.uint16) -> Path:
    """Frames of 160 x 200 with three blobs each, 16 bit around 6000 counts."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:160, :200]
    for number in range(count):
        frame = 6000 + 20 * rng.standard_normal((160, 200))
        for px, py in SPOTS:
            frame += 900 * np.exp(-((x - px - number) ** 2 + (y - py) ** 2) / (2 * 1.3**2))
        if dtype is np.uint8:
            frame = (frame - 5800) / 5
        cv2.imwrite(str(folder / f"{number:04d}.png"), np.clip(frame, 0, None).round().astype(dtype))
    return folder


@dataclass
class Running:
    """A server process, its address with the token, and a client that sends the token."""

    process: subprocess.Popen[str]
    address: str
    client: httpx.Client


@contextmanager
def label_server(project: Path, *sources: Path, options: tuple[str, ...] = ()) -> Iterator[Running]:
    """Run `dimpoint label`; the first line that it prints is its address."""
    command = [sys.executable, "-c", "from dimpoint.cli import main; main()", "label", *map(str, sources)]
    process = subprocess.Popen(
        [*command, "--project", str(project), "--no-browser", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    try:
        match = re.fullmatch(r"(http://127\.0\.0\.1:\d+)/\?token=([\w-]+)", address)
        assert match, (
            address,
            process.stderr.read() if process.poll() is not None and process.stderr else "",
        )
        with httpx.Client(base_url=match[1], headers={"X-Token": match[2]}, timeout=60) as client:
            yield Running(process, address, client)
    finally:
        process.terminate()
        process.communicate(timeout=30)
