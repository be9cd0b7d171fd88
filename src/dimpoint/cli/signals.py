"""SIGTERM and SIGHUP stop a command as Ctrl-C does."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_NAMES = ("SIGTERM", "SIGHUP")
_received: list[int] = []


@contextmanager
def stopping() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM and SIGHUP in the block.

    A signal that the parent process ignores (`nohup`) stays ignored. The first one counts: the command then
    finishes what it keeps, undisturbed by further ones.
    """
    _received.clear()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    ours = [number for number in numbers if before[number] == signal.SIG_DFL]
    for number in ours:
        signal.signal(number, _stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])


@contextmanager
def noted() -> Iterator[Callable[[], bool]]:
    """Record Ctrl-C, SIGTERM and SIGHUP in the block instead of raising; the function returns True after one.

    For commands that finish their step first. A second signal raises KeyboardInterrupt.
    """
    came: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        if number != signal.SIGINT and not _received:
            _received.append(number)
        came.append(number)
        if len(came) > 1:
            raise KeyboardInterrupt

    names = ("SIGINT", *_NAMES)
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    ours = [number for number in numbers if before[number] != signal.SIG_IGN]
    for number in ours:
        signal.signal(number, note)
    try:
        yield lambda: bool(came)
    finally:
        for number in ours:
            signal.signal(number, before[number])


def exit_code(code: int) -> int:
    """The exit code of a stopped command: 128 + the signal's number, 130 for Ctrl-C; others as they are."""
    return 128 + _received[0] if code == 130 and _received else code


def _stop(number: int, _frame: FrameType | None) -> None:
    if not _received:
        _received.append(number)
        raise KeyboardInterrupt
