"""`dimpoint serve`: frames in, detections out, and what it refuses."""

from __future__ import annotations

import io
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
import tifffile

import dimpoint
from dimpoint.serving.app import frame_of
from dimpoint.sources import Frame

COMMAND = [sys.executable, "-c", "from dimpoint.cli import main; main()", "serve", "--port", "0"]
SPOTS = [(40.3, 30.6), (150.2, 60.4), (90.5, 120.1)]


def scene() -> np.ndarray:
    """160 x 200, 16 bit, three blobs."""
    y, x = np.mgrid[:160, :200]
    frame = 6000 + 20 * np.random.default_rng(0).standard_normal((160, 200))
    for px, py in SPOTS:
        frame += 900 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * 1.3**2))
    return frame.astype(np.uint16)


def png(frame: np.ndarray) -> bytes:
    return cv2.imencode(".png", frame)[1].tobytes()


@contextmanager
def service(*options: str, **environment: str) -> Iterator[tuple[httpx.Client, subprocess.Popen[str]]]:
    process = subprocess.Popen(
        [*COMMAND, *options], stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )
    assert process.stdout is not None
    try:
        match = re.search(r"http://\S+", process.stdout.readline())
        assert match
        with httpx.Client(base_url=match[0], timeout=60) as client:
            for _ in range(100):
                try:
                    client.get("/ready")
                    break
                except httpx.ConnectError:
                    time.sleep(0.1)
            yield client, process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def connected(client: httpx.Client) -> socket.socket:
    return socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=20)


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with service("--workers", "1", "--max-mb", "1") as (client, _):
        yield client


def test_an_image_and_raw_counts_give_what_the_detector_gives(client: httpx.Client) -> None:
    frame = scene()
    expected = dimpoint.load(threads=1)(frame).to_dict()["detections"]
    tiff = io.BytesIO()
    tifffile.imwrite(tiff, frame)
    bodies = [
        (png(frame), {"content-type": "image/png"}, {}),
        (tiff.getvalue(), {"content-type": "image/tiff"}, {}),
        (frame.astype("<u2").tobytes(), {}, {"shape": "160x200", "dtype": "uint16"}),
    ]
    for body, headers, params in bodies:
        answer = client.post("/v1/detect", content=body, headers=headers, params=params)
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert (found["model"], found["width"], found["height"]) == ("spire-lite", 200, 160)
        for key in ("x", "y", "score"):
            np.testing.assert_allclose(
                [one[key] for one in found["detections"]], [one[key] for one in expected], atol=1e-3
            )
    assert len(expected) == 3


def test_a_batch_lists_the_file_that_is_no_image(client: httpx.Client) -> None:
    files = [
        ("files", ("a.png", png(scene()), "image/png")),
        ("files", ("b.png", b"no picture", "image/png")),
        ("files", ("c.png", png(scene()[:40, :50]), "image/png")),
    ]
    answer = client.post("/v1/detect/batch", files=files).json()["images"]
    assert [each["file"] for each in answer] == ["a.png", "b.png", "c.png"]
    assert [len(each.get("detections", [])) for each in answer] == [3, 0, 1]
    assert "the image" in answer[1]["error"]


def test_files_whose_type_curl_does_not_know(client: httpx.Client) -> None:
    """curl -F sends .tif and .npy as application/octet-stream; the name's ending says what they are."""
    tiff, array = io.BytesIO(), io.BytesIO()
    tifffile.imwrite(tiff, scene())
    np.save(array, scene())
    unknown = "application/octet-stream"
    files = [
        ("files", ("a.tif", tiff.getvalue(), unknown)),
        ("files", ("b.npy", array.getvalue(), unknown)),
        ("files", ("c.dat", array.getvalue(), unknown)),
    ]
    answer = client.post("/v1/detect/batch", files=files).json()["images"]
    assert [len(each.get("detections", [])) for each in answer] == [3, 3, 0]
    assert "Content-Type application/octet-stream is not accepted, but image/png" in answer[2]["error"]


def test_pixels_of_no_data_are_no_measurements() -> None:
    counts = scene().astype(np.float32)
    counts[5::20, 3::20] = -9999
    tiff = io.BytesIO()
    tifffile.imwrite(tiff, counts, extratags=[(42113, "s", 0, "-9999", True)])
    frame = frame_of(tiff.getvalue(), "image/tiff", None, None)
    assert isinstance(frame, Frame)
    assert frame.valid is not None
    np.testing.assert_array_equal(frame.valid, counts >= 0)
    assert len(dimpoint.load(threads=1)(frame)) == 3


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/v1/detect", 405, "/v1/detect takes POST, not GET"),
        ("POST", "/health", 405, "/health takes GET, not POST"),
        ("GET", "/", 404, "there is no /; /openapi.json describes the addresses"),
    ],
)
def test_addresses_and_methods_that_are_not_there(
    client: httpx.Client, method: str, path: str, status: int, words: str
) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.json()["error"]) == (status, words)


def test_a_decompression_bomb_is_refused_by_its_header(client: httpx.Client) -> None:
    """300 kB that unpack to 289 million pixels, more than a frame may have."""
    side = 17_000
    packer, row = zlib.compressobj(6), bytes(1 + side)
    rows = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    body = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    )
    assert len(body) < 1 << 20
    answer = client.post("/v1/detect", content=body, headers={"content-type": "image/png"})
    assert answer.status_code == 422
    assert "17000 x 17000 pixels" in answer.json()["error"]


def test_a_higher_threshold_leaves_out_targets(client: httpx.Client) -> None:
    headers = {"content-type": "image/png"}
    answer = client.post("/v1/detect?threshold=1", content=png(scene()), headers=headers)
    assert answer.json()["detections"] == []


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "words"),
    [
        ("", b"", {"content-type": "image/png"}, 422, "no body"),
        ("", b"no image", {"content-type": "image/png"}, 422, "the image"),
        ("", png(np.zeros((9, 9), np.uint8))[:40], {"content-type": "image/png"}, 422, "the image"),
        ("", b"x" * 99, {"content-type": "text/plain"}, 422, "text/plain is not accepted, but image/png"),
        ("", b"x", {"content-type": "multipart/form-data; boundary=a"}, 422, "go to /v1/detect/batch"),
        ("?shape=9x9", b"x" * 99, {"content-type": "image/png"}, 422, "raw counts need both shape"),
        ("?shape=9x9&dtype=uint16", b"x" * 99, {}, 422, "takes 162 bytes"),
        ("?shape=9x9&dtype=complex", b"x" * 99, {}, 422, "dtype: one of"),
        ("?shape=9&dtype=uint8", b"x" * 99, {}, 422, "shape: HEIGHTxWIDTH"),
        ("?shape=0x0&dtype=uint8", b"x", {}, 422, "at least one pixel"),
        ("?shape=999999x999999&dtype=uint8", b"x", {}, 422, "limit"),
        ("?threshold=two", b"x", {}, 422, "threshold"),
        ("", b"x" * (2 << 20), {"content-type": "image/png"}, 413, "at most 1048576 bytes"),
        ("/batch", b"x", {"content-type": "image/png"}, 415, "multipart"),
        ("/batch", b"x", {"content-type": "multipart/form-data; boundary=a"}, 400, "multipart"),
        ("/batch", b"x", {"content-type": "multipart/form-data"}, 400, "boundary"),
    ],
    ids=[
        "0 bytes", "no image", "cut image", "unknown type", "a form", "no dtype", "wrong size",
        "wrong dtype", "wrong shape", "empty shape", "huge shape", "wrong threshold",
        "too large", "no form", "empty form",
        "form without boundary",
    ],
)  # fmt: skip
def test_bad_requests_get_a_reason(
    client: httpx.Client, path: str, body: bytes, headers: dict[str, str], status: int, words: str
) -> None:
    answer = client.post(f"/v1/detect{path}", content=body, headers=headers)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["error"]
    assert client.get("/health").status_code == 200


def test_five_gigabytes_announced_are_refused_before_they_come(client: httpx.Client) -> None:
    with connected(client) as link:
        link.sendall(b"POST /v1/detect HTTP/1.1\r\nHost: a\r\nContent-Length: 5368709120\r\n\r\n")
        assert b"413" in link.recv(100)


def test_metrics_count_what_was_done(client: httpx.Client) -> None:
    client.post("/v1/detect", content=png(scene()), headers={"content-type": "image/png"})
    text = client.get("/metrics").text
    assert re.search(r'^dimpoint_requests_total\{status="200"\} [1-9]', text, re.M)
    assert re.search(r"^dimpoint_frames_total [1-9]", text, re.M)


def test_metrics_count_the_frames_of_a_batch(client: httpx.Client) -> None:
    def counts() -> list[float]:
        text = client.get("/metrics").text
        return [float(one) for one in re.findall(r"^dimpoint_(?:frames|targets)_total (.*)", text, re.M)]

    before = counts()
    bodies = [png(scene()), b"no picture", png(scene())]
    files = [("files", (f"{number}.png", body, "image/png")) for number, body in enumerate(bodies)]
    client.post("/v1/detect/batch", files=files)
    assert np.subtract(counts(), before).tolist() == [2, 6]


def test_the_token_is_asked_for() -> None:
    with service("--token", DIMPOINT_TOKEN="secret") as (client, _):
        assert client.get("/health").status_code == 200
        assert client.get("/v1/model").status_code == 401
        assert client.get("/v1/model", headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert (
            client.get("/v1/model", headers={"Authorization": "Bearer secret"}).json()["name"] == "spire-lite"
        )


def test_a_client_that_sends_a_byte_a_second_is_cut_off() -> None:
    with service("--timeout", "1.5") as (client, _), connected(client) as link:
        link.sendall(b"POST /v1/detect HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\n")
        link.settimeout(1)
        answer = b""
        for _ in range(20):  # each byte comes in time for the last one, the body does not
            with suppress(TimeoutError):
                answer = link.recv(100)
                break
            link.sendall(b"x")
        assert b"408" in answer
        assert client.get("/health").status_code == 200


def test_more_than_may_wait_get_429_and_the_queue_does_not_grow() -> None:
    body, statuses = png(np.tile(scene(), (6, 6))), []
    with service("--workers", "1", "--queue", "1") as (client, _):

        def post() -> None:
            headers = {"content-type": "image/png"}
            answer = httpx.post(f"{client.base_url}/v1/detect", content=body, headers=headers, timeout=60)
            statuses.append(answer.status_code)

        threads = [threading.Thread(target=post) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert set(statuses) == {200, 429}
    assert statuses.count(200) >= 2


def test_a_stop_lets_the_running_request_end() -> None:
    body, answers = png(np.tile(scene(), (8, 8))), []
    with service("--workers", "1") as (client, process):

        def post() -> None:
            headers = {"content-type": "image/png"}
            answer = httpx.post(f"{client.base_url}/v1/detect", content=body, headers=headers, timeout=60)
            answers.append(answer.status_code)

        thread = threading.Thread(target=post)
        thread.start()
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        thread.join()
        assert process.wait(60) in (0, -signal.SIGTERM, 143)
    assert answers == [200]


def test_a_port_in_use_and_a_missing_token_are_one_line(client: httpx.Client) -> None:
    for options, words in (
        (["--port", str(client.base_url.port)], "cannot listen there"),
        (["--token"], "DIMPOINT_TOKEN is not set"),
    ):
        done = subprocess.run([*COMMAND, *options], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert words in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_the_description_is_kept(client: httpx.Client, tmp_path: Path) -> None:
    """Schemathesis makes requests from the OpenAPI description; every answer must be as described."""
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{client.base_url}/openapi.json"]
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    done = subprocess.run(
        [*command, "--max-examples", "20", "--seed", "1", "--checks", checks, "--no-color"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
