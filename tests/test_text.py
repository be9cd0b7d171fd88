"""Text of others on a terminal and in tables."""

from __future__ import annotations

import os

import pytest

from dimpoint.text import LONGEST, csv_cell, printable

CASES = [
    # text, what a terminal gets
    ("plain name.png", "plain name.png"),
    ("größe 目标.png", "größe 目标.png"),
    ("", ""),
    ("\x1b[31mred", "\\x1b[31mred"),
    ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
    ("a\nerror: forged", "a\\nerror: forged"),
    ("a\r\tb", "a\\r\\tb"),
    ("\x9b31m", "\\x9b31m"),  # the one-byte form of ESC [
    ("a\u202egnp.exe", "a\\u202egnp.exe"),  # turns the direction of writing
    ("a\u2028b\u2029c", "a\\u2028b\\u2029c"),
    (os.fsdecode(b"\xb2\xe2.png"), "\\xb2\\xe2.png"),  # GBK
    ("\ud800", "\\ud800"),
    ("\x00\x7f", "\\x00\\x7f"),
]


@pytest.mark.parametrize(("text", "shown"), CASES)
def test_what_a_terminal_gets(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(text).isprintable()


def test_long_texts_are_cut_in_the_middle() -> None:
    shown = printable("a" * 10**5 + "b" * 10**5)
    assert len(shown) < LONGEST + 10
    assert shown.startswith("a")
    assert shown.endswith("b")


@pytest.mark.parametrize("text", ["a=1.png", "", "1-2.png"])
def test_other_texts_are_no_formulas(text: str) -> None:
    assert csv_cell(text) == text
