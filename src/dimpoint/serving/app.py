"""The HTTP application: frames in, detections out; health, metrics and an OpenAPI description."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dimpoint.errors import DimpointError, FrameError
from dimpoint.inference.detections import Detections
from dimpoint.inference.detector import Detector
from dimpoint.limits import check
from dimpoint.serving.openapi import RAW_TYPES, SUFFIXES, description
from dimpoint.serving.pool import BusyError, DetectorPool
from dimpoint.sources import Frame
from dimpoint.sources.readers import read_picture

MOST_IN_BATCH = 64


@dataclass(frozen=True)
class Limits:
    """Limits of a request.

    Parameters
    ----------
    largest : int
        Bytes of the body.
    seconds : float
        Time in which the whole body must arrive.
    """

    largest: int = 64 << 20
    seconds: float = 30.0


class Service:
    """The endpoints over one pool of detectors.

    Parameters
    ----------
    pool : DetectorPool
    limits : Limits
    token : str, optional
        Bearer token that requests below `/v1/` must carry; None asks for none.
    """

    def __init__(self, pool: DetectorPool, limits: Limits, token: str | None = None) -> None:
        self.pool, self.limits, self.token = pool, limits, token
        self.stopping = False

    def app(self) -> Starlette:
        """The ASGI application."""
        routes = [
            Route("/health", self._health),
            Route("/ready", self._ready),
            Route("/metrics", self._metrics),
            Route("/openapi.json", self._description),
            Route("/v1/model", self._model),
            Route("/v1/detect", self._counted(self._detect), methods=["POST"]),
            Route("/v1/detect/batch", self._counted(self._batch), methods=["POST"]),
        ]
        return Starlette(routes=routes, exception_handlers={HTTPException: _refused})

    async def _health(self, _request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _ready(self, _request: Request) -> Response:
        if self.stopping:
            return JSONResponse({"status": "stopping"}, 503)
        return JSONResponse({"status": "ready"})

    async def _metrics(self, _request: Request) -> Response:
        text = generate_latest(self.pool.statistics.registry)
        return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _description(self, _request: Request) -> Response:
        return JSONResponse(description(self.token is not None))

    async def _model(self, request: Request) -> Response:
        self._check_token(request)
        meta = self.pool.meta
        named = {"name": meta.name, "network": meta.network, "threshold": meta.decode.threshold}
        return JSONResponse({**named, "licence": meta.licence})

    def _counted(
        self, endpoint: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Counts answers, and turns what goes wrong into them."""

        async def counted(request: Request) -> Response:
            try:
                self._check_token(request)
                response = await endpoint(request)
            except (HTTPException, DimpointError, TimeoutError, ClientDisconnect) as error:
                response = _answer_to(error)
            self.pool.statistics.requests.labels(response.status_code).inc()
            return response

        return counted

    def _check_token(self, request: Request) -> None:
        if self.token is None:
            return
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not secrets.compare_digest(given.encode(), self.token.encode()):
            raise HTTPException(401, "a token is needed: Authorization: Bearer TOKEN")

    async def _detect(self, request: Request) -> Response:
        threshold = _threshold(request)
        body = await self._body(request)
        kind = request.headers.get("content-type", "")
        shape, dtype = request.query_params.get("shape"), request.query_params.get("dtype")
        found = await self.pool.run(lambda detector: _search(detector, body, kind, shape, dtype, threshold))
        self._count([found])
        return JSONResponse({"model": found.model, **found.to_dict()})

    async def _batch(self, request: Request) -> Response:
        threshold = _threshold(request)
        kind = request.headers.get("content-type", "")
        if not kind.startswith("multipart/form-data"):
            raise HTTPException(415, "a batch is multipart/form-data with one image file a part")
        files = await self._files(request)
        if not 0 < len(files) <= MOST_IN_BATCH:
            raise HTTPException(422, f"a batch has 1 to {MOST_IN_BATCH} files, got {len(files)}")

        def search(detector: Detector) -> list[Detections | str]:
            return [_entry(detector, name, body, kind, threshold) for name, kind, body in files]

        found = await self.pool.run(search)
        self._count([each for each in found if isinstance(each, Detections)])
        entries = [
            each.to_dict() if isinstance(each, Detections) else {"file": name, "error": each}
            for each, (name, *_) in zip(found, files, strict=True)
        ]
        return JSONResponse({"model": self.pool.meta.name, "images": entries})

    async def _files(self, request: Request) -> list[tuple[str, str, bytes]]:
        """Name, type and content of each file of a form."""
        body = await self._body(request)

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        again = Request(request.scope, receive)
        async with again.form(max_files=MOST_IN_BATCH + 1, max_fields=10) as form:
            uploads = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
            return [(each.filename or "", each.content_type or "", await each.read()) for each in uploads]

    async def _body(self, request: Request) -> bytes:
        """The whole body; refused as soon as it is known to be too large, or comes too slowly."""
        length = request.headers.get("content-length")
        if length is not None and (not length.isdigit() or int(length) > self.limits.largest):
            raise HTTPException(413, f"a request has at most {self.limits.largest} bytes")
        parts, size = [], 0
        try:
            async with asyncio.timeout(self.limits.seconds):
                async for part in request.stream():
                    size += len(part)
                    if size > self.limits.largest:
                        raise HTTPException(413, f"a request has at most {self.limits.largest} bytes")
                    parts.append(part)
        except TimeoutError:
            seconds = self.limits.seconds
            raise HTTPException(408, f"the body did not arrive within {seconds:g} s") from None
        return b"".join(parts)

    def _count(self, found: list[Detections]) -> None:
        self.pool.statistics.frames.inc(len(found))
        self.pool.statistics.targets.inc(sum(len(each) for each in found))


def _search(
    detector: Detector, body: bytes, kind: str, shape: str | None, dtype: str | None, threshold: float | None
) -> Detections:
    found = detector(frame_of(body, kind, shape, dtype))
    if threshold is None:
        return found
    kept = found.scores > threshold
    areas = None if found.areas is None else found.areas[kept]
    return replace(found, xy=found.xy[kept], scores=found.scores[kept], areas=areas)


def _entry(
    detector: Detector, name: str, body: bytes, kind: str, threshold: float | None
) -> Detections | str:
    """A frame of a batch: its detections, or why it cannot be read."""
    if kind.partition(";")[0].strip().lower() not in SUFFIXES:  # curl knows no type for .tif and .npy
        suffix = Path(name).suffix.lower().replace(".tiff", ".tif").replace(".jpeg", ".jpg")
        kind = next((known for known, each in SUFFIXES.items() if each == suffix), kind)
    try:
        found = _search(detector, body, kind, None, None, threshold)
    except DimpointError as error:
        return str(error)
    return replace(found, file=name)


def _threshold(request: Request) -> float | None:
    text = request.query_params.get("threshold")
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise HTTPException(422, f"threshold: a number from 0 to 1, got {text[:40]!r}")
    return value


def _answer_to(error: Exception) -> Response:
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)
    if isinstance(error, BusyError):
        return JSONResponse({"error": str(error)}, 429, {"Retry-After": "1"})
    if isinstance(error, TimeoutError):
        return JSONResponse({"error": "the detection took too long"}, 503, {"Retry-After": "5"})
    if isinstance(error, ClientDisconnect):
        return Response(status_code=400)
    return JSONResponse({"error": str(error)}, 422)


async def _refused(request: Request, error: Exception) -> Response:
    """An answer of the router, for an address or a method that it does not know."""
    if isinstance(error, HTTPException) and error.status_code in (404, 405):
        path = request.url.path[:80]
        said = f"there is no {path}; /openapi.json describes the addresses"
        if error.status_code == 405:
            taken = "POST" if path.startswith("/v1/detect") else "GET"
            said = f"{path} takes {taken}, not {request.method}"
        return JSONResponse({"error": said}, error.status_code, error.headers)
    return _answer_to(error)


def frame_of(
    body: bytes, content_type: str, shape: str | None, dtype: str | None
) -> npt.NDArray[Any] | Frame:
    """The frame of a request's body, (H, W) uint8, uint16 or float32, of a file with its valid pixels.

    Parameters
    ----------
    body : bytes
        An image file, or raw counts, little-endian.
    content_type : str
        A key of `SUFFIXES` for an image file; anything else is raw counts.
    shape : str or None
        Of raw counts, "HEIGHTxWIDTH".
    dtype : str or None
        Of raw counts, one of `RAW_TYPES`.

    Raises
    ------
    FrameError
        Says what is wrong with the body, its type or its shape.
    """
    if not body:
        raise FrameError("the request has no body; send an image file, or raw counts with shape and dtype")
    kind = content_type.partition(";")[0].strip().lower()
    if shape is None and dtype is None:
        if kind not in SUFFIXES:
            raise FrameError(_not_accepted(kind))
        return _image(body, SUFFIXES[kind])
    if shape is None or dtype is None:
        raise FrameError(
            f"raw counts need both shape=HEIGHTxWIDTH and dtype ({', '.join(RAW_TYPES)}) in the address"
        )
    return _raw(body, shape, dtype)


def _not_accepted(kind: str) -> str:
    given = f"Content-Type {kind[:80]} is" if kind else "a request without Content-Type is"
    form = "; forms go to /v1/detect/batch" if kind == "multipart/form-data" else ""
    raw = f"raw counts with shape=HEIGHTxWIDTH and dtype ({', '.join(RAW_TYPES)}) in the address"
    return f"{given} not accepted, but {', '.join(SUFFIXES)}, or {raw}{form}"


def _image(body: bytes, suffix: str) -> Frame:
    with tempfile.TemporaryDirectory(prefix="dimpoint-") as folder:
        path = Path(folder) / f"frame{suffix}"
        path.write_bytes(body)
        try:
            picture = read_picture(path)
        except FrameError as error:
            raise FrameError(str(error).replace(str(path), "the image")) from None
    return Frame("the image", picture.pixels, valid=picture.valid)


def _raw(body: bytes, shape: str, dtype: str) -> npt.NDArray[Any]:
    if dtype not in RAW_TYPES:
        raise FrameError(f"dtype: one of {', '.join(RAW_TYPES)}, got {dtype[:40]!r}")
    sides = shape.lower().split("x")
    if len(sides) != 2 or not all(side.isdigit() and 0 < len(side) < 7 for side in sides):
        raise FrameError(f"shape: HEIGHTxWIDTH, such as 512x640, got {shape[:40]!r}")
    height, width = (int(side) for side in sides)
    if not height or not width:
        raise FrameError(f"shape: a frame has at least one pixel, got {shape}")
    check("frame_pixels", height * width, "the frame: pixels", FrameError)
    kind = np.dtype(dtype).newbyteorder("<")
    if len(body) != height * width * kind.itemsize:
        expected = height * width * kind.itemsize
        raise FrameError(f"{height}x{width} {dtype} takes {expected} bytes, the body has {len(body)}")
    return np.frombuffer(body, kind).reshape(height, width).astype(dtype)
