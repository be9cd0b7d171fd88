"""`dimpoint serve`: detection over HTTP."""

from __future__ import annotations

import os
from importlib.util import find_spec

import typer

from dimpoint.cli.console import print_device
from dimpoint.cli.options import DEVICE, MODEL
from dimpoint.errors import ConfigError, MissingExtraError

TOKEN_VARIABLE = "DIMPOINT_TOKEN"


def register(app: typer.Typer) -> None:
    """Add the command `dimpoint serve`."""
    app.command("serve")(serve)


def serve(
    model: str | None = MODEL,
    host: str = typer.Option("127.0.0.1", metavar="ADDRESS", help="Address to listen on."),
    port: int = typer.Option(8080, metavar="N", min=0, max=65535, help="Port; 0: any free port."),
    device: str = DEVICE,
    workers: int = typer.Option(
        0, metavar="N", min=0, help="Frames processed at the same time.", show_default="one per core"
    ),
    threads: int = typer.Option(1, metavar="N", min=1, help="Processor threads per frame."),
    queue: int = typer.Option(
        64, metavar="N", min=0, help="Requests that may wait; further ones get status 429."
    ),
    timeout: float = typer.Option(30.0, metavar="SECONDS", help="Time limit of a request."),
    max_mb: int = typer.Option(64, metavar="N", min=1, help="Largest request body, MiB."),
    token: bool = typer.Option(
        False, "--token", help=f"Require the bearer token in the environment variable {TOKEN_VARIABLE}."
    ),
) -> None:
    """Serve detections over HTTP: POST a frame to /v1/detect. /openapi.json describes the interface."""
    for package in ("starlette", "uvicorn", "prometheus_client", "multipart"):
        if find_spec(package) is None:
            raise MissingExtraError("serving", package, "serve")
    from dimpoint.serving.app import Limits, Service
    from dimpoint.serving.pool import DetectorPool
    from dimpoint.serving.server import run

    secret = os.environ.get(TOKEN_VARIABLE) if token else None
    if token and not secret:
        raise ConfigError(f"--token: the environment variable {TOKEN_VARIABLE} is not set")
    pool = DetectorPool(
        model,
        workers=workers or None,
        threads=threads,
        queue=queue,
        seconds=timeout,
        device=device,
    )
    print_device(pool.first, device)
    service = Service(pool, Limits(max_mb << 20, timeout), secret)
    run(service, host, port, lambda address: typer.echo(f"serving {pool.meta.name} at {address}"))
