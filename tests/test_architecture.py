"""The direction of imports, by room: nothing below imports anything above, and no module is in a circle."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import dimpoint

ROOT = Path(dimpoint.__file__).parent.parent


def _imports() -> dict[str, set[str]]:
    """The dimpoint modules that each module imports when it runs, wherever the import stands."""
    files = {_name(file): file for file in (ROOT / "dimpoint").rglob("*.py")}
    return {name: _imported(file, set(files)) - {name} for name, file in files.items()}


def _name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _imported(file: Path, modules: set[str]) -> set[str]:
    tree = ast.parse(file.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in modules else node.module)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return found & modules


def test_no_module_is_in_a_circle() -> None:
    graph = {name: found - {"dimpoint"} for name, found in _imports().items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None


def test_no_room_is_in_a_circle() -> None:
    rooms: dict[str, set[str]] = {}
    for name, found in _imports().items():
        room = name.split(".")[1] if "." in name else ""
        rooms.setdefault(room, set()).update(one.split(".")[1] for one in found if "." in one)
    graph = {room: found - {room, ""} for room, found in rooms.items() if room}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None


def test_no_file_is_long() -> None:
    lengths = {file: len(file.read_text("utf-8").splitlines()) for file in ROOT.glob("dimpoint/**/*.py")}
    assert {str(file): lines for file, lines in lengths.items() if lines > 400} == {}
