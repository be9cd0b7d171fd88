"""The part of a report about labels grown from points: their agreement with true masks, and pictures."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from dimpoint.errors import DataError
from dimpoint.text import printable

_MOST_ROWS = 12


def growth_section(run: Path, heading: str = "") -> str:
    """HTML about the labels of a run that was trained with `labels: points`; "" for another folder.

    run: the folder that holds the model. heading: added to the title. Raises DataError for a damaged
    `labels.json`.
    """
    record = run / "labels.json"
    if not record.is_file():
        return ""
    try:
        history = json.loads(record.read_text("utf-8"))
        body = _table(history) + _bright_ground(history[-1]) + _groups(history[-1])
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise DataError(
            f"{record}: is no record of grown labels ({type(error).__name__}: {error})"
        ) from error
    return f"<h2>Labels grown from points{escape(heading)}</h2>{body}{_picture(run / 'labels.png')}"


def _table(history: Sequence[dict[str, Any]]) -> str:
    step = -(-len(history) // _MOST_ROWS)
    shown = [*history[:-1:step], history[-1]]
    head = "<th>epoch</th><th>frames in use</th><th>pixels a target</th>"
    known = "iou" in history[-1]
    if known:
        head += "<th>IoU with true masks</th><th>labels that miss their target</th>"
    rows = ""
    for row in shown:
        cells = [
            f"{int(row['epoch'])}",
            f"{int(row['frames'])} of {int(row['of'])}",
            f"{float(row['area']):.1f}",
        ]
        if known:
            cells += [f"{float(row['iou']):.3f}", f"{int(row['missed'])} of {int(row['targets'])}"]
        rows += "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
    meaning = (
        "True masks measure the labels; training does not use them."
        if known
        else "The data set has no masks to compare the labels with."
    )
    return (
        f'<p class="small soft">Labels of the training frames. {meaning}</p><div class="wide">'
        f'<table class="sets"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _bright_ground(last: dict[str, Any]) -> str:
    """A warning about labels that cover bright ground."""
    count, names = int(last.get("bright_ground", 0)), last.get("bright_ground_frames", [])
    if not count:
        return ""
    some = ", ".join(escape(printable(str(name))) for name in names)
    return f"<p>Labels that cover bright ground around their target: {count}, in {some}.</p>"


def _groups(last: dict[str, Any]) -> str:
    """Tables of the IoU at the end by the targets' size and contrast."""
    tables = ""
    for key, title in (("iou_by_pixels", "pixels of the target"), ("iou_by_contrast", "contrast")):
        if key in last:
            rows = "".join(
                f"<tr><td>{escape(str(name))}</td><td>{float(value):.3f}</td></tr>"
                for name, value in last[key].items()
            )
            caption = f"<caption>IoU at the end by {title}</caption>"
            tables += f'<table class="card">{caption}<tbody>{rows}</tbody></table>'
    return f'<div class="pair">{tables}</div>' if tables else ""


def _picture(strip: Path) -> str:
    if not strip.is_file():
        return ""
    data = base64.b64encode(strip.read_bytes()).decode("ascii")
    text = (
        "Some targets, a row each, over the training: the frame around the target, its true mask if there is "
        "one, then the label at the start and after each update."
    )
    return (
        f'<figure class="wide"><img alt="Labels over the epochs" src="data:image/png;base64,{data}">'
        f"<figcaption>{text}</figcaption></figure>"
    )
