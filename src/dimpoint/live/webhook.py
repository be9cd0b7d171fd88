"""Alarms sent to a web address: from a queue on disk, in a thread, until they arrive."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dimpoint.atomic import remove_temporary, write_text
from dimpoint.errors import ConfigError, DimpointError
from dimpoint.live.rules import Webhook

_FIRST_PAUSE = 1.0  # seconds before a second attempt
_LONGEST_PAUSE = 300.0
_MOST_WAITING = 10_000  # alarms; beyond that the oldest are dropped
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_ENTRY = re.compile(r"\d+-.+\.json")  # files of the queue


class WebhookQueue:
    """Sends alarms in order, each until it is accepted (an answer 2xx); `put` never waits for that.

    Parameters
    ----------
    hook : Webhook
        Address, headers, time limit in seconds, and hours after which an alarm is dropped.
    folder : Path
        For the alarms that wait, one JSON file each, so that a restart loses none.
    note : callable
        Called with a line of text when sending fails and when it works again.
    first_pause : float
        Seconds before the second attempt; doubled for each further one, up to five minutes.

    Raises
    ------
    ConfigError
        For a header that names an environment variable which is not set, and if the folder cannot be made or
        read.
    """

    def __init__(
        self, hook: Webhook, folder: Path, note: Callable[[str], None], *, first_pause: float = _FIRST_PAUSE
    ) -> None:
        self._hook, self._folder, self._note, self._first_pause = hook, folder, note, first_pause
        self._address = urlsplit(hook.url)
        self.shown = f"webhook {self._address.hostname}"
        self._headers = {name: _filled(name, value) for name, value in hook.headers.items()}
        self.sent = 0
        self.dropped = 0
        self._failing = False
        self._changed = threading.Condition()
        self._memory: list[dict[str, Any]] = []  # what the disk did not take
        try:
            folder.mkdir(parents=True, exist_ok=True)
            remove_temporary(folder)
            self._files = sorted(file for file in folder.iterdir() if _ENTRY.fullmatch(file.name))
        except OSError as error:
            raise ConfigError(f"{folder}: no folder for unsent alarms ({error.strerror})") from None
        self._number = max((int(file.stem.partition("-")[0]) for file in self._files), default=0) + 1
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Alarms that have not arrived yet."""
        return len(self._files) + len(self._memory)

    def put(self, record: dict[str, Any]) -> None:
        """Queue an alarm; on the disk, or in memory where the disk takes none."""
        file = self._folder / f"{self._number:012d}-{record['id']}.json"
        self._number += 1
        try:
            write_text(file, json.dumps(record))
        except DimpointError as error:
            self._note(f"{self.shown}: the queue is in memory only: {error}")
            with self._changed:
                self._memory = [*self._memory[-1000:], record]
                self._changed.notify()
            return
        with self._changed:
            self._files.append(file)
            while len(self._files) > _MOST_WAITING:
                self._drop(self._files[0], f"more than {_MOST_WAITING} wait")
            self._changed.notify()

    def close(self) -> None:
        """Stop sending. What waits stays on the disk; it is sent by the next run."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join(0.5)  # a request at work is left alone: it is sent again

    def _run(self) -> None:
        pause = self._first_pause
        while True:
            with self._changed:
                while not self._ending and not self._files and not self._memory:
                    self._changed.wait()
                if self._ending:
                    return
                file = self._files[0] if self._files else None
                record = self._memory[0] if file is None else None
            try:
                failure = self._send(file, record)
            except Exception as error:  # such as too many threads; nothing may end this thread
                failure = f"cannot be sent ({type(error).__name__})"
            if failure is None:
                pause = self._first_pause
                continue
            if not self._failing:
                self._failing = True
                self._note(f"{self.shown}: {failure}; {self.waiting} alarms wait and are sent later")
            with self._changed:
                if not self._ending:
                    self._changed.wait_for(lambda: self._ending, pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _send(self, file: Path | None, record: dict[str, Any] | None) -> str | None:
        """Send one alarm and forget it; why it did not arrive, in words."""
        if file is not None:
            try:
                record = json.loads(file.read_text("utf-8"))
                old = time.time() - float(record["time"]) > 3600 * self._hook.keep_hours
            except (OSError, ValueError, KeyError, TypeError):
                self._drop(file, "its file cannot be read")
                return None
            if old:
                self._drop(file, f"older than {self._hook.keep_hours:g} h")
                return None
        assert record is not None
        failure = self._post(record)
        if failure is not None:
            return failure
        if self._failing:
            self._failing = False
            self._note(f"{self.shown}: alarms arrive again")
        self.sent += 1
        with self._changed:
            if file is None:
                self._memory.pop(0)
            else:
                self._forget(file)
        return None

    def _post(self, record: dict[str, Any]) -> str | None:
        """One request within the time limit; None if it was accepted."""
        address, limit = self._address, self._hook.timeout
        kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
        connection = kind(address.hostname or "", address.port or kind.default_port, timeout=limit)
        watchdog = threading.Timer(limit, _cut, [connection])  # for answers that come byte by byte
        watchdog.daemon = True
        begin = time.monotonic()
        try:
            watchdog.start()
            path = (address.path or "/") + (f"?{address.query}" if address.query else "")
            headers = {"Content-Type": "application/json", "Idempotency-Key": str(record["id"])}
            connection.request("POST", path, json.dumps(record), headers | self._headers)
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException, ValueError) as error:
            if isinstance(error, TimeoutError) or time.monotonic() - begin >= limit:
                return f"no answer within {limit:g} s"
            return f"cannot be reached ({getattr(error, 'strerror', None) or type(error).__name__})"
        finally:
            watchdog.cancel()
            connection.close()
        return None if 200 <= status < 300 else f"answered {status}"

    def _drop(self, file: Path, why: str) -> None:
        self.dropped += 1
        self._note(f"{self.shown}: an alarm is dropped: {why}")
        self._forget(file)

    def _forget(self, file: Path) -> None:
        with suppress(ValueError):
            self._files.remove(file)
        with suppress(OSError):
            file.unlink(missing_ok=True)


def _cut(connection: http.client.HTTPConnection) -> None:
    opened = connection.sock
    if opened is not None:
        with suppress(OSError):
            opened.shutdown(socket.SHUT_RDWR)


def _filled(name: str, value: str) -> str:
    def of(found: re.Match[str]) -> str:
        if found[1] not in os.environ:
            raise ConfigError(f"webhook.headers.{name}: the environment variable {found[1]} is not set")
        return os.environ[found[1]]

    return _VARIABLE.sub(of, value)
