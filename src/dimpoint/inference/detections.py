"""`Detections`: the targets found in one frame, and their files on disk."""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from dimpoint.atomic import write_text
from dimpoint.errors import DataError, DimpointError, MissingExtraError
from dimpoint.text import csv_cell

if TYPE_CHECKING:
    from dimpoint.sources.georeference import Georeference

_DEGREE_DIGITS, _MAP_DIGITS = 9, 4  # decimals: a tenth of a millimetre
CSV_COLUMNS = ("file", "x", "y", "score")
_SHOWN = 10  # rows in a notebook


class Detection(NamedTuple):
    """One target.

    Parameters
    ----------
    x, y : float
        Position in the frame, pixels.
    score : float
        In 0..1.
    area : float, optional
        Pixels; None where the model gives no extent.
    """

    x: float
    y: float
    score: float
    area: float | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Detections:
    """Targets of one frame, best first.

    An integer index returns a `Detection`; a slice, a boolean mask or a list of integers `Detections`.
    Iteration yields each `Detection`. Two objects are equal if everything but the model's name is.

    Parameters
    ----------
    xy : (N, 2) float32 array
        x, y in pixels of the frame; the centre of the top-left pixel is (0, 0).
    scores : (N,) float32 array
        In 0..1.
    areas : (N,) float32 array, optional
        Pixels; None where the model gives no extent.
    file : str
        Name of the frame. Default: empty.
    width, height : int
        Size of the frame, pixels. Default: 0, unknown.
    model : str
        Name of the model. Default: empty.
    geo : Georeference, optional
        Where the frame's pixels lie on the map, of a GeoTIFF.

    Examples
    --------
    >>> import numpy as np
    >>> found = Detections(np.float32([[10, 20], [30, 5]]), np.float32([0.9, 0.4]), width=64, height=64)
    >>> found
    Detections(2 targets, best score 0.9, frame 64x64)
    >>> found[0].x
    10.0
    >>> len(found.filter(score=0.5)), len(found[found.xy[:, 1] < 10])
    (1, 1)
    """

    xy: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    areas: npt.NDArray[np.float32] | None = None
    file: str = ""
    width: int = 0
    height: int = 0
    model: str = field(default="")
    geo: Georeference | None = None

    def __len__(self) -> int:
        return len(self.scores)

    @overload
    def __getitem__(self, index: int | np.integer[Any]) -> Detection: ...

    @overload
    def __getitem__(self, index: slice | Sequence[int] | npt.NDArray[Any]) -> Detections: ...

    def __getitem__(
        self, index: int | np.integer[Any] | slice | Sequence[int] | npt.NDArray[Any]
    ) -> Detection | Detections:
        if isinstance(index, int | np.integer):
            area = None if self.areas is None else float(self.areas[index])
            return Detection(
                float(self.xy[index, 0]), float(self.xy[index, 1]), float(self.scores[index]), area
            )
        chosen = index if isinstance(index, slice) else np.asarray(index)
        if not isinstance(chosen, slice) and chosen.size == 0:
            chosen = chosen.astype(np.intp)
        areas = None if self.areas is None else self.areas[chosen]
        return replace(self, xy=self.xy[chosen], scores=self.scores[chosen], areas=areas)

    def __iter__(self) -> Iterator[Detection]:
        return (self[number] for number in range(len(self)))

    def __repr__(self) -> str:
        best = f", best score {self.scores.max():.3g}" if len(self) else ""
        frame = f", frame {self.width}x{self.height}" if self.width else ""
        name = f", {self.file!r}" if self.file else ""
        return f"Detections({len(self)} target{'s' * (len(self) != 1)}{best}{frame}{name})"

    def _repr_html_(self) -> str:
        """A table of the first targets, for notebooks."""
        names = ["x", "y", "score"] if self.areas is None else ["x", "y", "score", "area"]
        head = "".join(f"<th>{name}</th>" for name in names)
        rows = "".join(
            "<tr>"
            + "".join(f"<td>{value:.4g}</td>" for value in each[: len(names)] if value is not None)
            + "</tr>"
            for each in self[:_SHOWN]
        )
        more = f"<p>and {len(self) - _SHOWN} more</p>" if len(self) > _SHOWN else ""
        return f"<p>{html.escape(repr(self))}</p><table><tr>{head}</tr>{rows}</table>{more}"

    def filter(self, *, score: float) -> Detections:
        """The targets whose score is above `score`."""
        return self[self.scores > score]

    def to_dataframe(self) -> Any:
        """A pandas DataFrame with the columns file, x, y, score and, where it is known, area.

        Raises MissingExtraError if pandas is not installed.
        """
        if find_spec("pandas") is None:
            raise MissingExtraError("to_dataframe", "pandas", "notebook")
        import pandas as pd

        columns = {"file": [self.file] * len(self), "x": self.xy[:, 0], "y": self.xy[:, 1]}
        areas = {} if self.areas is None else {"area": self.areas}
        return pd.DataFrame(columns | {"score": self.scores} | areas)

    def to_supervision(self, size: float = 8) -> Any:
        """Convert to `supervision.Detections`, with a box around each target.

        Parameters
        ----------
        size : float
            Side of a box in pixels, where the model gives no extent. Default: 8.

        Raises
        ------
        DimpointError
            If the package supervision is not installed.
        """
        if find_spec("supervision") is None:
            raise DimpointError("to_supervision needs the package 'supervision': pip install supervision")
        import supervision

        half = np.full(len(self), size / 2) if self.areas is None else np.sqrt(self.areas) / 2
        boxes = np.concatenate([self.xy - half[:, None], self.xy + half[:, None]], axis=1)
        classes = np.zeros(len(self), int)
        return supervision.Detections(xyxy=boxes, confidence=self.scores, class_id=classes)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Detections):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]

    def to_dict(self) -> dict[str, Any]:
        """The frame's entry in `detections.json`: file, width, height, and detections (x, y, score, area).

        Numbers are the shortest decimals that represent the float32 values. With a georeference the entry has
        `geo`, and every detection `map_x` and `map_y` in the units of the coordinate system and, where known,
        `lon` and `lat` in degrees.
        """
        columns = [("x", self.xy[:, 0]), ("y", self.xy[:, 1]), ("score", self.scores)]
        if self.areas is not None:
            columns.append(("area", self.areas))
        values = [[_shortest(value) for value in column] for _, column in columns]
        names = [name for name, _ in columns]
        found = [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]
        entry: dict[str, Any] = {"file": self.file, "width": self.width, "height": self.height}
        if self.geo is not None:
            entry["geo"] = self.geo.to_record()
            for one, place in zip(found, self._places(self.geo), strict=True):
                one.update(place)
        return entry | {"detections": found}

    def _places(self, geo: Georeference) -> list[dict[str, float]]:
        digits = _DEGREE_DIGITS if geo.is_in_degrees else _MAP_DIGITS
        places = [{"map_x": x, "map_y": y} for x, y in geo.map_xy(self.xy).round(digits).tolist()]
        lonlat = geo.lonlat(self.xy)
        if lonlat is not None:
            for place, (lon, lat) in zip(places, lonlat.round(_DEGREE_DIGITS).tolist(), strict=True):
                place.update(lon=lon, lat=lat)
        return places

    def to_coco(self) -> dict[str, Any]:
        """The content of a COCO keypoints file for this frame; see `coco_content`."""
        return coco_content([self])

    def to_csv(self) -> str:
        """CSV with the header `file,x,y,score`, and `area` where it is known; one line for each target."""
        return csv_text([self])

    def save(self, path: str | Path) -> None:
        """Write the targets of the frame.

        Parameters
        ----------
        path : str or Path
            A `.json` file, written as `detections.json`, or a `.csv` file.

        Raises
        ------
        DimpointError
            For another suffix, or a file that cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() == ".json":
            write_detections(path, self.model, [self])
        elif path.suffix.lower() == ".csv":
            write_text(path, self.to_csv())
        else:
            raise DataError(f"{path}: detections are saved as .json or .csv")

    def draw(self, frame: npt.NDArray[Any], out: str | Path | None = None) -> npt.NDArray[np.uint8]:
        """Draw the frame with its targets circled.

        Parameters
        ----------
        frame : (H, W) array
            uint8, uint16 or float32.
        out : str or Path, optional
            An image file to write, too.

        Returns
        -------
        (kH, kW, 3) uint8 array
            In BGR order; small frames are enlarged k times.
        """
        from dimpoint.inference.overlay import draw, write_picture

        picture = draw(frame, self.xy, self.scores)
        if out is not None:
            write_picture(Path(out), picture)
        return picture

    def plot(self, frame: npt.NDArray[Any] | None = None, ax: Any = None) -> Any:
        """Circle the targets on a matplotlib axis.

        Parameters
        ----------
        frame : (H, W) array, optional
            Shown in grey.
        ax : matplotlib.axes.Axes, optional
            Default: a new one.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        MissingExtraError
            If matplotlib is not installed.
        """
        from dimpoint.inference.overlay import plot

        return plot(self.xy, self.scores, (self.width, self.height), frame, ax)


def write_detections(path: Path, model: str, items: Iterable[Detections]) -> None:
    """Write `detections.json` atomically.

    Parameters
    ----------
    path : Path
        The file.
    model : str
        Name of the model.
    items : iterable of Detections
        One for each frame.

    Raises
    ------
    DimpointError
        If it cannot be written.
    """
    entries = ",\n".join(json.dumps(item.to_dict(), ensure_ascii=False) for item in items)
    name = json.dumps(model, ensure_ascii=False)
    write_text(path, f'{{"model": {name}, "images": [\n{entries}\n]}}\n')


def coco_content(items: Sequence[Detections]) -> dict[str, Any]:
    """The content of a COCO keypoints file, which `dimpoint.datasets.coco` reads as points.

    Each target is an annotation with `num_keypoints: 1`, `keypoints: [x, y, 2]`, its `score`, and its `area`
    where it is known. A point has no extent, so `bbox` is a square of 5 pixels around it and `area` is 25.

    Parameters
    ----------
    items : sequence of Detections
        One for each frame.

    Returns
    -------
    dict
        `images`, `annotations` and `categories`.
    """
    from dimpoint.datasets.coco import POINT_SIDE, point_box

    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, item in enumerate(items, 1):
        entry = item.to_dict()
        images.append({"id": image_id, "file_name": item.file, "width": item.width, "height": item.height})
        for found in entry["detections"]:
            x, y = found["x"], found["y"]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": 1,
                    "num_keypoints": 1,
                    "keypoints": [x, y, 2],
                    "bbox": point_box(x, y),
                    "area": found.get("area", POINT_SIDE**2),
                    "iscrowd": 0,
                    "score": found["score"],
                }
            )
    category = {"id": 1, "name": "target", "keypoints": ["centre"], "skeleton": []}
    return {"images": images, "annotations": annotations, "categories": [category]}


def geojson_content(items: Iterable[Detections]) -> dict[str, Any]:
    """The content of a GeoJSON file (RFC 7946): a point for each target with longitude and latitude.

    Frames without a position have none. Properties: file, x, y, score and, where it is known, area.
    """
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [found.pop("lon"), found.pop("lat")]},
            "properties": {"file": entry["file"], **found},
        }
        for entry in (item.to_dict() for item in items)
        for found in entry["detections"]
        if "lon" in found
    ]
    return {"type": "FeatureCollection", "features": features}


def csv_text(items: Iterable[Detections]) -> str:
    """CSV of the targets of several frames, with the header `file,x,y,score`.

    A column `area` follows where it is known, `map_x`, `map_y`, `lon` and `lat` where frames have positions.
    File names that a spreadsheet would take for a formula are prefixed with an apostrophe.

    Parameters
    ----------
    items : iterable of Detections
        One for each frame.

    Returns
    -------
    str
        One line for each target.
    """
    items = list(items)
    text = io.StringIO()
    area = ("area",) if any(item.areas is not None for item in items) else ()
    places = ("map_x", "map_y", "lon", "lat") if any(item.geo is not None for item in items) else ()
    writer = csv.DictWriter(text, (*CSV_COLUMNS, *area, *places), lineterminator="\n")
    writer.writeheader()
    for item in items:
        writer.writerows({"file": csv_cell(item.file), **found} for found in item.to_dict()["detections"])
    return text.getvalue()


def _shortest(value: np.float32) -> float:
    return float(str(value))
