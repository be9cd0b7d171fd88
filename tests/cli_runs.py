"""`dimpoint` as the shell would run it, in the test's own process or in a child."""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass

import pytest

from dimpoint.cli import main


@dataclass
class Result:
    code: int
    out: str
    err: str


def run_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> Result:
    """Run `dimpoint ARGUMENTS`; it must end by an exit code."""
    monkeypatch.setattr(sys, "argv", ["dimpoint", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    printed = capsys.readouterr()
    return Result(int(stop.value.code or 0), printed.out, printed.err)


def heed_signals() -> None:
    """In a child, before it starts: a background job of a shell inherits that Ctrl-C is ignored."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
