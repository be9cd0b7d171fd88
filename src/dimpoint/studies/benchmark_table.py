"""The table of a benchmark, for the terminal and for Markdown, made of its JSON record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def _three(value: float) -> str:
    return f"{value:.3f}"


_FORMS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("recipe", "recipe", str),
    ("labels", "labels", str),
    ("precision", "precision", _three),
    ("recall", "recall", _three),
    ("f1", "F1", _three),
    ("f1_interval", "95 %", lambda ends: "-" if None in ends else f"{ends[0]:.3f} .. {ends[1]:.3f}"),
    ("fa", "Fa, objects/pixel", "{:.1e}".format),
    ("distance", "error, px", "{:.2f}".format),
    ("parameters", "parameters", "{:,}".format),
    ("macs", "GMACs", lambda macs: f"{macs / 1e9:.2f}"),
    ("ms", "CPU ms", "{:.1f}".format),
    ("minutes", "training, min", "{:.1f}".format),
)

COLUMNS = tuple(label for _, label, _ in _FORMS)


def cells(row: Mapping[str, Any]) -> list[str]:
    """A row of the record as text, in the order of `COLUMNS`; `-` for what is not defined."""
    return ["-" if row[key] is None else form(row[key]) for key, _, form in _FORMS]


def heading(record: Mapping[str, Any]) -> str:
    """What was evaluated, and how."""
    data = ", ".join(record["data"])
    return (
        f"{data}, split {record['split']}: {record['frames']} frames, protocol {record['protocol']}, "
        f"trained for {record['budget']}"
    )


def markdown(record: Mapping[str, Any]) -> str:
    """The table with its heading, and what the columns mean."""
    height, width = record["frame_size"]
    threads = "all cores" if record["threads"] is None else f"{record['threads']} thread(s)"
    changed = "".join(f" `--set {change}`" for change in record["changes"])
    lines = [
        f"{heading(record)}.{changed}",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|---|---|" + "---:|" * (len(COLUMNS) - 2),
        *("| " + " | ".join(cells(row)) + " |" for row in record["rows"]),
        "",
        f"Each at the threshold {record['threshold']}. 95 %: bootstrap over frames. Error: mean distance of "
        f"a found target. GMACs: convolutions, one {height}x{width} frame. CPU ms: array to targets in ONNX "
        f"Runtime, median, {threads}.",
    ]
    return "\n".join(lines) + "\n"
