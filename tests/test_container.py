"""Dockerfile, compose file and their page agree with the package; Docker itself is not needed here."""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from dimpoint.cli import build_app

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
LINES = [line.partition(" ")[::2] for line in TEXT.splitlines() if line and not line.startswith("#")]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"]["dimpoint"]
IGNORED = (ROOT / ".dockerignore").read_text("utf-8").split()
PAGE = (ROOT / "docs" / "howto" / "serve.md").read_text("utf-8")


def lines(kind: str) -> list[str]:
    return [rest.strip() for name, rest in LINES if name == kind]


def entry() -> list[str]:
    found: list[str] = json.loads(lines("ENTRYPOINT")[0])
    return found


def port() -> str:
    return entry()[entry().index("--port") + 1]


def copied() -> list[str]:
    return [source for line in lines("COPY") for source in line.split()[:-1]]


def test_what_is_copied_is_there_and_not_ignored() -> None:
    assert copied()
    for source in copied():
        assert (ROOT / source).exists(), source
        assert f"!{source}" in IGNORED, source


def test_the_package_can_be_built_from_what_is_copied() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert {"pyproject.toml", project["readme"], *project["license-files"], "src"} <= set(copied())
    (install,) = [shlex.split(line.partition("&&")[0]) for line in lines("RUN") if "pip install" in line]
    assert install[install.index("-c") + 1] in copied()
    (extra,) = re.findall(r"^\.\[(\w+)\]$", install[-1])
    assert extra in project["optional-dependencies"]


def test_the_base_image_has_a_python_that_the_package_takes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (image,) = lines("FROM")
    version = re.fullmatch(r"python:(\d\.\d+)-slim", image)
    assert version
    assert f"Programming Language :: Python :: {version[1]}" in project["classifiers"]
    assert f"`{image}`" in PAGE


def test_the_user_exists_and_is_not_root() -> None:
    (user,) = lines("USER")
    (added,) = [line for line in lines("RUN") if line.startswith("useradd")]
    name = shlex.split(added)[-1]
    assert f"--uid {user} " in added
    assert int(user) > 0
    assert f"user {user}" in PAGE
    assert lines("WORKDIR")[-1] == f"/home/{name}"


def test_the_command_and_its_options_are_those_of_the_program() -> None:
    program, name, *options = entry()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert program in project["scripts"]
    command: Any = typer.main.get_command(build_app())
    for given in ([], COMPOSE["command"], ["--workers", "4"]):  # the last one is the page's
        command.commands[name].make_context(name, [*options, *given])


def test_one_port_everywhere() -> None:
    assert lines("EXPOSE") == [port()]
    assert COMPOSE["ports"] == [f"127.0.0.1:{port()}:{port()}"]
    assert f"-p 127.0.0.1:{port()}:{port()}" in PAGE


def test_the_token_has_the_name_that_the_program_reads() -> None:
    from dimpoint.cli.serve import TOKEN_VARIABLE

    assert COMPOSE["command"] == ["--token"]
    assert list(COMPOSE["environment"]) == [TOKEN_VARIABLE]
    assert f"{TOKEN_VARIABLE}=secret docker compose up" in PAGE


def test_a_stop_leaves_the_service_its_time() -> None:
    from dimpoint.serving import server

    assert int(COMPOSE["stop_grace_period"].removesuffix("s")) > server._GRACE
    assert "/tmp" in COMPOSE["tmpfs"]  # where the bodies of requests are written
    assert "tempfile" in inspect.getsource(__import__("dimpoint.serving.app", fromlist=["app"]))


@pytest.fixture
def answering() -> Iterator[tuple[HTTPServer, list[str]]]:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200 if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server, asked
    server.shutdown()
    server.server_close()


def test_the_health_check_runs_and_tells(answering: tuple[HTTPServer, list[str]]) -> None:
    from dimpoint.serving import app

    server, asked = answering
    check = json.loads(lines("HEALTHCHECK")[0].partition(" CMD ")[2])
    assert check[:2] == ["python", "-c"]
    assert f"127.0.0.1:{port()}/health" in check[2]
    assert 'Route("/health"' in inspect.getsource(app)
    here = check[2].replace(f":{port()}/", f":{server.server_port}/")
    environment = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
    for command, code in ((here, 0), (here.replace("/health", "/other"), 1)):
        done = subprocess.run([sys.executable, "-c", command], env=environment, capture_output=True)
        assert done.returncode == code
    assert asked == ["/health", "/other"]
