"""Listening sockets."""

from __future__ import annotations

import socket

from dimpoint.errors import DimpointError


def open_socket(host: str, port: int) -> socket.socket:
    """A socket bound to an address; port 0 takes a free one. Raises DimpointError if it cannot be had."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        raise DimpointError(f"--port {port}: cannot listen there ({error.strerror})") from None
    return bound
