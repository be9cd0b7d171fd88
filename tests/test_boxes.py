"""Boxes around targets: their files, and the points and ignore regions that they give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from dimpoint.datasets.boxes import label_boxes, read_boxes, spot_in_box
from dimpoint.errors import DataError

Frame = npt.NDArray[np.uint8]


def sky(*spots: tuple[float, float], peak: float = 60, noise: float = 1) -> Frame:
    """A 60x80 frame of level 80 with Gaussian spots of sigma 1 at x, y."""
    y, x = np.mgrid[:60, :80]
    frame = 80 + noise * np.random.default_rng(0).standard_normal((60, 80))
    for sx, sy in spots:
        frame += peak * np.exp(-((x - sx) ** 2 + (y - sy) ** 2) / 2)
    return frame.round().clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("frame", "box"),
    [
        (sky((30, 20)), (24, 14, 36, 26)),  # in the middle
        (sky((26, 17)), (24, 14, 36, 26)),  # off the middle of a loose box
        (sky((30, 20), (60, 40), peak=100), (24, 14, 36, 26)),  # another spot elsewhere
        (sky((30, 20), peak=12), (24, 14, 36, 26)),  # faint
        (sky((30, 20), noise=12), (24, 14, 36, 26)),  # in a noisy frame
        (sky((1, 1)), (-4, -4, 6, 6)),  # a box over the frame's corner
        (sky((30, 20)).astype(np.uint16) * 200, (24, 14, 36, 26)),  # 16-bit counts
        (sky((30, 20)).astype(np.float32), (24, 14, 36, 26)),
    ],
)
def test_the_spot_is_found_where_it_is(frame: Frame, box: tuple[float, ...]) -> None:
    inside = frame.astype(np.float32)[
        max(int(box[1]), 0) : int(box[3]) + 1, max(int(box[0]), 0) : int(box[2]) + 1
    ]
    row, column = divmod(int(inside.argmax()), inside.shape[1])
    spot = spot_in_box(frame, np.array(box))
    assert spot == pytest.approx((column + max(box[0], 0), row + max(box[1], 0)), abs=1)


@pytest.mark.parametrize(
    ("frame", "box"),
    [
        (sky(), (24, 14, 36, 26)),  # noise alone
        (np.full((60, 80), 90, np.uint8), (24, 14, 36, 26)),  # flat
        (sky((60, 40)), (24, 14, 36, 26)),  # a spot, but in no box
        (np.tile(np.linspace(0, 255, 80), (60, 1)).astype(np.uint8), (24, 14, 36, 26)),  # a slope
    ],
)
def test_a_box_without_a_spot_gives_none(frame: Frame, box: tuple[float, ...]) -> None:
    assert spot_in_box(frame, np.array(box)) is None


def test_labels_of_a_frame_count_what_gives_no_point() -> None:
    frame = sky((30, 20))
    boxes = [
        [24, 14, 36, 26],  # with the spot
        [50, 30, 60, 40],  # without one
        [20, 10, 60, 50],  # larger than asked for
        [90, 10, 99, 20],  # outside the frame
        [70, 50, 120, 90],  # partly outside: cut off
    ]
    labels = label_boxes(frame, np.array(boxes))
    assert labels.points == pytest.approx(np.array([[30, 20]]), abs=0.5)
    assert labels.ignore.tolist() == [*boxes[:3], [70, 50, 79, 59]]
    assert (labels.without_spot, labels.outside) == (3, 1)


def test_no_box_is_no_label() -> None:
    labels = label_boxes(sky(), np.empty((0, 4)))
    assert (labels.points.shape, labels.ignore.shape) == ((0, 2), (0, 4))
    assert (labels.without_spot, labels.outside) == (0, 0)


def test_boxes_are_read_by_frame(tmp_path: Path) -> None:
    file = tmp_path / "boxes.csv"
    file.write_text("frame,label,x,y,width,height\n3,BIRD,1,2,10,20\n3,BIRD,5,5,1,1\n7,BIRD,0.5,0,2,2\n")
    boxes = {frame: rows.tolist() for frame, rows in read_boxes(file).items()}
    assert boxes == {"3": [[1, 2, 11, 22], [5, 5, 6, 6]], "7": [[0.5, 0, 2.5, 2]]}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no column 'frame'"),  # an empty file
        ("frame,x,y,width\n1,2,3,4\n", "no column 'height'"),
        ("frame,x,y,width,height\n1,2,3,4,wide\n", "line 2: height must be a number"),
        ("frame,x,y,width,height\n1,2,3,nan,4\n", "line 2: width must be a number"),
        ("frame,x,y,width,height\n1,2,3,4\n", "line 2: height must be a number"),  # a short row
        ("frame,x,y,width,height\n1,2,3,-4,5\n", "line 2: the box has the negative size -4x5"),
    ],
)
def test_wrong_box_files_are_named(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "boxes.csv"
    file.write_text(text)
    with pytest.raises(DataError, match=r"boxes\.csv") as caught:
        read_boxes(file)
    assert says in str(caught.value)


def test_a_missing_box_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: not a readable CSV"):
        read_boxes(tmp_path / "none.csv")
