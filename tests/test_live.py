"""Parts of `dimpoint watch`, each alone: addresses, clock, folder, rules, queue, ring, store, capture."""

from __future__ import annotations

import csv
import http.server
import io
import itertools
import json
import sqlite3
import subprocess
import sys
import threading
import time
from datetime import time as time_of_day
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from dimpoint.errors import ConfigError, DataError
from dimpoint.inference.detector import Detector
from dimpoint.live.address import Address, shown
from dimpoint.live.cameras import LostError, RefusedError, Shot
from dimpoint.live.capture import Capture, Captured, LiveClock
from dimpoint.live.clips import ClipWriter, Ring
from dimpoint.live.command import CommandRunner, filled
from dimpoint.live.events import EventStore, open_store
from dimpoint.live.export import as_csv, as_json, columns, events
from dimpoint.live.folder import FolderCamera
from dimpoint.live.judge import Judge, Sight, inside
from dimpoint.live.rules import AlarmRule, ClipRule, Command, Rules, Webhook, read_rules
from dimpoint.live.status import status, status_line
from dimpoint.live.watch import Outputs, Watcher
from dimpoint.live.webhook import WebhookQueue
from dimpoint.tracking.tracker import Tracker
from tiny_models import write_model
from track_scenes import detections


def until(condition, seconds: float = 10.0) -> None:
    """Wait for something that another thread does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rtsp://host:554/live", "rtsp://host:554/live"),
        ("rtsp://admin:hunter2@host/live", "rtsp://***@host/live"),
        ("RTSP://admin:hunter2@host/live", "rtsp://***@host/live"),
        ("rtsp://admin@host/live", "rtsp://***@host/live"),
        ("rtsp://admin:hun/ter2@host/live", "rtsp://***@host/live"),  # / not escaped
        ("rtsp://admin:hun@ter2@host/live", "rtsp://***@host/live"),  # @ not escaped
        ("rtsp://admin:hun?ter2@host/live", "rtsp://***@host/live"),  # ? not escaped
        ("http://host/video?user=admin&pwd=hunter2", "http://host/video?user=***&pwd=***"),
        ("http://host/v;pass=hunter2?a=hunter2;b=hunter2", "http://host/v;pass=***?a=***&b=***"),
        ("rtsp://host/user=admin_password=hunter2_channel=1.sdp", "rtsp://host/user=***"),
        ("http://host:80/stream?mail=a@b", "http://host:80/stream?mail=***"),
        ("udp://127.0.0.1:5000", "udp://127.0.0.1:5000"),
        ("frames/night", "frames/night"),
    ],
)
def test_addresses_are_shown_without_secrets(text, expected):
    assert shown(text) == expected


@pytest.mark.parametrize(
    "text", ["file:///etc/passwd", "ftp://host/x", "concat://a", "frames", "rtsp:/x", ""]
)
def test_what_is_no_address(text):
    with pytest.raises(ConfigError, match="no address of a stream"):
        Address(text)


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("rtsp://me:a/b@127.0.0.1:554/live", False),
        ("http://no-such-host.invalid/live?x=a@127.0.0.1", True),
        (f"http://{'a' * 64}/", True),
        ("udp://[::1]:1234", False),
    ],
)
def test_a_host_name_that_nobody_knows(text, unknown):
    assert Address(text).host_is_unknown == unknown


def test_secrets_are_taken_out_of_messages():
    address = Address("rtsp://admin:hun%40ter2@host/live?token=abcdef")
    said = address.scrub(f"401 for '{address.url}', user admin, hun@ter2, hun%40ter2, abcdef")
    assert "hun" not in said
    assert "abcdef" not in said
    assert "hun" not in repr(address)


def test_a_password_from_the_environment_is_escaped():
    address = Address("rtsp://admin@host/live", "a@b/c")
    assert address.url == "rtsp://admin:a%40b%2Fc@host/live"
    with pytest.raises(ConfigError, match="names no user"):
        Address("rtsp://host/live", "x")


class TestClock:
    def run(self, *rows):
        clock = LiveClock()
        return [clock(presented, arrived) for presented, arrived in rows]

    def test_presentation_times_count_not_those_of_arrival(self):
        times = self.run((5.0, 100.0), (5.1, 100.3), (5.2, 100.31))
        assert times == pytest.approx([0, 0.1, 0.2])

    @pytest.mark.parametrize("jump", [-1000.0, 1000.0, 0.0], ids=["backwards", "ahead", "repeated"])
    def test_times_that_jump_are_replaced_by_those_of_arrival(self, jump):
        times = self.run((5.0, 100.0), (5.1, 100.1), (5.1 + jump, 100.2), (5.2 + jump, 100.3))
        assert times == pytest.approx([0, 0.1, 0.2, 0.3])

    def test_without_times_arrival_counts(self):
        assert self.run((None, 100.0), (None, 100.5)) == pytest.approx([0, 0.5])

    def test_it_always_increases(self):
        times = self.run(*((None, 100.0) for _ in range(5)))
        assert all(one < two for one, two in itertools.pairwise(times))


class FakeCamera:
    """Gives what a list says: frames, and errors in between."""

    shown = "camera"
    passed_over = 0

    def __init__(self, *parts):
        self.parts = list(parts)

    def shots(self, stop, note):
        while self.parts:
            part = self.parts.pop(0)
            if isinstance(part, Exception):
                raise part
            yield part
        while not stop():
            time.sleep(0.005)


def shot(value: int = 0, at: float | None = None) -> Shot:
    return Shot(np.full((4, 6), value, np.uint8), at, time.monotonic())


class TestCapture:
    @pytest.fixture(autouse=True)
    def _short_pauses(self, monkeypatch):
        monkeypatch.setattr("dimpoint.live.capture._FIRST_PAUSE", 0.01)
        monkeypatch.setattr("dimpoint.live.capture._REFUSED_PAUSE", 0.02)

    def test_a_burst_loses_nothing_and_old_frames_are_passed_over(self):
        capture = Capture(FakeCamera(*(shot(n, n / 30) for n in range(10))), note=lambda _: None)
        capture.start()
        until(lambda: capture.health.frames == 10)
        first = [capture.take(0).pixels[0, 0] for _ in range(3)]
        time.sleep(0.3)
        newest = capture.take(0)
        capture.stop()
        assert first == [0, 1, 2]
        assert (newest.pixels[0, 0], newest.number) == (9, 9)
        assert capture.passed_over == 6
        assert capture.take(0) is None

    def test_a_slow_reader_holds_a_bounded_number_of_frames(self):
        capture = Capture(FakeCamera(*(shot(n % 256, n / 30) for n in range(500))), note=lambda _: None)
        capture.start()
        until(lambda: capture.health.frames == 500)
        capture.stop()
        assert len(capture._waiting) <= 32

    def test_a_lost_source_is_opened_again(self):
        notes: list[str] = []
        camera = FakeCamera(shot(1, 0), LostError("gone"), LostError("gone"), shot(2, 0))
        capture = Capture(camera, note=notes.append)
        capture.start()
        until(lambda: capture.health.frames == 2)
        capture.stop()
        assert capture.health.reconnects == 1
        assert [note for note in notes if "gone" in note] == ["camera: gone; opened again in 0.01 s"]
        assert "frames arrive again" in notes[-1]

    def test_pauses_grow_and_attempts_are_counted(self):
        notes: list[str] = []
        camera = FakeCamera(*(LostError(f"no {n}") for n in range(4)))
        capture = Capture(camera, note=notes.append, attempts=4)
        capture.start()
        until(lambda: capture.ended)
        assert [note.split("again in ")[1] for note in notes[:3]] == ["0.01 s", "0.02 s", "0.04 s"]
        assert "given up after 4 attempts" in notes[3]
        assert capture.take(0) is None

    def test_a_refusal_waits_longer(self):
        notes: list[str] = []
        capture = Capture(FakeCamera(RefusedError("wrong"), shot()), note=notes.append)
        capture.start()
        until(lambda: capture.health.frames == 1)
        capture.stop()
        assert notes[0].endswith("in 0.02 s")

    def test_a_fault_in_a_decoder_does_not_end_the_watch(self):
        capture = Capture(FakeCamera(RuntimeError("secret"), shot()), note=lambda _: None)
        capture.start()
        until(lambda: capture.health.frames == 1)
        capture.stop()


class TestFolder:
    @pytest.fixture(autouse=True)
    def _short_times(self, monkeypatch):
        monkeypatch.setattr("dimpoint.live.folder._SETTLED", 0.05)
        monkeypatch.setattr("dimpoint.live.folder._GIVEN_UP", 0.3)
        monkeypatch.setattr("dimpoint.live.folder._LEAST_PAUSE", 0.01)

    @pytest.fixture
    def follow(self, tmp_path):
        """Begin to watch the folder; gives the shots and notes so far."""
        ends: list[threading.Event] = []

        def begin():
            shots, notes, end = [], [], threading.Event()
            camera = FolderCamera(tmp_path)
            ready = threading.Event()

            def stop():
                ready.set()
                return end.is_set()

            def read():
                for one in camera.shots(stop, notes.append):
                    shots.append(one)

            thread = threading.Thread(target=read)
            thread.start()
            ends.append((end, thread))
            assert ready.wait(5)
            return camera, shots, notes

        yield begin
        for end, thread in ends:
            end.set()
            thread.join(5)

    def write(self, path: Path, value: int) -> None:
        cv2.imwrite(str(path), np.full((8, 9), value, np.uint8))

    def test_new_files_are_frames_and_old_ones_are_not(self, follow, tmp_path):
        self.write(tmp_path / "old.png", 1)
        _, shots, notes = follow()
        self.write(tmp_path / "a.png", 2)
        until(lambda: len(shots) == 1)
        self.write(tmp_path / "b.png", 3)
        until(lambda: len(shots) == 2)
        assert [int(one.pixels[0, 0]) for one in shots] == [2, 3]
        assert notes == ["1 file that is in the folder already is passed over"]

    def test_a_file_that_is_overwritten_is_a_new_frame(self, follow, tmp_path):
        _, shots, _ = follow()
        for value in (5, 6):
            self.write(tmp_path / "snapshot.png", value)
            until(lambda: shots and shots[-1].pixels[0, 0] == value)  # noqa: B023

    def test_a_file_renamed_into_its_place(self, follow, tmp_path):
        _, shots, _ = follow()
        self.write(tmp_path / ".upload.png", 7)
        time.sleep(0.2)
        assert shots == []
        (tmp_path / ".upload.png").rename(tmp_path / "done.png")
        until(lambda: len(shots) == 1)

    def test_a_file_that_is_still_written_is_not_read_half(self, follow, tmp_path):
        camera, shots, notes = follow()
        rng = np.random.default_rng(0)
        content = cv2.imencode(".png", rng.integers(0, 255, (60, 60), np.uint8))[1].tobytes()
        with (tmp_path / "slow.png").open("wb") as file:
            for at in range(0, len(content), 700):
                time.sleep(0.1)  # longer than it takes to settle: read, refused, tried again
                assert shots == []
                file.write(content[at : at + 700])
                file.flush()
        until(lambda: len(shots) == 1)
        assert shots[0].pixels.shape == (60, 60)
        assert camera.broken == 0
        assert notes == []

    def test_a_broken_file_is_told_of_and_the_next_is_read(self, follow, tmp_path):
        camera, shots, notes = follow()
        (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
        (tmp_path / "readme.txt").write_text("not a picture")
        self.write(tmp_path / "whole.png", 9)
        until(lambda: camera.broken == 1)
        assert len(shots) == 1
        assert len(notes) == 1
        assert "broken.png" in notes[0]

    def test_all_old_files_that_a_look_may_list_are_remembered(self, follow, tmp_path, monkeypatch):
        monkeypatch.setattr("dimpoint.live.folder._REMEMBERED", 3)
        for number in range(8):
            self.write(tmp_path / f"old{number}.png", number)
        _, shots, _ = follow()
        self.write(tmp_path / "new.png", 9)
        until(lambda: bool(shots))
        assert [one.name for one in shots] == ["new.png"]

    def test_pixels_of_no_data_are_known(self, follow, tmp_path):
        _, shots, _ = follow()
        counts = np.full((8, 9), 700, np.uint16)
        counts[2:4, 5] = 9
        tifffile.imwrite(tmp_path / "a.tif", counts, extratags=[(42113, "s", 0, "9", True)])
        until(lambda: bool(shots))
        assert (shots[0].pixels == 700).all()
        np.testing.assert_array_equal(shots[0].valid, counts > 9)

    def test_files_that_are_gone_are_forgotten(self, tmp_path, monkeypatch):
        monkeypatch.setattr("dimpoint.live.folder._REMEMBERED", 3)
        camera = FolderCamera(tmp_path)
        for number in range(8):
            self.write(tmp_path / f"{number}.png", number)
        camera._begin(lambda _: None)
        for file in tmp_path.iterdir():
            file.unlink()
        camera._look(0.0)
        assert len(camera._done) == 3

    def test_a_folder_that_goes_away_is_lost(self, tmp_path):
        camera = FolderCamera(tmp_path / "none")
        with pytest.raises(LostError, match="cannot be read"):
            next(camera.shots(lambda: False, lambda _: None))


RULES = """
zones:
  runway: [[0, 0], [100, 0], [100, 50], [0, 50]]
  mast: [[10, 10], [20, 10], [20, 20], [10, 20]]
alarms:
  - name: drone
    watch: [runway]
    ignore: [mast]
    min_duration: 1.0
    min_speed: 2
    max_speed: 200
    min_score: 0.5
    hours: 22:00-06:00
webhook: {url: "https://example.org/hook", timeout: 3}
command: {run: [notify, "{rule}"]}
clip: {before: 3, after: 2}
"""


def test_rules_are_read(tmp_path):
    (tmp_path / "rules.yaml").write_text(RULES)
    rules = read_rules(tmp_path / "rules.yaml")
    assert rules.alarms[0].hours == ["22:00-06:00"]
    assert rules.clip.before == 3
    assert rules.command.run == ["notify", "{rule}"]


def test_the_documented_rules_are_right(tmp_path):
    page = (Path(__file__).parents[1] / "docs" / "howto" / "watch.md").read_text("utf-8")
    (tmp_path / "rules.yaml").write_text(page.split("```yaml\n")[1].split("```")[0])
    assert read_rules(tmp_path / "rules.yaml").alarms[0].ignore == ["mast"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("min_speed", "min_sped", "unknown key 'alarms.0.min_sped'; did you mean 'min_speed'?"),
        ("alarms:", "alarm:", "unknown key 'alarm'; did you mean 'alarms'?"),
        ("name: drone", "title: drone", "missing key 'alarms.0.name'"),
        ("min_score: 0.5", "min_score: 5", "alarms.0.min_score"),
        ("min_speed: 2", "min_speed: .nan", "alarms.0.min_speed"),
        ("max_speed: 200", "max_speed: 1", "alarms.0.max_speed: is below min_speed"),
        ("[runway]", "[taxiway]", "alarms.0.watch: no zone 'taxiway'; zones are runway, mast"),
        ("22:00-06:00", "22-6", "alarms.0.hours: '22-6' is no span of hours"),
        (", [100, 50], [0, 50]]", "]", "zones.runway: a zone has at least three corners"),
        ("[100, 50], [0, 50]", "[50, 0], [20, 0]", "zones.runway: the zone has no area"),
        ("[100, 0], [100, 50], [0, 50]", "[100, 60], [100, 0], [0, 50]", "zones.runway: two sides"),
        ("[0, 0]", "[.inf, 0]", "zones.runway.0.0"),
        ("https://example.org", "https://me:pw@example.org", "webhook.url"),
        ("https://example.org", "https://example.org:99999", "webhook.url"),
        ("https://example.org", "https://example.org:0", "webhook.url"),
        ("https://example.org", "https://example.org:abc", "webhook.url"),
        ("https://example.org", "https://[::1", "webhook.url"),
        ("https://example.org", "https://:80", "webhook.url"),
        ('run: [notify, "{rule}"]', "run: notify", "command.run"),
        ('run: [notify, "{rule}"]', "run: []", "command.run"),
        ("before: 3", "before: -3", "clip.before"),
        ("mast:", "runway:", "the key 'runway' stands twice"),
        ("zones:", "- zones:", "not valid YAML"),
    ],
)
def test_wrong_rules_are_named_by_file_and_key(tmp_path, old, new, said):
    file = tmp_path / "rules.yaml"
    assert old in RULES
    file.write_text(RULES.replace(old, new, 1))
    with pytest.raises(ConfigError) as error:
        read_rules(file)
    assert str(error.value).startswith(f"{file}: ")
    assert said in str(error.value)
    assert "pw" not in str(error.value).replace("rules", "")


@pytest.mark.parametrize("text", ["", "[]", "text", "webhook: {url: 'http://x/'}", "{", "a: &a [*a]"])
def test_what_is_no_file_of_rules(tmp_path, text):
    (tmp_path / "rules.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"rules\.yaml: "):
        read_rules(tmp_path / "rules.yaml")


def sight(**changes) -> Sight:
    return Sight(**({"track": 1, "x": 50, "y": 30, "speed": 10, "score": 0.8, "duration": 2} | changes))


class TestJudge:
    def judge(self, **rule) -> Judge:
        zones = {
            "runway": [(0, 0), (100, 0), (100, 50), (0, 50)],
            "mast": [(10, 10), (20, 10), (20, 20), (10, 20)],
        }
        return Judge(Rules(zones=zones, alarms=[AlarmRule(name="a", **rule)]))

    @pytest.mark.parametrize(
        ("rule", "seen", "raised"),
        [
            ({}, {}, True),
            ({"watch": ["runway"]}, {}, True),
            ({"watch": ["runway"]}, {"x": 150}, False),
            ({"watch": ["runway"], "ignore": ["mast"]}, {"x": 15, "y": 15}, False),
            ({"min_duration": 3}, {}, False),
            ({"min_speed": 20}, {}, False),
            ({"max_speed": 5}, {}, False),
            ({"min_score": 0.9}, {}, False),
        ],
    )
    def test_what_raises_an_alarm(self, rule, seen, raised):
        assert bool(list(self.judge(**rule).alarms([sight(**seen)], 1e9, (200, 100)))) is raised

    def test_one_alarm_for_a_track(self):
        judge = self.judge()
        assert len(list(judge.alarms([sight()], 1e9, (200, 100)))) == 1
        assert list(judge.alarms([sight()], 1e9 + 1, (200, 100))) == []
        assert list(judge.alarms([], 1e9 + 2, (200, 100), {1})) == []  # lost for a moment
        assert list(judge.alarms([sight()], 1e9 + 3, (200, 100))) == []
        assert len(list(judge.alarms([sight(track=2)], 1e9 + 3, (200, 100)))) == 1
        list(judge.alarms([], 1e9 + 4, (200, 100)))
        assert judge._raised == set()  # nothing is kept of tracks that are gone

    def test_a_pause_between_alarms(self):
        judge = self.judge(pause=10)
        assert len(list(judge.alarms([sight(), sight(track=2)], 1e9, (200, 100)))) == 1
        assert list(judge.alarms([sight(track=2)], 1e9 + 9, (200, 100))) == []
        assert len(list(judge.alarms([sight(track=2)], 1e9 + 11, (200, 100)))) == 1

    def test_a_pause_ends_when_the_clock_is_set_back(self):
        judge = self.judge(pause=10)
        assert list(judge.alarms([sight()], 1e9, (200, 100)))
        assert list(judge.alarms([sight(track=2)], 1e9 - 3600, (200, 100)))
        assert not list(judge.alarms([sight(track=3)], 1e9 - 3600 + 9, (200, 100)))

    @pytest.mark.parametrize(
        ("hours", "moment", "expected"),
        [
            ([], (12, 0), True),
            (["22:00-06:00"], (23, 0), True),
            (["22:00-06:00"], (5, 59), True),
            (["22:00-06:00"], (6, 0), False),
            (["08:00-12:00", "13:00-24:00"], (12, 30), False),
            (["08:00-12:00", "13:00-24:00"], (23, 59), True),
        ],
    )
    def test_hours(self, hours, moment, expected):
        assert AlarmRule(name="a", hours=hours).at_work(time_of_day(*moment)) is expected

    def test_zones_are_scaled_to_frames_of_another_size(self):
        zones = {"left": [(0, 0), (99, 0), (99, 99), (0, 99)]}
        judge = Judge(Rules(zones=zones, size=(200, 100), alarms=[AlarmRule(name="a", watch=["left"])]))
        assert "scaled" in judge.remarks((400, 200))[0]
        assert list(judge.alarms([sight(x=150)], 1e9, (400, 200)))
        assert not list(judge.alarms([sight(x=250, track=2)], 1e9, (400, 200)))

    def test_a_zone_outside_of_the_frame_is_told_of(self):
        assert self.judge().remarks((200, 100)) == []
        judge = Judge(Rules(zones={"far": [(300, 0), (400, 0), (400, 50)]}))
        assert "'far' lies outside" in judge.remarks((200, 100))[0]

    def test_inside_a_concave_zone(self):
        corner = [(0, 0), (10, 0), (10, 4), (4, 4), (4, 10), (0, 10)]
        assert inside(2, 8, corner)
        assert inside(8, 2, corner)
        assert not inside(8, 8, corner)


class Receiver:
    """A web server that answers with a list of statuses, then 200; `hold` never answers."""

    def __init__(self, *statuses: int, hold: bool = False) -> None:
        received: list[dict] = []
        waiting = list(statuses)
        self.release = threading.Event()
        release = self.release

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if hold:
                    release.wait(20)
                    return
                status = waiting.pop(0) if waiting else 200
                if status == 200:
                    received.append(json.loads(body) | {"headers": dict(self.headers)})
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.received = received
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.release.set()
        self.server.shutdown()
        self.server.server_close()


def alarm(number: int, at: float | None = None) -> dict:
    return {"id": f"{number:032x}", "time": time.time() if at is None else at, "rule": "drone", "x": 1.0}


class TestWebhook:
    def queue(self, port: int, folder: Path, notes: list, **options) -> WebhookQueue:
        hook = Webhook(url=f"http://127.0.0.1:{port}/hook?token=secret", **options)
        return WebhookQueue(hook, folder, notes.append, first_pause=0.02)

    def test_alarms_arrive_in_order_with_headers(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOOK_TOKEN", "abc")
        with Receiver() as receiver:
            queue = self.queue(receiver.port, tmp_path, [], headers={"Authorization": "Bearer ${HOOK_TOKEN}"})
            for number in range(5):
                queue.put(alarm(number))
            until(lambda: queue.sent == 5)
            queue.close()
        assert [one["id"] for one in receiver.received] == [alarm(number)["id"] for number in range(5)]
        assert receiver.received[0]["headers"]["Authorization"] == "Bearer abc"
        assert list(tmp_path.iterdir()) == []

    def test_what_is_refused_is_sent_again(self, tmp_path):
        notes: list[str] = []
        with Receiver(500, 503, 302) as receiver:
            queue = self.queue(receiver.port, tmp_path, notes)
            queue.put(alarm(1))
            until(lambda: queue.sent == 1)
            queue.close()
        assert len(receiver.received) == 1
        assert "answered 500" in notes[0]
        assert "arrive again" in notes[-1]
        assert "secret" not in " ".join(notes)

    def test_the_queue_survives_a_restart(self, tmp_path):
        notes: list[str] = []
        queue = self.queue(9, tmp_path, notes)  # nobody listens
        queue.put(alarm(1))
        queue.put(alarm(2))
        until(lambda: bool(notes))
        queue.close()
        assert "cannot be reached" in notes[0]
        stored = "".join(file.read_text() for file in tmp_path.iterdir())
        assert "secret" not in stored
        with Receiver() as receiver:
            again = self.queue(receiver.port, tmp_path, notes)
            again.put(alarm(3))
            until(lambda: again.sent == 3)
            again.close()
        assert [int(one["id"], 16) for one in receiver.received] == [1, 2, 3]

    def test_a_server_that_never_answers_blocks_nothing(self, tmp_path):
        notes: list[str] = []
        with Receiver(hold=True) as receiver:
            queue = self.queue(receiver.port, tmp_path, notes, timeout=0.2)
            begin = time.monotonic()
            for number in range(50):
                queue.put(alarm(number))
            assert time.monotonic() - begin < 5
            until(lambda: bool(notes))
            queue.close()
        assert "no answer within 0.2 s" in notes[0]
        assert queue.waiting == 50

    def test_old_and_damaged_entries_are_dropped_and_told_of(self, tmp_path):
        notes: list[str] = []
        (tmp_path / "000000000001-x.json").write_text("{")
        with Receiver() as receiver:
            queue = self.queue(receiver.port, tmp_path, notes, keep_hours=1)
            queue.put(alarm(1, time.time() - 7200))
            queue.put(alarm(2))
            until(lambda: queue.sent == 1)
            queue.close()
        assert queue.dropped == 2
        assert "cannot be read" in notes[0]
        assert "older than 1 h" in notes[1]

    def test_an_unforeseen_error_does_not_end_sending(self, tmp_path, monkeypatch):
        notes: list[str] = []
        post, failures = WebhookQueue._post, [RuntimeError("can't start new thread")]

        def fails_once(self, record):
            if failures:
                raise failures.pop()
            return post(self, record)

        monkeypatch.setattr(WebhookQueue, "_post", fails_once)
        with Receiver() as receiver:
            queue = self.queue(receiver.port, tmp_path, notes)
            queue.put(alarm(1))
            until(lambda: queue.sent == 1)
            queue.close()
        assert "cannot be sent (RuntimeError); 1 alarms wait" in notes[0]

    def test_an_ipv6_address_keeps_its_host_and_the_usual_port(self, tmp_path, monkeypatch):
        asked = []

        class Connection(http.client.HTTPConnection):
            def connect(self):
                asked.append((self.host, self.port))
                raise OSError

        monkeypatch.setattr("http.client.HTTPConnection", Connection)
        queue = WebhookQueue(Webhook(url="http://[fe80::1]/x"), tmp_path, lambda _: None)
        queue.put(alarm(1))
        until(lambda: bool(asked))
        queue.close()
        assert asked == [("fe80::1", 80)]

    def test_files_of_others_are_left_alone(self, tmp_path):
        (tmp_path / "notes.json").write_text("{}")
        with Receiver() as receiver:
            queue = self.queue(receiver.port, tmp_path, [])
            queue.put(alarm(1))
            until(lambda: queue.sent == 1)
            queue.close()
        assert [file.name for file in tmp_path.iterdir()] == ["notes.json"]

    def test_a_folder_that_cannot_be_made(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(ConfigError, match=r"file/webhook: .*Not a directory"):
            self.queue(9, tmp_path / "file" / "webhook", [])

    def test_a_header_without_its_variable(self, tmp_path):
        with pytest.raises(ConfigError, match="NOT_THERE_AT_ALL is not set"):
            self.queue(9, tmp_path, [], headers={"A": "${NOT_THERE_AT_ALL}"})


class TestCommand:
    def test_it_gets_words_and_the_alarm(self, tmp_path):
        program = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(sys.argv[2] + sys.stdin.read())"
        command = Command(run=[sys.executable, "-c", program, str(tmp_path / "out"), "{rule} $(id) {other}"])
        notes: list[str] = []
        runner = CommandRunner(command, notes.append)
        runner.put(alarm(1))
        until(lambda: (tmp_path / "out").exists() and (tmp_path / "out").stat().st_size > 0)
        runner.close()
        text = (tmp_path / "out").read_text()
        assert text.startswith("drone $(id) {other}{")  # no shell has seen it
        assert json.loads(text.partition("{other}")[2])["rule"] == "drone"

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["/no/such/program"], "cannot be run: No such file"),
            ([sys.executable, "-c", "raise SystemExit(3)"], "ended with exit code 3"),
            ([sys.executable, "-c", "import time; time.sleep(60)"], "took longer than 0.3 s"),
        ],
    )
    def test_failures_are_told(self, words, said):
        notes: list[str] = []
        runner = CommandRunner(Command(run=words, timeout=0.3 if "sleep" in words[-1] else 30), notes.append)
        runner.put(alarm(1))
        until(lambda: bool(notes))
        runner.close()
        assert said in notes[0]

    def test_missing_values_are_empty(self):
        assert filled("{clip}|{x}", {"clip": None, "x": 2.5}) == "|2.5"


def captured(number: int, shape: tuple[int, int] = (40, 60)) -> Captured:
    return Captured(
        np.full(shape, number % 200, np.uint8), number, number / 30, 1e9 + number / 30, number / 30
    )


class TestClips:
    def test_the_ring_is_bounded_by_time_and_by_memory(self):
        by_time, by_memory = Ring(1.0, 64), Ring(60.0, 1)
        for number in range(600):
            by_time.add(captured(number))
            by_memory.add(captured(number, (400, 600)))
        assert by_time.seconds == pytest.approx(1.0, abs=0.04)
        assert [frame.number for frame in by_time.frames()][-1] == 599
        assert sum(frame.pixels.nbytes for frame in by_memory.frames()) <= 2**20

    def test_a_clip_begins_at_the_alarm_if_a_frame_is_larger_than_the_memory(self, tmp_path):
        writer, tracker = ClipWriter(ClipRule(memory_mb=1), tmp_path, lambda _: None), Tracker()
        for number in range(20):
            tracker.update(detections((9 + number, 9)), (number + 1) / 30, frame=number)
            writer.add(captured(number, (1100, 1100)))
        assert [frame.number for frame in writer.ring.frames()] == [19]
        path = writer.begin("alarm", tracker.tracks[0])
        writer.close()
        assert path.exists()

    def write(self, folder: Path, notes: list[str], frames: int = 90) -> ClipWriter:
        writer = ClipWriter(ClipRule(before=1, after=1), folder, notes.append)
        tracker = Tracker()
        for number in range(45):
            tracker.update(detections((10 + 0.5 * number, 20)), (number + 1) / 30, frame=number)
            writer.add(captured(number))
        self.path = writer.begin("alarm", tracker.tracks[0])
        for number in range(45, frames):
            writer.add(captured(number))
        writer.close()
        return writer

    def test_a_clip_starts_before_the_alarm_and_ends_after_it(self, tmp_path):
        import av

        notes: list[str] = []
        writer = self.write(tmp_path, notes, frames=120)
        assert writer.written == 1
        with av.open(str(self.path)) as container:
            times = [frame.time for frame in container.decode(video=0)]
        assert times[-1] == pytest.approx(2.0, abs=0.1)
        assert len(times) == pytest.approx(61, abs=2)
        assert [file.name for file in tmp_path.iterdir()] == ["alarm.mp4"]

    def test_each_alarm_of_a_clip_has_its_track_drawn(self, tmp_path):
        import av

        writer = ClipWriter(ClipRule(before=1, after=1), tmp_path, lambda _: None)
        tracker = Tracker()
        for number in range(90):
            tracker.update(
                detections((10 + 0.2 * number, 10), (40, 30 - 0.2 * number)), (number + 1) / 30, frame=number
            )
            writer.add(captured(number))
            if number in (45, 60):
                path = writer.begin("alarm", tracker.tracks[number > 45])
        writer.close()
        with av.open(str(path)) as container:
            last = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)][-5]
        _, green, blue = np.moveaxis(last, 2, 0)
        assert (green - blue > 40).sum() > 50  # the colours of tracks 1 and 2
        assert (blue - green > 40).sum() > 50

    def test_a_clip_is_written_when_the_frames_stop(self, tmp_path, monkeypatch):
        monkeypatch.setattr("dimpoint.live.clips._LOST", 0.2)
        notes: list[str] = []
        writer = ClipWriter(ClipRule(before=1, after=1), tmp_path, notes.append)
        tracker = Tracker()
        for number in range(45):
            tracker.update(detections((10 + 0.5 * number, 20)), (number + 1) / 30, frame=number)
            writer.add(captured(number))
        writer.begin("alarm", tracker.tracks[0])
        until(lambda: writer.written == 1)
        assert (tmp_path / "alarm.mp4").exists()
        writer.close()

    def test_a_folder_that_takes_no_file_is_told_of(self, tmp_path):
        (tmp_path / "clips").write_text("a file where the folder should be")
        notes: list[str] = []
        writer = self.write(tmp_path / "clips", notes)
        assert writer.failed == 1
        assert "clip not written, watching goes on" in notes[0]


@pytest.fixture
def store(tmp_path):
    def make(**options) -> EventStore:
        warn = options.pop("warn", lambda text: pytest.fail(text))
        names = {"source": "rtsp://***@host/", "model": "blob", "version": "1"}
        return EventStore(tmp_path / "events.db", **names, warn=warn, **options)

    return make


def fly(store: EventStore, count: int, tracker: Tracker | None = None, begin: int = 0) -> Tracker:
    tracker = tracker or Tracker()
    for number in range(begin, begin + count):
        tracks = tracker.update(detections((20 + 0.5 * number, 50)), (number + 1) / 30, frame=number)
        store.take(tracks, 1.7e9, (200, 100))
    return tracker


class TestStore:
    def test_tracks_points_and_alarms_are_found_again(self, store, tmp_path):
        base = store()
        tracker = fly(base, 60)
        record = alarm(1) | {"y": 2.0, "speed": 3.0, "score": 0.5, "duration": 1.0, "clip": None}
        base.alarm(record, tracker.tracks[0])
        base.interruption(1.7e9, 1.7e9 + 5, "no frames")
        base.take(tracker.tracks, 1.7e9, (200, 100), ended=True)
        base.close()
        (one,) = events(tmp_path / "events.db")
        assert (one["state"], one["measured"], one["going"], one["alarms"]) == ("confirmed", 60, False, 1)
        assert one["source"] == "rtsp://***@host/"
        assert one["mean_score"] == pytest.approx(0.9)
        assert one["duration"] == pytest.approx(59 / 30, abs=0.001)
        assert len(list(events(tmp_path / "events.db", "points"))) == 60
        assert [row["rule"] for row in events(tmp_path / "events.db", "alarms")] == ["drone"]
        assert len(list(events(tmp_path / "events.db", "interruptions"))) == 1
        rows = list(csv.DictReader(io.StringIO(as_csv(events(tmp_path / "events.db")))))
        assert json.loads(as_json(events(tmp_path / "events.db")))[0]["id"] == int(rows[0]["id"])
        with sqlite3.connect(tmp_path / "events.db") as plain:
            assert plain.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        plain.close()

    @pytest.mark.parametrize(
        ("since", "until", "count"),
        [(-10, -1, 0), (-10, 2, 1), (2, 3, 1), (4, 10, 1), (6, 10, 0), (None, None, 1)],
    )
    def test_an_interruption_is_listed_that_lies_in_the_time_with_a_part(
        self, store, tmp_path, since, until, count
    ):
        base = store()
        base.interruption(1.7e9, 1.7e9 + 5, "no frames")
        base.close()
        ends = {"since": since, "until": until}
        ends = {key: None if end is None else 1.7e9 + end for key, end in ends.items()}
        assert len(list(events(tmp_path / "events.db", "interruptions", **ends))) == count

    @pytest.mark.parametrize("kind", ["tracks", "alarms", "points", "interruptions"])
    def test_the_csv_of_no_event_has_the_names_of_its_columns(self, store, tmp_path, kind):
        store().close()
        names = columns(tmp_path / "events.db", kind)
        assert as_csv(events(tmp_path / "events.db", kind), names) == f"{','.join(names)}\n"
        assert {"tracks": "started", "alarms": "rule", "points": "x"}.get(kind, "reason") in names

    def test_it_is_read_while_it_is_written(self, store, tmp_path, monkeypatch):
        monkeypatch.setattr("dimpoint.live.events._EVERY", 0.0)
        base = store()
        fly(base, 30)
        (one,) = events(tmp_path / "events.db")
        assert one["going"] is True
        base.close()

    def test_two_runs_share_a_file(self, store, tmp_path):
        for _ in range(2):
            base = store()
            base.take(fly(base, 30).tracks, 1.7e9, (200, 100), ended=True)
            base.close()
        assert [one["id"] for one in events(tmp_path / "events.db")] == [1_000_000_001, 2_000_000_001]

    def test_two_cameras_write_one_file_at_a_time(self, store, tmp_path):
        one, two = store(), store()
        for base in (one, two):
            base.take(fly(base, 30).tracks, 1.7e9, (200, 100), ended=True)
        one.close()
        two.close()
        assert len(list(events(tmp_path / "events.db", "points"))) == 60

    def test_long_tracks_thin_out(self, store, tmp_path, monkeypatch):
        monkeypatch.setattr("dimpoint.live.events._DENSE", 1.0)
        monkeypatch.setattr("dimpoint.live.events._LATER", 0.5)
        base = store()
        fly(base, 120)
        base.close()
        assert len(list(events(tmp_path / "events.db", "points"))) == pytest.approx(31 + 6, abs=2)

    def test_old_events_are_deleted(self, store, tmp_path, monkeypatch):
        monkeypatch.setattr("dimpoint.live.events._EVERY", 0.0)
        base = store(keep_days=1)
        base.take(fly(base, 30).tracks, 1.7e9, (200, 100), ended=True)
        base._cleaned = 0.0
        base.take([], 0.0, (200, 100))
        base.close()
        assert list(events(tmp_path / "events.db")) == []

    def test_a_disk_that_takes_nothing_is_told_of_once_and_nothing_is_lost(
        self, store, tmp_path, monkeypatch
    ):
        monkeypatch.setattr("dimpoint.live.events._EVERY", 0.0)
        notes: list[str] = []
        base = store(warn=notes.append)
        pages = base._base.execute("PRAGMA page_count").fetchone()[0]
        base._base.execute(f"PRAGMA max_page_count = {pages}")  # the file may not grow: the disk is full
        tracker = fly(base, 300)
        assert len(notes) == 1
        assert "full" in notes[0]
        base._base.execute("PRAGMA max_page_count = 100000")
        fly(base, 10, tracker, begin=300)
        assert "is written again; 0 entries were lost" in notes[1]
        base.close()
        assert len(list(events(tmp_path / "events.db", "points"))) == 310

    @pytest.mark.parametrize(
        "make",
        [
            lambda path: path.write_text("no database" * 100),
            lambda path: sqlite3.connect(path).execute("CREATE TABLE x (y)").connection.close(),
        ],
        ids=["text", "another database"],
    )
    def test_what_is_no_event_store(self, tmp_path, make):
        make(tmp_path / "events.db")
        for making in (True, False):
            with pytest.raises(DataError, match=r"events\.db: "):
                open_store(tmp_path / "events.db", make=making)

    def test_a_newer_version_is_refused(self, store, tmp_path):
        store().close()
        base = sqlite3.connect(tmp_path / "events.db")
        base.execute("PRAGMA user_version = 99")
        base.close()
        with pytest.raises(DataError, match="version 99"):
            store()


class Frames:
    """A camera of a given number of frames, each number as its picture; 30 frames/s without waiting."""

    shown = "made"
    passed_over = 0

    def __init__(self, pictures):
        self.pictures = pictures

    def shots(self, stop, note):
        for number, picture in enumerate(self.pictures):
            yield Shot(picture, number / 30, time.monotonic())
            time.sleep(0.004)
        while not stop():
            time.sleep(0.01)


class TestWatcher:
    def noise(self, count: int, shape=(60, 80)):
        rng = np.random.default_rng(0)
        return [rng.integers(50, 60, shape, np.uint8) for _ in range(count)]

    def after_an_hour(self, arrives: float, searched: float) -> Watcher:
        """A watch with the given seconds from one frame to the next, of the camera and of the search."""
        watcher = Watcher(Frames([]), lambda _: None, Outputs(say=lambda _: None), note=lambda _: None)
        health, totals, now = watcher.capture.health, watcher.totals, time.monotonic()
        health.state, health.last_frame = "watching", now
        for recent, every in ((health.recent, arrives), (totals.recent, searched)):
            recent.extend(now + number * every for number in range(30))
        totals.started, totals.searched = time.time() - 3600, 25 * 3600
        return watcher

    @pytest.mark.parametrize(("every", "state"), [(1.0, "too slow"), (0.1, "watching")])
    def test_a_machine_that_searches_too_few_frames_is_reported(self, every, state):
        """Of 25 frames a second; the latest count, not the average since the start."""
        record = status(self.after_an_hour(1 / 25, every))
        assert record["state"] == state
        assert record["searched_per_s"] == pytest.approx(1 / every, abs=0.01)
        assert ("targets will be missed" in status_line(record)) == (state == "too slow")

    @pytest.mark.parametrize(("every", "state"), [(0.5, "few frames"), (0.1, "watching")])
    def test_a_camera_that_sends_too_few_frames_is_reported(self, every, state):
        record = status(self.after_an_hour(every, every))
        assert record["state"] == state
        assert ("tracking needs about 5 a second" in status_line(record)) == (state == "few frames")

    def watch(self, pictures, finder, **options) -> Watcher:
        notes: list[str] = []
        lines: list[str] = []
        watcher = Watcher(Frames(pictures), finder, Outputs(say=lines.append), note=notes.append, **options)
        end = time.monotonic() + 30
        watcher.run(
            lambda: (
                watcher.totals.searched + watcher.totals.refused + watcher.capture.passed_over
                >= len(pictures)
                or time.monotonic() > end
            )
        )
        self.notes, self.lines = notes, lines
        return watcher

    @pytest.mark.parametrize("rate", [5, 8, 10, 12, 25])
    def test_a_spot_that_rests_raises_no_alarm_at_any_frame_rate(self, rate):
        """The default rule: 2.5 seconds. The other spot moves."""
        places = iter([(20, 20), (10 + 8 * number / rate, 40)] for number in range(5 * rate))
        lines: list[str] = []
        watcher = Watcher(
            Frames([]), lambda _: detections(*next(places)), Outputs(say=lines.append), note=lambda _: None
        )
        for number, picture in enumerate(self.noise(5 * rate)):
            watcher._step(Captured(picture, number / rate, 1e9 + number / rate, time.monotonic(), number))
        assert len(lines) == 1
        assert "(20.0, 20.0)" not in lines[0]
        assert [one.state for one in watcher.tracker.tracks] == ["static", "confirmed"]

    def test_a_detector_is_told_which_pixels_are_measured(self, tmp_path, monkeypatch):
        told = []
        monkeypatch.setattr(Detector, "__call__", lambda _, __, valid: told.append(valid) or detections())
        detector = Detector(write_model(tmp_path / "blob.onnx"))
        watcher = Watcher(Frames([]), detector, Outputs(say=lambda _: None), note=lambda _: None)
        (picture,) = self.noise(1)
        watcher._step(Captured(picture, 0, 0.0, 1e9, time.monotonic(), valid=picture < 55))
        np.testing.assert_array_equal(told[0], picture < 55)

    def test_500_candidates_a_frame(self):
        rng = np.random.default_rng(0)
        crowd = detections(*map(tuple, rng.uniform(0, 60, (500, 2))))
        watcher = self.watch(self.noise(30), lambda _: crowd)
        assert watcher.totals.searched + watcher.capture.passed_over == 30
        assert watcher.totals.latency < 3

    def test_frames_that_the_detector_refuses_are_counted_and_told_of_once(self):
        def refuse(_):
            raise DataError("too small")

        watcher = self.watch(self.noise(10), refuse)
        assert watcher.totals.refused + watcher.capture.passed_over == 10
        assert [note for note in self.notes if "too small" in note] == ["frame 0 is passed over: too small"]

    def test_another_size_is_another_scene_and_another_memory(self, tmp_path):
        pictures = self.noise(20) + self.noise(20, (30, 40))
        watcher = self.watch(pictures, lambda _: detections((20, 20)), memory_file=tmp_path / "camera.json")
        assert any("frames are 40x30 from now on" in note for note in self.notes)
        assert any("the camera memory is for 80x60" in note for note in self.notes)
        assert json.loads((tmp_path / "camera.json").read_text())["size"] == {"width": 80, "height": 60}
        assert watcher.tracker.memory.size == (30, 40)

    @pytest.mark.slow
    def test_nothing_grows_with_the_number_of_frames(self):
        """Targets come and go; what the watcher holds stays bounded."""
        count = 1500
        frames = iter(range(10 * count))

        def finder(_):
            number = next(frames)
            return (
                detections((5 + number % 60, 5 + (number // 60) % 50)) if number % 60 < 40 else detections()
            )

        watcher = self.watch(self.noise(count), finder)
        tracker = watcher.tracker
        assert watcher.totals.tracks > 5
        assert len(tracker.finished) < 10
        assert len(watcher._known) < 10
        assert len(watcher._judge._raised) < 10


def test_watching_imports_no_training_packages():
    program = "import dimpoint.live.watch, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
