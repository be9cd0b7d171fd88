"""`dimpoint watch` against real servers on the loopback address; each runs in a child process."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from cli_runs import heed_signals
from dimpoint.cli import main
from dimpoint.live.export import events
from stream_server import frames_of
from tiny_models import write_model

HERE = Path(__file__).parent
EXAMPLE = HERE.parent / "examples" / "clips" / "two_drones.mp4"
SECRET = "hunter2secret"

PATIENCE = 300.0  # seconds for what takes a second on an idle machine; no test waits for time to pass

pytestmark = pytest.mark.slow


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Server:
    """A stream server that can be told what to send, and killed.

    port: 0 takes a free one. listen: whether it can be reached at once, or only after `listen()`.
    """

    def __init__(self, kind: str, *clips: str, port: int = 0, listen: bool = True) -> None:
        self.port = free_port(socket.SOCK_DGRAM) if kind == "udp" else port
        words = [sys.executable, str(HERE / "stream_server.py"), kind, str(self.port), *clips]
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=quiet, text=True
        )
        assert self.process.stdout.readline() == "loaded\n"
        if listen:
            self.listen()

    def listen(self) -> None:
        self.tell("listen")
        ready, port = self.process.stdout.readline().split()
        assert ready == "ready"
        self.port = int(port)

    def tell(self, what: str) -> None:
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            pipe.close()


@pytest.fixture
def server() -> Iterator[Callable[..., Server]]:
    made: list[Server] = []

    def make(kind: str, *clips: str, port: int = 0, listen: bool = True) -> Server:
        made.append(Server(kind, *(clips or ("small:160x120",)), port=port, listen=listen))
        return made[-1]

    yield make
    for one in made:
        if one.process.poll() is None:
            one.kill()


class Watch:
    """`dimpoint watch` in a child process, with its `/status`."""

    def __init__(self, folder: Path, source: str, *options: str, env: dict[str, str] | None = None) -> None:
        if not (folder / "blob.onnx").exists():
            write_model(folder / "blob.onnx")
        self.folder, self.address = folder, ""
        words = [sys.executable, "-m", "dimpoint", "watch", source, "--model", "blob.onnx", "--threads", "1"]
        words += ["--events", "events.db", "--status-port", "0", *options]
        self.files = [(folder / name).open("w") for name in ("out.txt", "err.txt")]
        out, err = self.files
        self.process = subprocess.Popen(
            words,
            cwd=folder,
            stdout=out,
            stderr=err,
            env=os.environ | (env or {}),
            preexec_fn=heed_signals,
        )

    def status(self) -> dict:
        if not self.address:
            told = re.search(r"status: (http://\S+)\n", self.text())
            if told is None:
                return {}
            self.address = told[1]
        try:
            with urllib.request.urlopen(self.address, timeout=PATIENCE) as answer:
                return json.load(answer)
        except (urllib.error.URLError, OSError):
            return {}

    def until(self, condition: Callable[[dict], bool]) -> dict:
        end = time.monotonic() + PATIENCE
        while True:
            found = self.status()
            if found and condition(found):
                return found
            assert self.process.poll() is None, self.text()
            if time.monotonic() > end:
                if found and found["passed_over"] > found["searched"] > 0:
                    pytest.skip("this machine is too busy to follow the stream, most frames are passed over")
                pytest.fail(f"{found}\n{self.text()}")
            time.sleep(0.1)

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(PATIENCE)
        for file in self.files:
            file.close()
        return code

    def text(self) -> str:
        return "".join((self.folder / name).read_text() for name in ("out.txt", "err.txt"))


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Callable[..., Watch]]:
    made: list[Watch] = []

    def make(source: str, *options: str, env: dict[str, str] | None = None) -> Watch:
        made.append(Watch(tmp_path, source, *options, env=env))
        return made[-1]

    yield make
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
            one.wait()


def test_a_server_that_is_killed_and_comes_back(server, watch, tmp_path):
    stream = server("http")
    one = watch(f"http://127.0.0.1:{stream.port}/live")
    spare = server("http", port=stream.port, listen=False)
    before = one.until(lambda now: now["tracks"] >= 1)["tracks"]
    stream.kill()
    one.until(lambda now: now["last_frame_s_ago"] > 2.2)  # an interruption, by then
    spare.listen()
    one.until(lambda now: now["reconnects"] >= 1 and now["tracks"] > before)
    assert one.stop() == 143
    text = one.text()
    assert "opened again in 1 s" in text
    assert "frames arrive again" in text
    assert "Traceback" not in text
    tracks = list(events(tmp_path / "events.db"))
    assert len(tracks) >= 2
    assert not any(row["going"] for row in tracks)
    assert {row["reason"] for row in events(tmp_path / "events.db", "interruptions")} == {"no frames"}


def test_a_stream_over_tcp_and_a_status_that_refuses_other_hosts(server, watch):
    stream = server("tcp")
    one = watch(f"tcp://127.0.0.1:{stream.port}")
    found = one.until(lambda now: now["searched"] >= 20)
    assert found["frame_size"] == {"width": 160, "height": 120}
    request = urllib.request.Request(one.address, headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=PATIENCE)
    refused.value.close()
    assert refused.value.code == 403
    assert one.stop(signal.SIGINT) == 130


def test_a_stream_over_udp(server, watch):
    stream = server("udp")
    one = watch(f"udp://127.0.0.1:{stream.port}")
    found = one.until(lambda now: now["searched"] >= 20)
    assert found["frame_size"] == {"width": 160, "height": 120}
    assert one.stop(signal.SIGINT) == 130


def test_stalled_black_frozen_and_of_another_size(server, watch):
    stream = server("http", "small:160x120", "small:128x96")
    one = watch(f"http://127.0.0.1:{stream.port}/live", "--timeout", "2")
    one.until(lambda now: now["searched"] >= 10)
    for what in ("black", "freeze"):
        before = one.status()["searched"]
        stream.tell(what)
        one.until(lambda now, before=before: now["searched"] > before + 5)
        stream.tell("go")
    stream.tell("next")
    one.until(lambda now: now["frame_size"] == {"width": 128, "height": 96})
    before = one.status()["searched"]
    one.until(lambda now: now["searched"] > before + 5)
    stream.tell("stall")
    one.until(lambda now: now["error"] is not None)
    stream.tell("go")
    one.until(lambda now: now["reconnects"] >= 1)
    assert one.stop() == 143
    text = one.text()
    assert "no data for 2 s" in text
    assert "frames are 128x96 from now on" in text


def test_an_unreachable_address_is_given_up_and_its_password_is_nowhere(watch, tmp_path):
    source = f"http://admin:{SECRET}@127.0.0.1:{free_port()}/live?token={SECRET}"
    one = watch(source, "--attempts", "2")
    assert one.wait() == 1
    text = one.text()
    assert "connection refused" in text.lower()
    assert "given up after 2 attempts" in text
    assert SECRET not in text
    assert all(SECRET.encode() not in file.read_bytes() for file in tmp_path.iterdir())


def test_a_wrong_password_is_told_and_never_printed(server, watch, tmp_path):
    stream = server("http")
    source = f"http://admin@127.0.0.1:{stream.port}/secret"
    one = watch(source, "--password-env", "CAMERA", env={"CAMERA": SECRET})
    found = one.until(lambda now: now["state"] == "waiting")
    assert "user or password refused" in found["error"]
    assert found["source"] == f"http://***@127.0.0.1:{stream.port}/secret"
    assert one.stop() == 143
    text = one.text()
    assert "opened again in 30 s" in text
    assert SECRET not in text + json.dumps(found)
    assert all(SECRET.encode() not in file.read_bytes() for file in tmp_path.iterdir())


RULES = """
alarms: [{name: drone, min_duration: 0.3}]
clip: {before: 0.5, after: 0.5, most: 1.5}
command: {run: [touch, ran.txt]}
"""


def test_an_alarm_gives_a_line_a_clip_and_a_command(server, watch, tmp_path):
    (tmp_path / "rules.yaml").write_text(RULES)
    stream = server("http")
    one = watch(f"http://127.0.0.1:{stream.port}/live", "--rules", "rules.yaml", "--out", "kept")
    found = one.until(lambda now: now["clips"]["written"] >= 1)
    assert found["alarms"] >= 1
    assert one.stop() == 143
    assert "ALARM" in (tmp_path / "out.txt").read_text()
    assert (tmp_path / "ran.txt").exists()
    first = next(events(tmp_path / "events.db", "alarms"))
    with av.open(str(tmp_path / first["clip"])) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert times[-1] >= 1.0


def test_a_full_disk_is_told_of_and_watching_goes_on(server, watch, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(small)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        (tmp_path / "rules.yaml").write_text(RULES)
        stream = server("http")
        one = watch(f"http://127.0.0.1:{stream.port}/live", "--rules", "rules.yaml", "--out", str(small))
        before = one.until(lambda now: now["clips"]["failed"] >= 1)["searched"]
        one.until(lambda now: now["searched"] > before + 10)
        assert one.stop() == 143
        assert "clip not written, watching goes on" in one.text()
        assert not list((small / "clips").iterdir())
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_folder_of_files_with_a_broken_one(watch, tmp_path):
    folder = tmp_path / "drop"
    folder.mkdir()
    one = watch(str(folder), "--fps", "30")
    one.until(lambda now: now["state"] == "connecting")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for number, frame in enumerate(frames_of("small:160x120")[:9]):
        cv2.imwrite(str(folder / f".{number:03d}.png"), frame)
        (folder / f".{number:03d}.png").rename(folder / f"{number:03d}.png")
        one.until(lambda now, number=number: now["searched"] > number)  # a burst would be thinned
    one.until(lambda now: now["tracks"] == 1 and now["unreadable"] == 1)
    assert one.stop() == 143
    assert "broken.png" in one.text()


@pytest.fixture(scope="module")
def rtsp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """An RTSP server with a password, from Debian's GStreamer; its port."""
    clip = tmp_path_factory.mktemp("rtsp") / "loop.mp4"
    frames = frames_of(str(EXAMPLE))
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 320, 256, "yuv420p"
        stream.bit_rate, stream.gop_size = 4_000_000, 15
        for number in range(1800):
            picture = av.VideoFrame.from_ndarray(frames[number % len(frames)], format="gray")
            picture.pts, picture.time_base = number, Fraction(1, 30)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    words = ["/usr/bin/python3", str(HERE / "rtsp_server.py"), str(clip), "me", SECRET]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    try:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
    except OSError:
        pytest.skip("no Python of the system")
    line = process.stdout.readline().split()
    if line[:1] != [b"ready"]:
        process.wait()
        process.stdout.close()
        pytest.skip("no gir1.2-gst-rtsp-server-1.0, python3-gi and GStreamer plugins")
    yield int(line[1])
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("password", [SECRET, "wrong-password"], ids=["right", "wrong"])
def test_rtsp_with_a_password(rtsp, watch, tmp_path, password):
    one = watch(f"rtsp://me:{password}@127.0.0.1:{rtsp}/live")
    if password == SECRET:
        found = one.until(lambda now: now["searched"] > 30)
        assert found["frame_size"] == {"width": 320, "height": 256}
    else:
        found = one.until(lambda now: now["state"] == "waiting")
        assert "user or password refused" in found["error"]
    assert one.stop() == 143
    assert password not in one.text() + json.dumps(found)
    assert all(password.encode() not in file.read_bytes() for file in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "nowhere: not found; expected a folder, a camera"),
        (("file:///etc/passwd",), "no address of a stream"),
        (("clip.mp4",), "use `dimpoint track` for recorded videos"),
        ((".", "--rules", "none.yaml"), "none.yaml"),
        ((".", "--rules", "rules.yaml"), "rules.yaml: unknown key 'alarm'"),
        ((".", "--polarity", "red"), "polarity must be"),
        ((".", "--timeout", "0"), "--timeout: must be above 0"),
        ((".", "--fps", "nan"), "--fps: must be above 0"),
        ((".", "--candidate-score", "2"), "--candidate-score: must be in 0..1"),
        ((".", "--events", "clip.mp4"), "clip.mp4: cannot be opened as an event store"),
        ((".", "--camera-memory", "clip.mp4"), "is no camera memory"),
        ((".", "--password-env", "NOT_SET_AT_ALL"), "NOT_SET_AT_ALL is not set"),
        (("rtsp://host/", "--password-env", "HOME"), "names no user"),
        (("ftp://me:hunter2secret@host/",), "ftp://***@host/"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "blob.onnx")
    (tmp_path / "clip.mp4").write_bytes(np.arange(4000, dtype=np.uint8).tobytes())
    (tmp_path / "rules.yaml").write_text("alarm: []")
    monkeypatch.setattr(sys, "argv", ["dimpoint", "watch", *arguments, "--model", "blob.onnx"])
    with pytest.raises(SystemExit) as stop:
        main()
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert message in said
    assert SECRET not in said
    assert said.startswith("error: ")
    assert said.count("\n") == 1


def test_events_are_listed_and_exported(tmp_path, monkeypatch, capsys):
    from dimpoint.live.events import EventStore

    path = tmp_path / "events.db"
    EventStore(path, source="udp://x", model="blob", version="1", warn=pytest.fail).close()

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["dimpoint", "events", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out + printed.err

    assert run(str(path)) == (0, "no tracks\n")
    assert run(str(path), "--format", "json", "--show", "alarms") == (0, "[]\n")
    assert run(str(path), "--out", str(tmp_path / "e.csv"), "--format", "csv")[0] == 0
    for wrong in (("--show", "birds"), ("--format", "xml"), ("--since", "noon")):
        code, said = run(str(path), *wrong)
        assert (code, wrong[1] in said) == (2, True)
    assert run(str(tmp_path / "none.db"))[0] == 2
