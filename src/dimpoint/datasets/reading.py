"""How ambiguous labels and frames are read; chosen by the user, never guessed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dimpoint.datasets.coordinates import BY_OPTION, ONE_BASED, OTHER_RULES
from dimpoint.errors import ConfigError, DataError

if TYPE_CHECKING:
    from dimpoint.sources import ReadOptions

MASK_VALUES = ("binary", "nonzero", "instances", "alpha")
POINT_RULES = ("pixels", *BY_OPTION, "unlabelled")


@dataclass(frozen=True)
class Reading:
    """How masks and points are read.

    Parameters
    ----------
    mask_values : str, optional
        "binary" (values above 127 are targets; also the default), "nonzero" (values above 0), "instances"
        (values above 0, each an object of its own), "alpha" (the alpha channel is the mask), or a list of
        values such as "2,3".
    invert : bool, default False
        The unmarked pixels are the targets.
    points : frozenset of str
        "swapped", "percent", "normalised", "bottom-left" and "one-based" say what coordinates mean; see
        `dimpoint.datasets.coordinates`. "unlabelled": points of visibility 0 are targets.
    categories : tuple of str
        The COCO categories that are targets. Default: all.
    accept : bool, default False
        Accept labels that look wrong.
    orientation : {"stored", "upright"}, optional
        How frames with an EXIF orientation are read; without a choice they are refused.
    colour : str, optional
        "luma" or the name of a colour map, for colour frames; see `dimpoint.sources.colours.one_channel`.
    """

    mask_values: str | None = None
    invert: bool = False
    points: frozenset[str] = field(default_factory=frozenset)
    categories: tuple[str, ...] = ()
    accept: bool = False
    orientation: Literal["stored", "upright"] | None = None
    colour: str | None = None

    def __post_init__(self) -> None:
        if self.mask_values is not None and self.mask_values not in MASK_VALUES and self.listed() is None:
            raise ConfigError(
                f"--mask-values: '{self.mask_values}' is none of {', '.join(MASK_VALUES)}, "
                "and no list of values such as 2,3"
            )
        unknown = sorted(self.points.difference(POINT_RULES))
        if unknown:
            raise ConfigError(f"--points: '{unknown[0]}' is none of {', '.join(POINT_RULES)}")
        if {"normalised", "percent"} <= self.points:
            raise ConfigError("--points: coordinates are normalised or percent, not both")
        if self.orientation not in (None, "stored", "upright"):
            raise ConfigError(f"--orientation: '{self.orientation}' is neither stored nor upright")
        if self.colour is not None:
            from dimpoint.sources.colours import check_colour

            check_colour(self.colour)

    def listed(self) -> tuple[float, ...] | None:
        """The values that are targets, if they are given as a list."""
        try:
            return tuple(float(part) for part in (self.mask_values or "").split(","))
        except ValueError:
            return None

    def to_pixels(self, x: float, y: float, size: tuple[int, int]) -> tuple[float, float]:
        """A point as written -> pixels from 0 at the top left. size: (height, width) of the frame.

        A count from 1 ends first, then swapped coordinates are exchanged.
        """
        point = np.array([[x, y]], np.float64)
        for rule in (ONE_BASED, *OTHER_RULES):
            if rule.option in self.points:
                point = rule.to_pixels(point, size)
        return float(point[0, 0]), float(point[0, 1])

    def to_record(self) -> dict[str, Any]:
        """A JSON-compatible dict; `from_record` reads it back."""
        return {
            "mask_values": self.mask_values,
            "invert": self.invert,
            "points": sorted(self.points),
            "categories": list(self.categories),
            "accept": self.accept,
            "orientation": self.orientation,
            "colour": self.colour,
        }

    @classmethod
    def from_record(cls, record: dict[str, Any] | None) -> Reading:
        """The reading of a run's record, or the default if it has none."""
        if not record:
            return cls()
        return cls(
            record["mask_values"],
            record["invert"],
            frozenset(record["points"]),
            tuple(record["categories"]),
            record["accept"],
            record.get("orientation"),
            record.get("colour"),
        )

    @classmethod
    def of_options(
        cls,
        mask_values: str | None,
        invert_masks: bool,
        points: str | None,
        categories: Sequence[str] | None,
        accept_labels: bool,
        orientation: Any = None,
        colour: str | None = None,
    ) -> Reading:
        """The reading chosen by command-line options."""
        rules = frozenset(part.strip() for part in (points or "pixels").split(","))
        chosen = tuple(categories or ())
        return cls(mask_values, invert_masks, rules - {"pixels"}, chosen, accept_labels, orientation, colour)


AS_WRITTEN = Reading()  # nothing is chosen


def frame_options(reading: Reading) -> ReadOptions:
    """How the frames of a data set are read."""
    from dimpoint.sources import ReadOptions

    return ReadOptions(orientation=reading.orientation, refuse_turned=True, colour=reading.colour)


def frame_size(path: Path, reading: Reading = AS_WRITTEN) -> tuple[int, int]:
    """A frame's (height, width), from the header of a PNG that is not to be turned, else by reading it."""
    from dimpoint.sources import read_image

    try:
        with path.open("rb") as file:
            header = file.read(24)
    except OSError:  # reading the frame says what is wrong
        header = b""
    if reading.orientation != "upright" and len(header) == 24 and header[12:16] == b"IHDR":
        return int.from_bytes(header[20:24]), int.from_bytes(header[16:20])
    height, width = read_image(path, frame_options(reading)).shape
    return height, width


def check_size(
    path: Path, size: tuple[int, ...], written: tuple[int, int] | None, source: str, reading: Reading
) -> None:
    """Raise DataError if a frame has another (height, width) than its labels say and they are not accepted.

    written: the size by the labels, or None. source: the file that holds them, for the message.
    """
    if written is not None and written != size and not reading.accept:
        raise DataError(
            f"{path}: the frame is {size[1]}x{size[0]}, {source} says {written[1]}x{written[0]}: its points "
            "are of other pixels; --accept-labels takes them as they are"
        )


def reader_notes(read: Iterable[tuple[str, Sequence[str]]]) -> list[str]:
    """What readers said of frames, one line for each note. read: frames by name, with their notes."""
    frames: dict[str, list[str]] = {}
    for name, notes in read:
        for note in notes:
            frames.setdefault(note, []).append(name)
    return [
        f"{names[0]}{f' and {len(names) - 1} more frames' * (len(names) > 1)}: {note}"
        for note, names in frames.items()
    ]
