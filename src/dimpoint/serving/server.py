"""Run the service until a signal stops it: running requests finish, new ones are refused."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import uvicorn

from dimpoint.errors import DimpointError

if TYPE_CHECKING:
    from dimpoint.serving.app import Service

_GRACE = 30  # seconds that running requests may take once the service is told to stop


class _Server(uvicorn.Server):
    """Tells the readiness check that the server is stopping."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self.service = service

    def handle_exit(self, sig: int, frame: object) -> None:
        self.service.stopping = True
        super().handle_exit(sig, frame)  # type: ignore[arg-type]


def run(service: Service, host: str, port: int, started: Callable[[str], None]) -> None:
    """Listen and serve.

    Parameters
    ----------
    service : Service
        The service.
    host, port : str, int
        Address; port 0 takes a free one.
    started : callable
        Called with the address.

    Raises
    ------
    DimpointError
        If the port is in use.
    """
    listening = open_socket(host, port)
    shown = f"[{host}]" if ":" in host else host
    started(f"http://{shown}:{listening.getsockname()[1]}")
    config = uvicorn.Config(
        service.app(),
        log_level="error",
        access_log=False,
        lifespan="off",
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_GRACE,
        h11_max_incomplete_event_size=64 << 10,
    )
    try:
        _Server(config, service).run(sockets=[listening])
    finally:
        service.pool.close()


def open_socket(host: str, port: int) -> socket.socket:
    """A socket bound to an address, port 0: any free port; DimpointError if that fails."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # asyncio sets TCP_NODELAY only on sockets of this protocol; without it an answer waits 40 ms
        bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        raise DimpointError(f"--port {port}: cannot listen there ({error.strerror})") from None
    return bound
