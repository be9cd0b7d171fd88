"""Access checks of local servers: host, origin, token and size of requests."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LOCAL = ("127.0.0.1", "localhost", "[::1]")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_LARGEST_BODY = 4 << 20  # bytes


def local_hosts(port: int, *others: str) -> tuple[str, ...]:
    """The `name:port` values of this machine and of the addresses `others`."""
    return tuple(f"{name}:{port}" for name in dict.fromkeys((*_LOCAL, *others)))


class Guard:
    """Checks host, origin, token and size of each request, and adds security headers to responses.

    Parameters
    ----------
    app : ASGI application
        The application.
    hosts : tuple of str
        Accepted `Host` headers, `name:port`, so that pages of other sites cannot reach the server.
    token : str, optional
        Token required below `/api/`.
    hint : str
        Text of the response if the token is missing.
    larger : mapping of str to int, optional
        Paths whose requests may have more bytes than others.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: tuple[str, ...],
        token: str | None = None,
        hint: str = "",
        larger: Mapping[str, int] | None = None,
    ) -> None:
        self.app = app
        self.hosts, self.token, self.hint, self.larger = hosts, token, hint, larger or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward the request, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        answer = self._refusal(Request(scope)) or self.app
        await answer(scope, receive, send_safely)

    def _refusal(self, request: Request) -> Response | None:
        origin = request.headers.get("origin")
        if request.headers.get("host") not in self.hosts:
            return PlainTextResponse("this address is not served here", 403)
        if origin is not None and origin.removeprefix("http://") not in self.hosts:
            return PlainTextResponse("requests from other sites are refused", 403)
        length = request.headers.get("content-length", "0")
        most = self.larger.get(request.url.path, _LARGEST_BODY)
        if "transfer-encoding" in request.headers or not length.isdigit() or int(length) > most:
            return PlainTextResponse("the request is too large", 413)
        if self.token is None or not request.url.path.startswith("/api/"):
            return None
        given = request.headers.get("x-token") or request.query_params.get("token", "")
        if not secrets.compare_digest(given.encode(), self.token.encode()):
            return JSONResponse({"error": self.hint}, 401)
        return None
