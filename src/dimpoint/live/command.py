"""Programs that alarms start: without a shell, one after the other, in a thread."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from dimpoint.live.rules import Command

_MOST_WAITING = 100
_GRACE = 2.0  # seconds that a running program may take once watching ends


class CommandRunner:
    """Runs the command for each alarm; `put` never waits.

    Parameters
    ----------
    command : Command
        The program with its arguments, and its time limit in seconds.
    note : callable
        Called with a line of text when something fails.
    """

    def __init__(self, command: Command, note: Callable[[str], None]) -> None:
        self._command, self._note = command, note
        self._queue: queue.Queue[dict[str, Any] | None] = queue.Queue(_MOST_WAITING)
        self._running: subprocess.Popen[bytes] | None = None
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="command", daemon=True)
        self._thread.start()

    def put(self, record: dict[str, Any]) -> None:
        """Run the command for an alarm as soon as those before it have ended."""
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self._note(f"command: {_MOST_WAITING} alarms wait for it already; not run for this one")

    def close(self) -> None:
        """Let a running program end, for two seconds, and stop it then; those that wait are not run."""
        self._ending = True
        with suppress(queue.Full):
            self._queue.put_nowait(None)
        self._thread.join(_GRACE)
        if self._running is not None:
            with suppress(OSError):
                self._running.kill()
            self._note("command: stopped, as watching ends")

    def _run(self) -> None:
        while not self._ending:
            record = self._queue.get()
            if record is None or self._ending:
                return
            failure = self._failure_of(record)
            if failure is not None:
                self._note(f"command {self._command.run[0]}: {failure}")

    def _failure_of(self, record: dict[str, Any]) -> str | None:
        words = [filled(word, record) for word in self._command.run]
        quiet = subprocess.DEVNULL
        try:
            self._running = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet)
        except (OSError, ValueError) as error:
            return f"cannot be run: {getattr(error, 'strerror', None) or error}"
        try:
            self._running.communicate(json.dumps(record).encode(), self._command.timeout)
        except subprocess.TimeoutExpired:
            self._running.kill()
            self._running.communicate()
            return f"took longer than {self._command.timeout:g} s and was stopped"
        except OSError:
            self._running.wait()  # it did not read its input
        code = self._running.returncode
        self._running = None
        return None if code == 0 else f"ended with exit code {code}"


def filled(word: str, record: dict[str, Any]) -> str:
    """An argument of a command, filled in.

    Parameters
    ----------
    word : str
        With {rule}, {track}, {x}, {y}, {time}, {source} or {clip}; other braces stay.
    record : dict
        The alarm.

    Returns
    -------
    str
        The argument; what the alarm lacks is left out.
    """
    for name in ("rule", "track", "x", "y", "time", "source", "clip"):
        word = word.replace(f"{{{name}}}", "" if record.get(name) is None else str(record[name]))
    return word
