"""How much `dimpoint serve` bears, beside `Detector` in a loop on the same frames.

    python benchmarks/serve_load.py [--seconds 20] [--flood 60] [--size 256x256] [--workers 2]

Four steps on the loopback address: `Detector` in a loop, `workers` at a time; as many clients as workers,
without pause; requests at 0.8 of that rate; ten times as many clients as the service takes (workers, queue).
The first two take turns, `--rounds` times. Prints one JSON line: the best frames a second of either, their
processor time for a frame (which other programs hardly disturb), times of requests, answers by status, and
the service's memory. The clients run on the same cores as the service.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import httpx
import numpy as np

import dimpoint

COMMAND = [sys.executable, "-c", "from dimpoint.cli import main; main()", "serve", "--port", "0"]
QUEUE = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="of each step")
    parser.add_argument("--flood", type=float, default=60, help="seconds of the last step")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", default="256x256", help="height x width")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    height, width = (int(side) for side in options.size.split("x"))
    frame = cv2.GaussianBlur(np.random.default_rng(0).normal(0, 1, (height, width)), (0, 0), 3) * 40 + 100
    frame = frame.clip(0, 255).astype(np.uint8)
    body = cv2.imencode(".png", frame)[1].tobytes()
    arguments = ["--workers", str(options.workers), "--queue", str(QUEUE)]
    process = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        match = re.search(r"http://\S+", process.stdout.readline())
        assert match
        address = f"{match[0]}/v1/detect"
        before = memory(process.pid)
        loops, fulls = [], []
        for _ in range(options.rounds):
            loops.append(in_a_loop(body, options.workers, options.seconds))
            used = processor_seconds(process.pid)
            full = asyncio.run(load(address, body, options.seconds, clients=options.workers))
            used = processor_seconds(process.pid) - used
            fulls.append(full | {"cpu_ms_a_frame": round(1000 * used / full["status_200"], 2)})
        loop = max(loops, key=lambda each: each["frames_per_second"])
        full = max(fulls, key=lambda each: each["frames_per_second"])
        cpu = [min(each["cpu_ms_a_frame"] for each in side) for side in (loops, fulls)]
        rate = 0.8 * full["frames_per_second"]
        paced = asyncio.run(load(address, body, options.seconds, clients=40, rate=rate))
        clients = 10 * (options.workers + QUEUE)
        flood = asyncio.run(load(address, body, options.flood, clients=clients))
        after = memory(process.pid)
        alive = httpx.get(f"{match[0]}/health", timeout=30).status_code
    finally:
        process.terminate()
        process.wait(60)
    print(
        json.dumps(
            {
                "detector": loop,
                "service": full,
                "service_over_detector": round(full["frames_per_second"] / loop["frames_per_second"], 3),
                "detector_over_service_cpu": round(cpu[0] / cpu[1], 3),
                "at_0.8": paced,
                "p99_over_median": round(paced["p99_ms"] / paced["median_ms"], 2),
                "ten_times": flood,
                "memory_mb": {"before": before, "after": after},
                "health_after": alive,
            }
        )
    )


def in_a_loop(body: bytes, workers: int, seconds: float) -> dict[str, float]:
    """Frames a second, and processor time, of one detector on each thread, decoding included."""
    detectors = [dimpoint.load(threads=1) for _ in range(workers)]

    def run(detector: dimpoint.Detector) -> int:
        count = 0
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            detector(cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_UNCHANGED))
            count += 1
        return count

    used = time.process_time()
    with ThreadPoolExecutor(workers) as pool:
        frames = sum(pool.map(run, detectors))
    used = time.process_time() - used
    return {
        "frames_per_second": round(frames / seconds, 2),
        "cpu_ms_a_frame": round(1000 * used / frames, 2),
    }


def processor_seconds(process: int) -> float:
    """Seconds of the processor that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def load(
    address: str, body: bytes, seconds: float, *, clients: int, rate: float | None = None
) -> dict[str, float]:
    """Clients that send without pause, or together at a rate (requests a second)."""
    answers: collections.Counter[str] = collections.Counter()
    times: list[float] = []
    end = time.perf_counter() + seconds
    slots = iter(range(10**9))
    began = time.perf_counter()

    async def client(http: httpx.AsyncClient) -> None:
        while True:
            due = began + next(slots) / rate if rate else time.perf_counter()
            if due >= end or time.perf_counter() >= end:
                return
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            start = due if rate else time.perf_counter()
            answer = await http.post(address, content=body, headers={"content-type": "image/png"})
            answers[str(answer.status_code)] += 1
            if answer.status_code == 200:
                times.append(time.perf_counter() - start)

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(timeout=120, limits=limits) as http:
        await asyncio.gather(*(client(http) for _ in range(clients)))
    taken = time.perf_counter() - began
    median, late = np.percentile(times, (50, 99))
    return {
        "clients": clients,
        "frames_per_second": round(len(times) / taken, 2),
        "median_ms": round(1000 * median, 1),
        "p99_ms": round(1000 * late, 1),
        **{f"status_{status}": count for status, count in sorted(answers.items())},
    }


def memory(process: int) -> int:
    """Resident memory of a process, MB."""
    text = Path(f"/proc/{process}/status").read_text()
    match = re.search(r"VmRSS:\s+(\d+)", text)
    return round(int(match[1]) / 1024) if match else 0


if __name__ == "__main__":
    main()
