"""Data sets for training from clips with boxes and from backgrounds, in dimpoint's own layout.

    python benchmarks/prepare.py --data DATA --out OUT [--every 20]

Makes OUT/sky-clips (IR-video), OUT/drone-clips (AntiUAV-video) and OUT/uav-background (HIT-UAV-background),
each with images, points.json and the splits `train_NAME.txt` and `validation_NAME.txt`, which
`benchmarks/parts.py` decides. Points are the spots inside boxes of at most 25 px (`dimpoint.datasets.boxes`);
boxes, cars, and places at which a further bird had a box up to 20 frames before or after are ignore regions.
One JSON line for each set.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from dimpoint.datasets.boxes import Boxes, label_boxes, read_boxes
from dimpoint.datasets.coco import PointImage, write_points
from dimpoint.sources import read_image
from dimpoint.sources.video import read_video
from parts import backgrounds, drone_clips, sky_clips

NONE = np.empty((0, 4))
NEAR_FRAMES = 20
MARGIN = 6.0  # pixels around what another frame's box says

Frame = tuple[str, npt.NDArray[np.uint8], Boxes, Boxes]  # name, pixels, targets' boxes, other ignore regions


def frames_of(clips: list[Path], every: int) -> Iterator[Frame]:
    for clip in clips:
        yield from clip_frames(clip, every)


def clip_frames(clip: Path, every: int) -> Iterator[Frame]:
    boxes = read_boxes(clip.with_name(f"{clip.stem}_LABELS.csv"))
    several = any(len(here) > 1 for here in boxes.values())
    for number, frame in enumerate(read_video(clip)):
        if number % every == 0:
            here = boxes.get(str(number), NONE)
            others = NONE
            if several:
                near = range(number - NEAR_FRAMES, number + NEAR_FRAMES + 1)
                others = unlabelled(here, np.concatenate([boxes.get(str(n), NONE) for n in near]))
            yield f"{clip.stem}/{number:05}", frame, here, others


def unlabelled(here: Boxes, near: Boxes) -> Boxes:
    """The boxes of other frames, widened, that meet none of this frame."""
    wide = near + MARGIN * np.array([-1, -1, 1, 1])
    meets = ((wide[:, None, :2] <= here[None, :, 2:]) & (wide[:, None, 2:] >= here[None, :, :2])).all(axis=2)
    return wide[~meets.any(axis=1)]


def background_frames(files: list[Path], cars: dict[str, Boxes]) -> Iterator[Frame]:
    for file in files:
        yield file.stem, read_image(file), NONE, cars.get(file.name, NONE)


def write_set(out: Path, splits: dict[str, Iterable[Frame]]) -> dict[str, int | str]:
    images: list[PointImage] = []
    total = {"frames": 0, "points": 0, "boxes": 0, "without_spot": 0, "outside": 0}
    (out / "img_idx").mkdir(parents=True)
    for split, frames in splits.items():
        names = []
        for name, frame, boxes, others in frames:
            file = out / "images" / f"{name}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(file), frame)
            labels = label_boxes(frame, boxes)
            ignore = np.concatenate([labels.ignore, others]).astype(np.float32)
            height, width = frame.shape
            images.append(PointImage(f"{name}.png", width, height, labels.points, ignore))
            names.append(name)
            total["frames"] += 1
            total["points"] += len(labels.points)
            total["boxes"] += len(boxes)
            total["without_spot"] += labels.without_spot
            total["outside"] += labels.outside
        (out / "img_idx" / f"{split}_{out.name}.txt").write_text("\n".join(names) + "\n")
    write_points(out / "points.json", images)
    return {"set": out.name, **total}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--every", type=int, default=20, help="every nth frame of a clip that trains")
    options = parser.parse_args()
    uav = options.data / "HIT-UAV-background"
    for name, parts in (
        ("sky-clips", sky_clips(options.data / "IR-video")),
        ("drone-clips", drone_clips(options.data / "AntiUAV-video")),
    ):
        steps = options.every, 4 * options.every
        splits = {
            split: frames_of(clips, step)
            for split, clips, step in zip(("train", "validation"), parts, steps, strict=True)
        }
        print(json.dumps(write_set(options.out / name, splits)), flush=True)
    cars = read_boxes(uav / "boxes.csv", "file")
    train, held = (background_frames(files, cars) for files in backgrounds(uav))
    line = write_set(options.out / "uav-background", {"train": train, "validation": held})
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
