"""The local server of `dimpoint label`: a page, and the project as JSON and raw counts.

Everything below `/api/` needs the token of the printed address. Requests whose `Host` or `Origin` is not
this server's are refused, so that no other page in the browser can reach it.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from dimpoint.errors import ConfigError, DataError, DimpointError, FrameError, MissingExtraError
from dimpoint.labelling.frames import packed
from dimpoint.labelling.judging import Reported
from dimpoint.labelling.project import Project
from dimpoint.labelling.snap import snap
from dimpoint.labelling.store import ConflictError, Labels, Status
from dimpoint.labelling.training_job import FEWEST_FRAMES, TrainingJob
from dimpoint.serving.guard import Guard

STATIC = Path(__file__).parent / "static"
_LARGER = {"/api/import": 64 << 20}  # bytes of a request
_GRACE = 1.5  # seconds that requests may take once the server is told to stop


def new_token() -> str:
    """A random token for the printed address."""
    return secrets.token_urlsafe(24)


def run(
    project: Project,
    listening: socket.socket,
    token: str,
    hosts: tuple[str, ...],
    report: Sequence[Reported] | None = None,
) -> None:
    """Serve until a signal comes, then end within two seconds, whatever is still being read or detected.

    Every acknowledged label is on disk by then, and `points.json` is written. A running training is stopped
    as by its button.

    Parameters
    ----------
    project
        The open project.
    listening
        The socket to serve on.
    token
        What requests below `/api/` must carry.
    hosts
        `name:port` values that requests may carry as their `Host`.
    report
        Mistakes of an evaluation that the page lists. Default: no report.
    """
    job = TrainingJob(project.folder)
    config = uvicorn.Config(
        build_app(project, job, token, hosts, report), log_level="error", access_log=False, lifespan="off"
    )
    try:
        _Server(config, (project.write_due, job.end)).run(sockets=[listening])
    finally:
        job.end()


class _Server(uvicorn.Server):
    """Ends the process if requests take too long: a thread that reads a frame cannot be stopped.

    last: called before that.
    """

    def __init__(self, config: uvicorn.Config, last: Sequence[Callable[[], object]]) -> None:
        super().__init__(config)
        self._last = last

    def handle_exit(self, sig: int, frame: Any) -> None:
        timer = threading.Timer(_GRACE, self._give_up, [128 + sig])
        timer.daemon = True
        timer.start()
        super().handle_exit(sig, frame)

    def _give_up(self, code: int) -> None:
        try:
            for each in self._last:
                each()
        finally:
            os._exit(code)


def build_app(
    project: Project,
    job: TrainingJob,
    token: str,
    hosts: tuple[str, ...],
    report: Sequence[Reported] | None = None,
) -> Starlette:
    """The application; its parameters are those of `run`, and `job`, the project's training."""
    pages = _Pages(project, job, report)
    routes = [
        Route("/api/project", pages.project_info),
        Route("/api/frames", pages.rows),
        Route("/api/frames/{frame}", pages.frame),
        Route("/api/frames/{frame}", pages.save, methods=["PUT"]),
        Route("/api/frames/{frame}/pixels", pages.pixels),
        Route("/api/frames/{frame}/proposals", pages.proposals),
        Route("/api/frames/{frame}/history", pages.history),
        Route("/api/frames/{frame}/snap", pages.snap),
        Route("/api/frames/{frame}/carry", pages.carry, methods=["POST"]),
        Route("/api/next", pages.next),
        Route("/api/find", pages.find),
        Route("/api/training", pages.training),
        Route("/api/training", pages.start_training, methods=["POST"]),
        Route("/api/training", pages.stop_training, methods=["DELETE"]),
        Route("/api/model", pages.use_model, methods=["POST"]),
        Route("/api/export", pages.export),
        Route("/api/import", pages.import_labels, methods=["POST"]),
        Route("/api/agreement", pages.agreement),
        Route("/api/mistakes", pages.mistakes),
        Route("/api/changes", pages.changes),
        Route("/api/report", pages.reported),
        Mount("/", StaticFiles(directory=STATIC, html=True)),
    ]
    handlers: dict[Any, Any] = {DimpointError: _refused}
    hint = "open the address that dimpoint label printed"
    guard = Middleware(Guard, hosts=hosts, token=token, hint=hint, larger=_LARGER)
    return Starlette(routes=routes, middleware=[guard], exception_handlers=handlers)


async def _refused(_request: Request, error: Exception) -> Response:
    """A DimpointError as an answer."""
    if isinstance(error, ConflictError):
        return JSONResponse({"error": str(error), "current": asdict(error.current)}, 409)
    if isinstance(error, MissingExtraError):
        return JSONResponse({"error": str(error)}, 501)
    asked_wrong = isinstance(error, DataError | ConfigError)
    status = 410 if isinstance(error, FrameError) else 400 if asked_wrong else 500
    return JSONResponse({"error": str(error)}, status)


class _Pages:
    """The answers under `/api/`."""

    def __init__(self, project: Project, job: TrainingJob, report: Sequence[Reported] | None) -> None:
        self.store_of, self.job, self.report = project, job, report or ()
        self.has_report = report is not None

    async def project_info(self, _request: Request) -> Response:
        def work() -> dict[str, Any]:
            project = self.store_of
            return {
                "name": project.folder.resolve().name,
                "counts": project.store.count(),
                "model": project.model_name,
                "threshold": project.threshold,
                "fewest": FEWEST_FRAMES,
                "report": self.has_report,
            }

        return JSONResponse(await run_in_threadpool(work))

    async def rows(self, request: Request) -> Response:
        start, count = _number(request, "start", 0), min(_number(request, "count", 200), 1000)
        rows = await run_in_threadpool(self.store_of.store.rows, start, count)
        return JSONResponse([asdict(row) for row in rows])

    async def frame(self, request: Request) -> Response:
        key = _number(request, "frame")

        def work() -> dict[str, Any]:
            store = self.store_of.store
            source = store.source(key)
            return {
                "id": key,
                "name": source.name,
                "number": source.number,
                "labels": asdict(store.labels(key)),
                "previous": store.neighbour(key, -1),
                "next": store.neighbour(key, 1),
            }

        return JSONResponse(await run_in_threadpool(work))

    async def pixels(self, request: Request) -> Response:
        key = _number(request, "frame")
        content, headers = await run_in_threadpool(lambda: packed(self.store_of.pixels(key)))
        return Response(content, media_type="application/octet-stream", headers=headers)

    async def save(self, request: Request) -> Response:
        labels = _labels(await _json(request))
        stored = await run_in_threadpool(self.store_of.save, _number(request, "frame"), labels)
        return JSONResponse(asdict(stored))

    async def proposals(self, request: Request) -> Response:
        found = await run_in_threadpool(self.store_of.proposals, _number(request, "frame"))
        return JSONResponse([{"x": x, "y": y, "score": score} for x, y, score in found])

    async def history(self, request: Request) -> Response:
        states = await run_in_threadpool(self.store_of.store.history, _number(request, "frame"))
        return JSONResponse([asdict(state) for state in states])

    async def snap(self, request: Request) -> Response:
        x, y = _decimal(request, "x"), _decimal(request, "y")
        dark = request.query_params.get("dark") == "1"
        pixels = await run_in_threadpool(self.store_of.pixels, _number(request, "frame"))
        found = await run_in_threadpool(lambda: snap(pixels, x, y, dark=dark))
        return JSONResponse(None if found is None else {"x": found[0], "y": found[1]})

    async def carry(self, request: Request) -> Response:
        from dimpoint.labelling.carry import carry

        content = await _json(request)
        try:
            x, y, frames = float(content["x"]), float(content["y"]), int(content.get("frames", 30))
            back, dark = bool(content.get("back")), bool(content.get("dark"))
            if not np.isfinite([x, y]).all():
                raise ValueError
        except (KeyError, TypeError, ValueError, OverflowError):
            raise DataError("carrying a point takes finite numbers x, y and frames") from None
        key = _number(request, "frame")
        steps = await run_in_threadpool(
            lambda: carry(self.store_of, key, (x, y), min(frames, 1000), back=back, dark=dark)
        )
        return JSONResponse([asdict(step) for step in steps])

    async def next(self, request: Request) -> Response:
        order = request.query_params.get("order", "sequence")
        after = _number(request, "after", 0)

        def work() -> int | None:
            project = self.store_of
            if order == "doubt":
                return project.most_doubtful(after or None)
            status: Status | None = "unlabelled" if order == "unlabelled" else None
            found = project.store.neighbour(after, 1, status)
            return project.store.neighbour(0, 1, status) if found is None and status else found

        return JSONResponse({"id": await run_in_threadpool(work)})

    async def find(self, request: Request) -> Response:
        from dimpoint.labelling.judging import frame_named

        name = request.query_params.get("name", "")
        return JSONResponse({"id": await run_in_threadpool(frame_named, self.store_of, name)})

    async def reported(self, _request: Request) -> Response:
        from dimpoint.labelling.judging import in_project

        places, others = await run_in_threadpool(in_project, self.store_of, self.report)
        return JSONResponse({"places": places, "others": others})

    async def training(self, _request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(self.job.status))

    async def start_training(self, request: Request) -> Response:
        content = await _json(request)

        def work() -> str:
            try:
                minutes = float(content.get("minutes", 15))
            except (TypeError, ValueError, OverflowError):
                minutes = 0.0
            if not 0 < minutes < 1e6:
                raise DataError(f"minutes: a number above 0, got {content['minutes']!r:.40}")
            targets = self.store_of.store.count()["targets"]
            if targets < FEWEST_FRAMES:
                raise DataError(f"training takes {FEWEST_FRAMES} frames with targets; {targets} are labelled")
            self.store_of.export()
            init = str(content.get("init") or "spire-lite")
            asked = str(content.get("held_out") or "auto")
            # frames of a video resemble each other: one scene, of which nothing would be left to train on
            videos = any(source.number is not None for source, _, _ in self.store_of.store.labelled())
            held_out = ("time" if videos else "scene") if asked == "auto" else asked
            return self.job.start(minutes, init, held_out).name

        return JSONResponse({"run": await run_in_threadpool(work)})

    async def stop_training(self, _request: Request) -> Response:
        await run_in_threadpool(self.job.stop)
        return JSONResponse(self.job.status())

    async def use_model(self, request: Request) -> Response:
        content = await _json(request)
        if content.get("model") == "trained":
            if self.job.model is None:
                raise DataError("there is no trained model yet")
            self.store_of.use_model(self.job.model)
        else:
            self.store_of.use_model(None)
        return JSONResponse({"model": self.store_of.model_name, "threshold": self.store_of.threshold})

    async def changes(self, _request: Request) -> Response:
        from dimpoint.labelling.judging import changes

        run = self.job.run
        if run is None or self.job.model is None:
            raise DataError("there is no trained model yet")
        found = await run_in_threadpool(changes, self.store_of, run, self.job.init)
        lists = {key: [asdict(one) for one in found[key]] for key in ("found", "lost", "false", "gone")}
        return JSONResponse(found | lists)

    async def mistakes(self, _request: Request) -> Response:
        from dimpoint.labelling.judging import mistakes

        return JSONResponse([asdict(one) for one in await run_in_threadpool(mistakes, self.store_of)])

    async def agreement(self, _request: Request) -> Response:
        from dimpoint.labelling.exchange import agreements

        return JSONResponse([asdict(one) for one in await run_in_threadpool(agreements, self.store_of)])

    async def import_labels(self, request: Request) -> Response:
        from dimpoint.labelling.exchange import import_labels

        asked = request.query_params.get("name", "").replace("\\", "/").replace("\0", "_")
        name = Path(asked).name.strip(".")
        author, snap = request.query_params.get("author", "")[:80], request.query_params.get("snap") != "0"
        body = await request.body()

        def work() -> dict[str, Any]:
            with tempfile.TemporaryDirectory(prefix="dimpoint-") as folder:
                file = Path(folder) / (name.encode()[-200:].decode(errors="ignore") or "labels.json")
                file.write_bytes(body)
                try:
                    return asdict(import_labels(self.store_of, file, author, snap=snap))
                except DimpointError as error:
                    raise DataError(str(error).replace(f"{folder}/", "")) from None

        return JSONResponse(await run_in_threadpool(work))

    async def export(self, request: Request) -> Response:
        from dimpoint.labelling.exchange import export_labels

        kind = request.query_params.get("format", "coco")
        name, content, lost = await run_in_threadpool(export_labels, self.store_of, kind)
        headers = {"Content-Disposition": f'attachment; filename="{name}"', "X-Regions-Left-Out": f"{lost}"}
        return Response(content, media_type="application/octet-stream", headers=headers)


async def _json(request: Request) -> dict[str, Any]:
    try:
        content = await request.json()
        json.dumps(content, ensure_ascii=False).encode()  # "\ud800" is half a character
    except (ValueError, RecursionError):
        raise DataError("the request is not JSON in UTF-8") from None
    if not isinstance(content, dict):
        raise DataError("the request is not a JSON object")
    return content


def _labels(content: dict[str, Any]) -> Labels:
    try:
        return Labels(
            version=int(content["version"]),
            status=content.get("status", "unlabelled"),
            points=tuple((float(x), float(y)) for x, y in content.get("points", ())),
            regions=tuple(
                (float(a), float(b), float(c), float(d)) for a, b, c, d in content.get("regions", ())
            ),
            rejected=tuple((float(x), float(y)) for x, y in content.get("rejected", ())),
            author=str(content.get("author", ""))[:80],
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        raise DataError("labels take a version, and lists of points, regions and rejected points") from None


def _number(request: Request, name: str, default: int = 0) -> int:
    text = request.path_params.get(name) or request.query_params.get(name, str(default))
    if not text.isdecimal() or len(text) > 15:
        raise DataError(f"{name}: a whole number of at most 15 digits, got {text[:40]!r}")
    return int(text)


def _decimal(request: Request, name: str) -> float:
    try:
        value = float(request.query_params.get(name, ""))
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise DataError(f"{name}: a number is missing")
    return value
