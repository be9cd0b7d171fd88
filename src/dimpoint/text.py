"""Text of others (file names, model records, decoders' messages) made safe for terminals and tables."""

from __future__ import annotations

LONGEST = 1500  # characters of a message


def printable(text: str) -> str:
    """One line that a terminal shows as it is.

    Control characters, line breaks, marks that turn the direction of writing and bytes that are not UTF-8 are
    written as escapes. Long texts are cut in the middle.
    """
    shown = "".join(char if char.isprintable() else _escape(char) for char in text)
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST // 2]} ... {shown[-LONGEST // 2 :]}"


def csv_cell(text: str) -> str:
    """A text of a CSV file that no spreadsheet takes for a formula: an apostrophe before = + - @ and tab."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _escape(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return char.encode("unicode_escape").decode("ascii")
