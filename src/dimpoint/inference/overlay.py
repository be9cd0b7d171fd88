"""Frames as pictures with their targets circled."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from dimpoint.atomic import replacing
from dimpoint.errors import DataError, MissingExtraError
from dimpoint.model.intensity import IntensityRule
from dimpoint.model.validity import filled

if TYPE_CHECKING:
    from dimpoint.inference.detections import Detections
    from dimpoint.sources import Frame

_STRETCH = IntensityRule(kind="percentile", low=0.5, high=99.9, clip=True)
_READABLE = 512  # pixels; frames whose longer side is shorter are enlarged by an integer factor
_MOST_ENLARGED = 8
RADIUS = 9  # of a circle, pixels of the picture
COLOUR = (80, 230, 60)  # BGR
OUTLINE = (0, 0, 0)
SHIFT = 4  # binary digits of OpenCV's sub-pixel coordinates
_LONGEST_NAME = 40  # characters of a picture's name
_MOST_LABELS = 200  # more scores would hide the frame

Box = tuple[float, float, float, float]  # left, top, right, bottom


def draw(
    frame: npt.NDArray[Any], xy: npt.NDArray[np.float32], scores: npt.NDArray[np.float32]
) -> npt.NDArray[np.uint8]:
    """Circle targets on a frame.

    Parameters
    ----------
    frame : (H, W) array
        uint8, uint16 or float32; stretched from the 0.5th to the 99.9th percentile.
    xy : (N, 2) float32 array
        x, y in frame pixels.
    scores : (N,) float32 array
        Written beside the circles of the first 200.

    Returns
    -------
    (kH, kW, 3) uint8 array
        In BGR order. A frame of less than 512 pixels is enlarged k times, so that circles and scores do not
        cover it.
    """
    picture, times = enlarged(frame)
    centres = (xy + 0.5) * times - 0.5
    for centre in np.round(centres * 2**SHIFT).astype(int).tolist():
        cv2.circle(picture, centre, RADIUS << SHIFT, COLOUR, 1, cv2.LINE_AA, SHIFT)
    taken = [(x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS) for x, y in centres.round().tolist()]
    for (x, y), score in zip(centres[:_MOST_LABELS].tolist(), scores.tolist(), strict=False):
        write_label(picture, f"{score:.2f}", round(x), round(y), taken)
    return picture


def enlarged(frame: npt.NDArray[Any]) -> tuple[npt.NDArray[np.uint8], int]:
    """A frame (H, W) as a grey picture, (kH, kW, 3) uint8, and k; see `draw`."""
    times = min(_MOST_ENLARGED, -(-_READABLE // max(frame.shape)))
    grey = np.round(_STRETCH.apply(frame) * 255).astype(np.uint8)
    large = cv2.resize(grey, None, fx=times, fy=times, interpolation=cv2.INTER_NEAREST)
    return np.asarray(cv2.cvtColor(large, cv2.COLOR_GRAY2BGR), np.uint8), times


def plot(
    xy: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    size: tuple[int, int],
    frame: npt.NDArray[Any] | None,
    ax: Any,
) -> Any:
    """Circle targets on a matplotlib axis; see `Detections.plot`. size: width and height of the frame."""
    if find_spec("matplotlib") is None:
        raise MissingExtraError("plot", "matplotlib", "report")
    if ax is None:
        import matplotlib.pyplot as plt

        ax = plt.subplots()[1]
    if frame is not None:
        ax.imshow(_STRETCH.apply(np.asarray(frame)), cmap="gray", vmin=0, vmax=1)
    elif size[0]:
        ax.set(xlim=(-0.5, size[0] - 0.5), ylim=(size[1] - 0.5, -0.5), aspect="equal")
    ax.scatter(xy[:, 0], xy[:, 1], s=120, facecolors="none", edgecolors="tab:green")
    for (x, y), score in zip(xy[:_MOST_LABELS].tolist(), scores.tolist(), strict=False):
        ax.annotate(f"{score:.2f}", (x, y), (8, 4), textcoords="offset points", color="tab:green", fontsize=8)
    return ax


def write_picture(path: Path, picture: npt.NDArray[np.uint8], *, durable: bool = True) -> None:
    """Write a picture atomically.

    Parameters
    ----------
    path : Path
        A .png or .jpg file.
    picture : (H, W) or (H, W, 3) uint8 array
        Grey, or colours in BGR order.
    durable : bool
        Flush the file to the disk. Default: True.

    Raises
    ------
    DimpointError
        If it cannot be written.
    """
    try:
        encoded = cv2.imencode(path.suffix, picture)[1].tobytes()
    except cv2.error:
        raise DataError(f"{path}: a picture is written as .png or .jpg") from None
    with replacing(path, durable=durable) as temporary:
        temporary.write_bytes(encoded)


class PictureFolder:
    """Writes overlays into a folder, under short unique names.

    Parameters
    ----------
    folder : Path
        The folder.
    names : list of str
        Names that are in use.
    """

    def __init__(self, folder: Path, names: list[str]) -> None:
        self.folder = folder
        self._used = {name.removesuffix(".png").casefold() for name in names}

    def write(self, frame: Frame, found: Detections) -> str:
        """Write the overlay of a frame; return its name."""
        name = f"{self._name(frame)}.png"
        pixels = filled(frame.pixels, frame.valid)  # a no-data value would leave no contrast to the others
        write_picture(self.folder / name, draw(pixels, found.xy, found.scores), durable=False)
        return name

    def _name(self, frame: Frame) -> str:
        """The frame's path as one word, shortened to its end; numbered where it is in use.

        A frame clip.mp4#000007 is clip.mp4_000007: in the address of a page, # would end the file's name.
        """
        file = frame.file if frame.index is not None else str(Path(frame.file).with_suffix(""))
        word = re.sub(r"[^\w.-]+", "_", file).strip("._")[-_LONGEST_NAME:] or "frame"
        name, number = word, 2
        while name.casefold() in self._used:
            name, number = f"{word}-{number}", number + 1
        self._used.add(name.casefold())
        return name


def write_label(
    picture: npt.NDArray[np.uint8],
    text: str,
    x: int,
    y: int,
    taken: list[Box],
    colour: tuple[int, int, int] = COLOUR,
) -> None:
    """Write a score beside the mark at (x, y), unless it would cover one of the boxes that are taken."""
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.4
    (width, height), _ = cv2.getTextSize(text, font, size, 1)
    rows, columns = picture.shape[:2]
    gap = RADIUS + 3
    places = [
        (x + gap, y + height // 2),
        (x - gap - width, y + height // 2),
        (x - width // 2, y - gap),
        (x - width // 2, y + gap + height),
        (x + gap, y - gap),
        (x + gap, y + gap + height),
        (x - gap - width, y - gap),
        (x - gap - width, y + gap + height),
    ]
    for left, bottom in places:
        bottom = min(max(bottom, height), rows - 1)
        box = (left - 1, bottom - height, left + width, bottom + 1)
        if left < 0 or left + width > columns or any(overlap(box, other) for other in taken):
            continue
        taken.append(box)
        outlined(picture, text, (left, bottom), size, colour)
        return


def outlined(
    picture: npt.NDArray[np.uint8],
    text: str,
    origin: tuple[int, int],
    size: float,
    colour: tuple[int, int, int],
) -> None:
    """Text with a dark edge, readable on a bright background, too.

    The edge is the same text moved by a pixel: thick text is wider in OpenCV 5.
    """
    moves = [(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1) if (x, y) != (0, 0)]
    for (x, y), ink in [*((move, OUTLINE) for move in moves), ((0, 0), colour)]:
        place = (origin[0] + x, origin[1] + y)
        cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, ink, 1, cv2.LINE_AA)


def overlap(one: Box, other: Box) -> bool:
    """Whether two boxes have a common part."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
