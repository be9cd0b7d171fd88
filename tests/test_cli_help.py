"""Help of every command: words for values, nothing on flags; completion in the shell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from dimpoint.cli import build_command


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    yield " ".join(path) or "dimpoint", command
    for name, inner in getattr(command, "commands", {}).items():
        yield from leaves(inner, (*path, name))


COMMANDS = dict(leaves(build_command()))


@pytest.mark.parametrize("name", COMMANDS)
def test_values_are_named_as_people_write_them_and_flags_have_none(name: str) -> None:
    command = COMMANDS[name]
    for parameter in command.get_params(command.context_class(command, info_name=name)):
        shown = parameter.metavar
        assert shown is not None, parameter.name
        assert not set(shown) & set("<>"), parameter.name
        assert bool(shown) is not bool(getattr(parameter, "is_flag", False)), parameter.name


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_no_python_types(name: str) -> None:
    words = [] if name == "dimpoint" else name.split()
    shown = CliRunner().invoke(COMMANDS["dimpoint"], [*words, "--help"], prog_name="dimpoint").output
    assert "Usage: dimpoint" in shown
    assert not re.search(r"<[A-Za-z]|\.\.\.\}|\.\.\.\.", shown)


@pytest.mark.parametrize(
    ("words", "expected"), [("dimpoint det", "detect"), ("dimpoint detect --thr", "--threshold")]
)
def test_the_shell_completes_commands_and_options(words: str, expected: str) -> None:
    place = str(len(words.split()) - 1)
    environment = {"_DIMPOINT_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": place}
    command = [sys.executable, "-m", "dimpoint"]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert expected in done.stdout.split(), done.stderr


def test_completion_is_installed_by_an_option() -> None:
    names = [option for parameter in COMMANDS["dimpoint"].params for option in parameter.opts]
    assert "--install-completion" in names
