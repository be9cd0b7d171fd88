"""Detectors that share the work, a bounded queue before them, and what they have done so far."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from dimpoint.errors import ConfigError, DimpointError
from dimpoint.inference.backends import PROCESSORS
from dimpoint.inference.detector import Detector
from dimpoint.inference.stream import usable_cores

Result = TypeVar("Result")

_ON_A_GPU = 2  # frames at a time: one is decoded while the other is searched
_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class BusyError(DimpointError):
    """The queue is full."""


class Statistics:
    """Prometheus counters."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "dimpoint_requests", "Requests by status.", ["status"], registry=self.registry
        )
        self.frames = Counter("dimpoint_frames", "Processed frames.", registry=self.registry)
        self.targets = Counter("dimpoint_targets", "Detected targets.", registry=self.registry)
        self.waiting = Gauge("dimpoint_waiting", "Requests waiting for a detector.", registry=self.registry)
        self.seconds = Histogram(
            "dimpoint_request_seconds",
            "Duration of detection requests, including waiting.",
            registry=self.registry,
            buckets=_BUCKETS,
        )


class DetectorPool:
    """Detectors of one model, each used by one request at a time.

    Parameters
    ----------
    model : str, Path or None
        As of `Detector`.
    workers : int or None
        Number of detectors; None takes one a core, or two where the network runs on a GPU.
    threads : int
        Threads of the processor for each detector.
    queue : int
        Requests that may wait; more are refused with BusyError.
    seconds : float
        That a request may wait and run; later it is given up with TimeoutError (a detection at work still
        ends).
    device : str, default "cpu"
        As of `Detector`; all detectors take what the first one took.

    Raises
    ------
    ModelFileError
        For a model that cannot be used.
    ConfigError
        For a wrong number, and for a device that is not there.
    """

    def __init__(
        self,
        model: str | Path | None,
        *,
        workers: int | None,
        threads: int,
        queue: int,
        seconds: float,
        device: str = "cpu",
    ) -> None:
        if (workers is not None and workers < 1) or threads < 1 or queue < 0 or seconds <= 0:
            raise ConfigError("workers and threads are at least 1, the queue 0, the time limit above 0")
        self.statistics = Statistics()
        self.first = Detector(model, threads=threads, device=device)
        if workers is None:
            workers = usable_cores() if self.first.device in PROCESSORS else _ON_A_GPU
        self.queue, self.seconds, self.workers = queue, seconds, workers
        self._idle: SimpleQueue[Detector] = SimpleQueue()
        self._idle.put(self.first)
        for _ in range(workers - 1):
            self._idle.put(Detector(self.first.path, threads=threads, device=self.first.device))
        self.meta = self.first.meta
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="detector")
        self._inside = 0

    async def run(self, work: Callable[[Detector], Result]) -> Result:
        """Run `work` with the next free detector; BusyError or TimeoutError if there is none in time."""
        if self._inside >= self.workers + self.queue:
            raise BusyError("too many requests are waiting; try again later")
        self._inside += 1
        self.statistics.waiting.set(max(0, self._inside - self.workers))
        begin = time.perf_counter()
        future = asyncio.get_running_loop().run_in_executor(self._threads, self._with_detector, work)
        future.add_done_callback(self._done)
        try:
            async with asyncio.timeout(self.seconds):
                return await asyncio.shield(future)
        finally:
            self.statistics.seconds.observe(time.perf_counter() - begin)

    def _with_detector(self, work: Callable[[Detector], Result]) -> Result:
        detector = self._idle.get()
        try:
            return work(detector)
        finally:
            self._idle.put(detector)

    def _done(self, future: asyncio.Future[Result]) -> None:
        self._inside -= 1
        self.statistics.waiting.set(max(0, self._inside - self.workers))
        if not future.cancelled():
            future.exception()  # a request that gave up does not ask for it

    def close(self) -> None:
        """Shut down after the running detections."""
        self._threads.shutdown(wait=True, cancel_futures=True)
