"""Messages: untrusted text made safe for terminals and tables, similar names, and validation errors."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, get_args

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

LONGEST = 1500  # characters of a message
_MOST_PROBLEMS = 5  # of one validation error
_LONGEST_PROBLEM = 300  # characters


def printable(text: str) -> str:
    """One line that a terminal shows as it is.

    Control characters, line breaks, marks that turn the direction of writing and bytes that are not UTF-8 are
    written as escapes. Long texts are cut in the middle.
    """
    shown = "".join(char if char.isprintable() else _escape(char) for char in text)
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST // 2]} ... {shown[-LONGEST // 2 :]}"


def counted(number: float, noun: str, plural: str | None = None) -> str:
    """A number with its noun.

    Parameters
    ----------
    number : int or float
    noun : str
        Of one.
    plural : str, optional
        Of none or several. Default: the noun with an s.

    Examples
    --------
    >>> counted(1, "frame"), counted(0, "frame"), counted(2, "box", "boxes")
    ('1 frame', '0 frames', '2 boxes')
    """
    return f"{number:g} {noun}" if number == 1 else f"{number} {plural or noun + 's'}"


def csv_cell(text: str) -> str:
    """A text of a CSV file that no spreadsheet takes for a formula: an apostrophe before = + - @ and tab."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that differs in letter case alone, else the most similar one, or None."""
    names = list(known)
    same = [each for each in names if each.lower() == name.lower()]
    return next(iter(same or difflib.get_close_matches(name, names, n=1)), None)


def explain(error: ValidationError, model: type[BaseModel], secret: Collection[str] = ()) -> str:
    """One line for a pydantic error: each wrong key, what is wrong, and the value.

    Parameters
    ----------
    error : ValidationError
        Raised when a file's content was validated.
    model : type of BaseModel
        The model that the content was validated as; its fields are suggested for unknown keys.
    secret : collection of str
        Top-level keys whose values are not shown. Default: none.

    Returns
    -------
    str
        At most five problems.
    """
    lines = []
    for problem in error.errors()[:_MOST_PROBLEMS]:
        path = [str(part) for part in problem["loc"]]
        key = ".".join(path)
        if problem["type"] == "extra_forbidden":
            near = nearest(path[-1], _fields(model, path[:-1]))
            lines.append(f"unknown key '{key}'" + (f"; did you mean '{near}'?" if near else ""))
        elif problem["type"] == "missing":
            lines.append(f"missing key '{key}'")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            if problem["type"] != "value_error":  # pydantic's own message, which begins with a capital
                message = message[:1].lower() + message[1:]
            shown = key and path[0] not in secret
            given = f", got {problem['input']!r}" if shown else ""
            lines.append(f"{key + ': ' if key else ''}{message}{given}"[:_LONGEST_PROBLEM])
    return "; ".join(lines)


def _fields(model: Any, path: list[str]) -> list[str]:
    """The keys of the section at `path`; none where that is no section."""
    for part in path:
        if part.isdigit():  # an item of a list
            continue
        field = model.model_fields.get(part)
        kinds = [] if field is None else [field.annotation, *get_args(field.annotation)]
        model = next((kind for kind in kinds if hasattr(kind, "model_fields")), None)
        if model is None:
            return []
    return list(model.model_fields)


def latex_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A LaTeX `tabular` with booktabs rules: the first column to the left, the others to the right.

    head: names of the columns. It needs `\\usepackage{booktabs}`; special characters are written out.
    """
    lines = [
        f"% {title}",
        rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
        r"\toprule",
        _latex_line(head),
        r"\midrule",
        *(_latex_line(row) for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        "",
    ]
    return "\n".join(lines)


def _latex_line(cells: Sequence[str]) -> str:
    return " & ".join(_latex(cell) for cell in cells) + r" \\"


def _latex(text: str) -> str:
    """Text with LaTeX's special characters written out."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in text)


def _escape(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return char.encode("unicode_escape").decode("ascii")
