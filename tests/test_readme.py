"""Every command of the README runs, every documented command parses, every link leads to a file."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
import yaml

import dimpoint
from dimpoint.cli import build_app

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GATE = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
PAGES = sorted(page for page in (ROOT / "docs").rglob("*.md") if "_build" not in page.parts)

# The gate runs these itself: they make the environment in which this file is run, and run this file.
BY_THE_GATE = {
    "python3 -m venv .venv && . .venv/bin/activate": '. "$work/venv/bin/activate"',
    "pip install -c constraints.txt -e '.[dev]'": "pip install -c constraints.txt -e '.[dev]'",
    'python -m pytest -n auto -m "not slow"': 'python -m pytest -n auto -m "not slow"',
}


def _blocks(text: str, *languages: str) -> list[str]:
    """The contents of the fenced code blocks in one of the languages."""
    found = re.findall(r"^ *```(\w*)\n(.*?)^ *```", text, flags=re.DOTALL | re.MULTILINE)
    return [body for language, body in found if language in languages]


def _commands(text: str, *languages: str) -> list[str]:
    """The command lines of the code blocks; continued lines are joined, comments are left out."""
    joined = "\n".join(_blocks(text, *languages)).replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines() if line.strip() and not line.strip().startswith("#")]


README_COMMANDS = _commands(README, "bash")


def test_the_readme_has_the_commands_a_visitor_needs() -> None:
    assert set(BY_THE_GATE) < set(README_COMMANDS)
    assert any(command.startswith("dimpoint detect ") for command in README_COMMANDS)
    assert _blocks(README, "python")


@pytest.mark.parametrize("command", BY_THE_GATE)
def test_the_gate_runs_set_up_and_tests(command: str) -> None:
    assert BY_THE_GATE[command] in GATE


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder that holds what the README's commands read, so that they write nothing into the checkout."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("command", [one for one in README_COMMANDS if one not in BY_THE_GATE])
def test_every_other_command_runs(command: str, clone: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=clone,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("program", _blocks(README, "python"))
def test_every_python_example_runs(program: str, clone: Path) -> None:
    done = subprocess.run([sys.executable, "-c", program], cwd=clone, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def _stand_ins(page: str) -> set[str]:
    """The capital words that stand for options on a page: "`DATA` stands for `--data ...`"."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return set(re.findall(r"`([A-Z]+)`\s+(?:stands\s+)?for\s+`--", text))


DOCUMENTED = sorted(
    {
        (str(page.relative_to(ROOT)), line)
        for page in PAGES
        for line in _commands(page.read_text(encoding="utf-8"), "bash", "", "text", "console")
        if re.match(r"dimpoint [a-z]", line)
    }
)


@pytest.mark.parametrize(("page", "line"), DOCUMENTED)
def test_every_documented_command_parses(page: str, line: str) -> None:
    """Each command and option that the pages name exists. The command is not run."""
    command = typer.main.get_command(build_app())
    words = shlex.split(line, comments=True)[1:]
    words = [word for word in words if word not in _stand_ins(page)]
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    if words or not getattr(command, "invoke_without_command", True):
        assert not getattr(command, "commands", {}), f"{page}: no command {words[0]}"
    command.make_context("dimpoint", words)  # raises for an option that does not exist


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted(ROOT.glob("C*.md")), *PAGES], ids=lambda page: page.name
)
def test_links_lead_to_files(page: Path) -> None:
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)\)", prose):
        assert "://" in target or (page.parent / target).is_file(), target


def test_one_version() -> None:
    """`dimpoint.__version__` is the version of the package; what is cited and described is the same one."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert newest is not None
    assert citation["version"] == newest[1] == dimpoint.__version__
