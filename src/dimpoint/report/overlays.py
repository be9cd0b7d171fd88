"""Evaluated frames as pictures: found targets, missed targets and false objects, with a legend."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dimpoint.atomic import replacing_folder
from dimpoint.errors import DataError
from dimpoint.evaluation.run import FrameResult, Result
from dimpoint.evaluation.tables import names_of
from dimpoint.inference.overlay import (
    COLOUR,
    OUTLINE,
    RADIUS,
    SHIFT,
    Box,
    enlarged,
    write_label,
    write_picture,
)

Picture = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

# Colours (BGR) that differ in lightness, and shapes, for print and for colour-blind readers.
MARKS: dict[str, Colour] = {"found": COLOUR, "missed": (0, 215, 255), "false": (60, 80, 255)}
_LEGEND_HEIGHT = 26  # pixels
_FONT, _SIZE = cv2.FONT_HERSHEY_SIMPLEX, 0.45


def draw_result(result: FrameResult, pixels: npt.NDArray[Any], *, legend: bool = True) -> Picture:
    """Mark found targets (circles), missed targets (squares) and false objects (diamonds) on a frame.

    Parameters
    ----------
    result : FrameResult
        The evaluated frame; its predictions above the threshold are shown with their scores.
    pixels : (H, W) uint8, uint16 or float32
        The frame.
    legend : bool, default True
        Add a strip below the frame that explains the marks and counts them.

    Returns
    -------
    (kH, kW, 3) uint8
        BGR picture; a frame of less than 512 pixels is enlarged k times. The legend adds rows.
    """
    picture, times = enlarged(pixels)
    false = np.isin(np.arange(len(result.pred_xy)), result.false)
    marked = [
        ("found", result.pred_xy[~false], result.scores[~false]),
        ("false", result.pred_xy[false], result.scores[false]),
        ("missed", result.truth_xy[result.missed], None),
    ]
    centres = {kind: (xy + 0.5) * times - 0.5 for kind, xy, _ in marked}
    taken: list[Box] = []
    for kind, places in centres.items():
        for x, y in places.tolist():
            draw_mark(picture, kind, x, y)
            taken.append((x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS))
    for kind, _, scores in marked:
        for (x, y), score in zip(
            centres[kind].tolist(), () if scores is None else scores.tolist(), strict=False
        ):
            write_label(picture, f"{score:.2f}", round(x), round(y), taken, MARKS[kind])
    if not legend:
        return picture
    counts = {"found": len(result.pairs), "missed": len(result.missed), "false": len(result.false)}
    return np.vstack([picture, legend_strip(picture.shape[1], counts)])


def draw_mark(picture: Picture, kind: str, x: float, y: float) -> None:
    """Draw a mark of `MARKS` around (x, y), pixels of the picture, in place."""
    colour, radius = MARKS[kind], RADIUS
    if kind == "found":
        centre = (round(x * 2**SHIFT), round(y * 2**SHIFT))
        cv2.circle(picture, centre, radius << SHIFT, colour, 1, cv2.LINE_AA, SHIFT)
        return
    square = [(-radius, -radius), (radius, -radius), (radius, radius), (-radius, radius)]
    diamond = [(0, -radius - 2), (radius + 2, 0), (0, radius + 2), (-radius - 2, 0)]
    corners = np.array(square if kind == "missed" else diamond) + np.array([x, y])
    cv2.polylines(
        picture, [np.round(corners * 2**SHIFT).astype(np.int32)], True, colour, 1, cv2.LINE_AA, SHIFT
    )


def legend_strip(width: int, counts: dict[str, int] | None = None) -> Picture:
    """The legend of the marks, a strip of `width` pixels; counts: numbers to show behind the names."""
    strip = np.full((_LEGEND_HEIGHT, width, 3), OUTLINE, np.uint8)
    x = RADIUS + 6
    for kind, colour in MARKS.items():
        text = kind if counts is None else f"{kind} {counts[kind]}"
        draw_mark(strip, kind, x, _LEGEND_HEIGHT / 2 - 0.5)
        cv2.putText(strip, text, (x + RADIUS + 8, 18), _FONT, _SIZE, colour, 1, cv2.LINE_AA)
        x += cv2.getTextSize(text, _FONT, _SIZE, 1)[0][0] + 3 * RADIUS + 20
    return strip


def check_folder(folder: Path) -> None:
    """Raise DataError unless `folder` is new or empty: pictures of two evaluations must not mix."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder}: is not empty; name a new folder for the pictures")


def write_overlays(folder: Path, results: Sequence[Result]) -> int:
    """Write a picture of every evaluated frame; see `draw_result`.

    Parameters
    ----------
    folder : Path
        New or empty. A frame NAME becomes NAME.png; several methods and data sets get a folder each.
    results : sequence of Result
        One or several methods.

    Returns
    -------
    int
        The number of pictures.

    Raises
    ------
    DataError
        If the folder is not empty, or there are only labels and no frames.
    DimpointError
        If a picture cannot be written.
    """
    check_folder(folder)
    with replacing_folder(folder.absolute()) as written:
        return _write(written, results)


def _folder_names(names: Sequence[str]) -> list[str]:
    """Names of methods or data sets, which may be paths, as names of folders: short where that is unique."""
    safe = [re.sub(r"[^\w.()-]+", "_", name).strip("._") for name in names]
    short = [re.sub(r"[^\w.()-]+", "_", Path(name).stem).strip("._") for name in names]
    return short if len(set(short)) == len(short) and all(short) else safe


def _write(folder: Path, results: Sequence[Result]) -> int:
    count = 0
    for method, result in zip(_folder_names(names_of(results)), results, strict=True):
        sets = _folder_names([part.name for part in result.sets])
        for data_set, part in zip(sets, result.sets, strict=True):
            place = folder / (method if len(results) > 1 else "") / (data_set if len(sets) > 1 else "")
            for frame in part.frames:
                pixels = frame.read_pixels()
                if pixels is not None:
                    picture = draw_result(frame, pixels)
                    name = re.sub(r"[#?%]", "_", frame.frame.name)  # these end a name in an address
                    write_picture(place / f"{name}.png", picture, durable=False)
                    count += 1
    if not count:
        raise DataError("no pictures: the data hold labels only, no frames")
    return count
