"""Docstrings: a section `Parameters` names the parameters of the signature, all of them and no others."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import dimpoint

ROOT = Path(dimpoint.__file__).parent
ROOMS = (
    "api.py",
    "evaluation",
    "fdep",
    "inference",
    "live",
    "model",
    "networks",
    "pretraining",
    "targets",
    "tracking",
    "training",
    "whole",
)
SECTION = re.compile(r"^Parameters\n-+\n(.*?)(?=^\S[^\n]*\n-{3,}$|\Z)", re.DOTALL | re.MULTILINE)


def described(docstring: str) -> list[str] | None:
    """The names in the section `Parameters`; None without such a section."""
    found = SECTION.search(docstring)
    if found is None:
        return None
    entries = [line.split(" : ")[0] for line in found[1].splitlines() if line and not line[0].isspace()]
    return [name.strip() for entry in entries for name in entry.split(",")]


def parameters(node: ast.FunctionDef | ast.ClassDef) -> list[str]:
    """The parameters of a function, of a class's constructor, or the fields of a dataclass."""
    if isinstance(node, ast.ClassDef):
        made = [each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"]
        if not made:
            fields = [each.target for each in node.body if isinstance(each, ast.AnnAssign)]
            return [field.id for field in fields if isinstance(field, ast.Name)]
        node = made[0]
    named = node.args
    names = [each.arg for each in (*named.posonlyargs, *named.args, *named.kwonlyargs)]
    names += [f"*{named.vararg.arg}"] if named.vararg else []
    names += [f"**{named.kwarg.arg}"] if named.kwarg else []
    return [name for name in names if name not in ("self", "cls")]


@pytest.mark.parametrize("room", ROOMS)
def test_docstrings_name_the_parameters_of_the_signature(room: str) -> None:
    path = ROOT / room
    wrong, checked = [], 0
    for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if not isinstance(node, ast.FunctionDef | ast.ClassDef):
                continue
            names = described(ast.get_docstring(node) or "")
            if names is None:
                continue
            checked += 1
            if sorted(names) != sorted(parameters(node)):
                wrong.append(f"{file.name}:{node.lineno} {node.name}: {names}, not {parameters(node)}")
    assert wrong == []
    assert checked > 0
