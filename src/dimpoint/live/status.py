"""How a watch is doing: one record, one line, and `/status` on the loopback address."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dimpoint.errors import DimpointError
from dimpoint.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dimpoint.live.watch import Watcher

_STALLED = 3.0  # seconds without a frame
_ENOUGH = 5.0  # frames a second that tracking needs
_SETTLED = 10.0  # seconds after which the rate of searched frames is known


def status(watcher: Watcher) -> dict[str, Any]:
    """The state of a watch: what `/status` answers."""
    health, totals, outputs = watcher.capture.health, watcher.totals, watcher.outputs
    now = time.monotonic()
    quiet = None if health.last_frame is None else round(now - health.last_frame, 2)
    state = health.state
    if state == "watching" and quiet is not None and quiet > _STALLED:
        state = "stalled"
    uptime = time.time() - totals.started
    if state == "watching" and uptime > _SETTLED and totals.rate < min(_ENOUGH, 0.8 * health.rate):
        state = "too slow"  # the machine, not the camera
    elif state == "watching" and uptime > _SETTLED and health.rate < _ENOUGH:
        state = "few frames"
    size = None if health.size is None else {"width": health.size[1], "height": health.size[0]}
    record: dict[str, Any] = {
        "state": state,
        "source": watcher.camera.shown,
        "error": health.error or None,
        "uptime_s": round(uptime, 1),
        "frame_size": size,
        "frames": health.frames,
        "searched": totals.searched,
        "passed_over": watcher.capture.passed_over,
        "unreadable": totals.refused + int(getattr(watcher.camera, "broken", 0)),
        "frames_per_s": round(health.rate, 2),
        "searched_per_s": round(totals.rate, 2),
        "latency_ms": round(1000 * totals.latency, 1),
        "last_frame_s_ago": quiet,
        "reconnects": health.reconnects,
        "tracks_now": totals.going,
        "static_now": totals.static,
        "tracks": totals.tracks,
        "alarms": totals.alarms,
        "last_alarm": totals.last_alarm,
        "memory_mb": memory_mb(),
    }
    if outputs.webhook is not None:
        record["webhook"] = {"sent": outputs.webhook.sent, "waiting": outputs.webhook.waiting}
    if outputs.clips is not None:
        clips = outputs.clips
        record["clips"] = {
            "written": clips.written,
            "failed": clips.failed,
            "before_s": round(clips.ring.seconds, 2),
        }
    return record


def status_line(record: dict[str, Any]) -> str:
    """A status as one line."""
    state = record["state"]
    if state == "too slow":
        state = f"too slow: {record['searched_per_s']:.1f} frames/s searched, targets will be missed"
    if state == "few frames":
        state = f"few frames: tracking needs about {_ENOUGH:g} a second"
    words = [
        state,
        f"up {timedelta(seconds=int(record['uptime_s']))}",
        f"{record['frames_per_s']:.1f} frames/s",
        f"{record['searched']} searched",
        f"{record['passed_over']} passed over",
        f"{record['latency_ms']:.0f} ms late",
        f"{counted(record['tracks_now'], 'track')} now",
        f"{record['static_now']} static",
        f"{record['alarms']} alarms",
    ]
    if record["reconnects"]:
        words.append(f"{record['reconnects']} reconnects")
    if record["error"]:
        words.append(str(record["error"]))
    return ", ".join(words)


def memory_mb() -> float | None:
    """Memory of this process in MiB; None where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


@contextmanager
def served(port: int, answer: Callable[[], dict[str, Any]]) -> Iterator[str]:
    """Serve `/status` on 127.0.0.1 in a thread while the block runs.

    Only requests to this machine's own names are answered.

    Parameters
    ----------
    port : int
        0 takes a free one.
    answer : callable
        Gives what is answered, a JSON-compatible dict.

    Yields
    ------
    str
        The address.

    Raises
    ------
    DimpointError
        If the port is in use.
    """
    import uvicorn
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    from dimpoint.serving.guard import Guard, local_hosts
    from dimpoint.serving.server import open_socket

    async def show(_request: Request) -> Response:
        return JSONResponse(answer())

    try:
        listening = open_socket("127.0.0.1", port)
    except DimpointError as error:
        raise DimpointError(str(error).replace("--port", "--status-port")) from None
    number = listening.getsockname()[1]
    guard = Middleware(Guard, hosts=local_hosts(number))
    app = Starlette(routes=[Route("/status", show)], middleware=[guard])
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", access_log=False, lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="status", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{number}/status"
    finally:
        server.should_exit = True
        thread.join(3.0)
        listening.close()
