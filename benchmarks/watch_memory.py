"""Memory of `dimpoint watch` over the frames of a day: a JSON line every --report frames, one at the end.

    python benchmarks/watch_memory.py [--frames 864000] [--rate 10] [--detector] [--minutes 30]

A simulated camera gives the frames of a made scene as fast as they are taken: targets that come and go, a
resting spot, a camera that pans now and then, an outage every --outage frames. Everything is at work but the
network: capture thread, clock, camera motion, tracker, camera memory, event store, rules, clips (ring and
files), webhook queue (a server on the loopback address). In place of the network a stub gives the places of
the targets; --detector runs the shipped model instead. One target crosses the zone of the alarms every
--alarm frames; each alarm has a clip and a webhook request. The defaults are a day at 10 frames/s with an
alarm every 15 minutes.

`growth_mb`: the lower quartile of resident memory over the last tenth of the frames, less that over the
second twentieth (`base_mb`), which begins after `base_minutes` of the stream. A clip at work takes memory for
a small part of either. Exit code 1 if it is 50 MB or more. `hours`: of the stream.
"""

from __future__ import annotations

import argparse
import http.server
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from dimpoint.inference.detections import Detections
from dimpoint.live.cameras import LostError, Shot
from dimpoint.live.clips import ClipWriter
from dimpoint.live.events import EventStore
from dimpoint.live.rules import AlarmRule, ClipRule, Rules, Webhook
from dimpoint.live.status import memory_mb
from dimpoint.live.watch import Outputs, Watcher
from dimpoint.live.webhook import WebhookQueue
from dimpoint.tracking.stream import Finder

HEIGHT, WIDTH = 96, 128
MOST = 50.0  # MB
FLIGHT = 150  # frames of a target's life, and the same without it
GATE = [(0.0, 86.0), (127.0, 86.0), (127.0, 95.0), (0.0, 95.0)]  # zone of the alarms, below all other targets


class Simulated:
    """A camera whose stream time runs as fast as frames are taken; one frame waits at a time."""

    shown = "simulated"
    passed_over = 0

    def __init__(self, frames: int, rate: float, outage: int, alarm: int) -> None:
        self.frames, self.rate, self.outage = frames, rate, outage
        self.flights = max(alarm // (2 * FLIGHT), 1)  # from one alarm to the next
        self.number = 0
        self.taken = threading.Semaphore(1)
        rng = np.random.default_rng(0)
        self.scene = (60 + 20 * rng.random((HEIGHT + 40, WIDTH + 40))).astype(np.uint8)
        self.noise = [rng.integers(0, 4, (HEIGHT, WIDTH), np.uint8) for _ in range(16)]

    def shots(self, stop: Callable[[], bool], note: Callable[[str], None]) -> Iterator[Shot]:
        while self.number < self.frames:
            while not self.taken.acquire(timeout=0.5):
                if stop():
                    return
            number = self.number
            self.number += 1
            pan = abs((number // 4) % 80 - 40) if number % 9000 > 8000 else 0
            frame = self.scene[pan : pan + HEIGHT, pan : pan + WIDTH] + self.noise[number % 16]
            for x, y in self.places(number).round().astype(int):
                frame[y - 1 : y + 2, x - 1 : x + 2] += 120
            if self.outage and number % self.outage == self.outage - 1:
                self.taken.release()
                raise LostError("an outage of the simulation")
            yield Shot(frame, number / self.rate, time.monotonic())
        while not stop():
            time.sleep(0.05)

    def places(self, number: int) -> np.ndarray:
        """A spot that rests, and targets that fly for 150 frames, then none for 150."""
        spots = [(20.0, 20.0)]
        phase, flight = number % (2 * FLIGHT), number // (2 * FLIGHT)
        if phase < FLIGHT:
            spots.append((5 + 0.7 * phase, 30 + (flight * 7) % 40 + 0.1 * phase))
            spots.append((115 - 0.6 * phase, 20 + (flight * 11) % 50))
            if flight % self.flights == self.flights // 2:
                spots.append((5 + 0.7 * phase, 88.0))
        return np.array(spots)


def stub(camera: Simulated) -> Finder:
    """Gives the places of the targets of the last frame, with noise."""
    rng = np.random.default_rng(1)

    def find(frame: np.ndarray) -> Detections:
        xy = camera.places(camera.number - 1) + rng.normal(0, 0.1, (1, 2))
        return Detections(
            xy.astype(np.float32), np.full(len(xy), 0.9, np.float32), width=WIDTH, height=HEIGHT
        )

    return find


def receiver() -> http.server.ThreadingHTTPServer:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=864_000)
    parser.add_argument("--rate", type=float, default=10.0, help="frames a second of the stream")
    parser.add_argument("--alarm", type=int, default=9_000, help="frames from one alarm to the next")
    parser.add_argument("--detector", action="store_true", help="the shipped model instead of the stub")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so many")
    parser.add_argument("--outage", type=int, default=20_000)
    parser.add_argument("--report", type=int, default=10_000)
    options = parser.parse_args()
    camera = Simulated(options.frames, options.rate, options.outage, options.alarm)
    if options.detector:
        from dimpoint.inference.detector import Detector

        finder: Finder = Detector(None, threshold=0.3, threads=1)
    else:
        finder = stub(camera)
    rules = Rules(
        zones={"gate": GATE},
        alarms=[AlarmRule(name="gate", watch=["gate"], min_duration=1.0)],
        clip=ClipRule(before=5, after=5, most=60),
    )
    notes: list[str] = []
    server = receiver()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = EventStore(
            folder / "events.db", source="simulated", model="stub", version="0", warn=notes.append
        )
        hook = Webhook(url=f"http://127.0.0.1:{server.server_address[1]}/")
        assert rules.clip is not None
        outputs = Outputs(
            say=lambda _: None,
            store=store,
            webhook=WebhookQueue(hook, folder / "webhook", notes.append),
            clips=ClipWriter(rules.clip, folder / "clips", lambda _: None),
        )
        watcher = Watcher(
            camera, finder, outputs, note=lambda _: None, rules=rules, memory_file=folder / "memory.json"
        )
        growth = run(watcher, camera, options, folder)
    server.shutdown()
    sys.exit(growth >= MOST)


def run(watcher: Watcher, camera: Simulated, options: argparse.Namespace, folder: Path) -> float:
    begin = time.monotonic()
    samples: list[tuple[int, float]] = []
    told = 0

    def done() -> int:
        return watcher.totals.searched + watcher.capture.passed_over

    def each() -> None:
        nonlocal told
        camera.taken.release()
        if done() >= told + options.report:
            told = done()
            print(json.dumps(row()), flush=True)
        if not samples or done() >= samples[-1][0] + options.frames / 1000:
            samples.append((done(), memory_mb() or 0.0))

    def row() -> dict[str, object]:
        return {
            "frames": done(),
            "hours": round(done() / camera.rate / 3600, 2),
            "memory_mb": memory_mb(),
            "tracks": watcher.totals.tracks,
            "alarms": watcher.totals.alarms,
            "clips": watcher.outputs.clips.written if watcher.outputs.clips else 0,
            "reconnects": watcher.capture.health.reconnects,
            "seconds": round(time.monotonic() - begin),
        }

    end = begin + 60 * options.minutes
    watcher.run(lambda: camera.number >= options.frames - 1 or time.monotonic() > end, each)
    store = sum(file.stat().st_size for file in folder.glob("events.db*")) / 2**20
    memory = [value for _, value in samples]
    part = max(1, len(memory) // 20)
    base = float(np.quantile(memory[part : 2 * part], 0.25))
    growth = float(np.quantile(memory[-2 * part :], 0.25)) - base
    last = {
        "detector": "shipped model" if options.detector else "stub for the network",
        "base_mb": base,
        "base_minutes": round(samples[part][0] / camera.rate / 60, 1),
        "highest_mb": max(memory),
        "store_mb": round(store, 1),
    }
    print(json.dumps(row() | last | {"growth_mb": round(growth, 1)}))
    return growth


if __name__ == "__main__":
    main()
