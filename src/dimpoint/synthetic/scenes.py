"""Synthetic infrared scenes with point targets: one scene, many, or a data set on disk.

A scene is clutter (`clutter`) seen by a camera (`sensor`) with targets (`planting`). The same seed gives the
same scenes, and a scene does not depend on the number of scenes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from dimpoint import limits
from dimpoint.atomic import replacing_folder, write_text
from dimpoint.datasets.coco import PointImage, write_points
from dimpoint.errors import ConfigError, DataError
from dimpoint.synthetic.clutter import BACKGROUNDS, Background, CloudConfig, GroundConfig, SeaConfig
from dimpoint.synthetic.planting import TargetConfig, plant
from dimpoint.synthetic.sensor import Bits, Count, RangeModel, SensorConfig, add_bad_pixels, digitise, expose


class SceneConfig(RangeModel):
    """Parameters of random scenes; the fields of its parts give ranges and units."""

    height: int = Field(256, ge=1, description="pixels")
    width: int = Field(256, ge=1, description="pixels")
    bits: Bits = Field(8, description="8: uint8; 16: uint16 holding the counts of a 14-bit camera")
    background: Literal["cloud", "sea", "ground", "mixed"] = Field(
        "mixed", description="mixed: one of the three per scene"
    )
    count: Count = Field((1, 3), description="smallest and largest number of targets per frame that has any")
    empty_share: float = Field(0.1, ge=0, le=1, description="fraction of frames without targets")
    cloud: CloudConfig = CloudConfig()
    sea: SeaConfig = SeaConfig()
    ground: GroundConfig = GroundConfig()
    targets: TargetConfig = TargetConfig()
    sensor: SensorConfig = SensorConfig()

    @model_validator(mode="after")
    def _within_limits(self) -> SceneConfig:
        what = f"scenes of {self.height}x{self.width}: pixels"
        limits.check("frame_pixels", self.height * self.width, what, ConfigError)
        return self


@dataclass(frozen=True)
class Scene:
    """A frame with its truth.

    Parameters
    ----------
    frame : (H, W) uint8 or uint16
        Counts.
    mask : (H, W) bool
        Target pixels.
    points : (N, 2) float32
        x, y of the true centres, pixels.
    scr : (N,) float32
        Local signal-to-clutter ratio of each target (see `planting`).
    background : {"cloud", "sea", "ground"}
        Kind of background.
    """

    frame: npt.NDArray[Any]
    mask: npt.NDArray[np.bool_]
    points: npt.NDArray[np.float32]
    scr: npt.NDArray[np.float32]
    background: Background


def make_scene(config: SceneConfig, rng: np.random.Generator) -> Scene:
    """Make a random scene.

    Parameters
    ----------
    config : SceneConfig
        Size, background, camera and targets.
    rng : numpy.random.Generator
        Source of randomness; the same state gives the same scene.

    Returns
    -------
    Scene

    Raises
    ------
    ConfigError
        If the requested targets do not fit into the frame.

    Examples
    --------
    >>> import numpy as np
    >>> from dimpoint.synthetic.scenes import SceneConfig, make_scene
    >>> scene = make_scene(SceneConfig(width=64, height=48), np.random.default_rng(0))
    >>> scene.frame.shape, scene.frame.dtype
    ((48, 64), dtype('uint8'))
    """
    kinds: list[Background] = list(BACKGROUNDS) if config.background == "mixed" else [config.background]
    kind = kinds[int(rng.integers(len(kinds)))]
    clutter = BACKGROUNDS[kind]((config.height, config.width), rng, getattr(config, kind))
    counts = expose(clutter, rng, config.sensor, config.bits)
    empty = rng.random() < config.empty_share
    count = 0 if empty else int(rng.integers(config.count[0], config.count[1] + 1))
    planted = plant(counts.values, rng, count, config.targets, least_std=1.0, ceiling=counts.top)
    if len(planted.points) < count:
        raise ConfigError(
            f"{count} targets with a separation of {config.targets.separation:g} pixels do not fit into a "
            f"frame of {config.height}x{config.width}, only {len(planted.points)} do: "
            "ask for fewer targets, a larger frame or a smaller separation"
        )
    add_bad_pixels(counts, rng, config.sensor, planted.points)
    return Scene(digitise(counts, config.bits), planted.mask, planted.points, planted.scr, kind)


def make_scenes(config: SceneConfig, frames: int, seed: int) -> Iterator[Scene]:
    """Yield `frames` scenes; scene n depends only on the seed and n."""
    for index in range(frames):
        yield make_scene(config, np.random.default_rng([seed, index]))


def write_dataset(
    out: Path | str,
    config: SceneConfig,
    frames: int,
    seed: int = 0,
    test_fraction: float = 0.2,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write a data set of synthetic scenes; the same arguments give the same bytes.

    The folder holds images and masks (PNG), img_idx/train_NAME.txt and test_NAME.txt, points.json (COCO
    keypoints, true sub-pixel centres) and scenes.json (seed, configuration, background and SCR of each
    frame). It appears complete or not at all.

    Parameters
    ----------
    out : path
        New or empty folder; its name is NAME.
    config : SceneConfig
        Parameters of the scenes.
    frames : int
        Number of scenes.
    seed : int, default 0
        Seed of the scenes.
    test_fraction : float, default 0.2
        Fraction of the frames, at the end, that form the test split.
    progress : callable, optional
        Called with the number of frames done.

    Raises
    ------
    ConfigError
        If a parameter is out of range.
    DataError
        If `out` is not empty.
    DimpointError
        If `out` cannot be written.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from dimpoint.datasets.dataset import open_dataset
    >>> from dimpoint.synthetic.scenes import SceneConfig, write_dataset
    >>> with TemporaryDirectory() as folder:
    ...     write_dataset(f"{folder}/tiny", SceneConfig(width=64, height=64), frames=5)
    ...     len(open_dataset(f"{folder}/tiny", "train"))
    4
    """
    out = Path(out).absolute()
    if frames < 1 or seed < 0 or not 0 <= test_fraction <= 1:
        raise ConfigError(
            "frames must be at least 1, seed at least 0 and test_fraction within 0..1, "
            f"got {frames}, {seed} and {test_fraction}"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: exists and is not an empty folder; choose a new one")
    with replacing_folder(out) as folder:
        _write_scenes(folder, out.name, config, frames, seed, test_fraction, progress)


def _write_scenes(
    folder: Path,
    name: str,
    config: SceneConfig,
    frames: int,
    seed: int,
    test_fraction: float,
    progress: Callable[[int], None] | None,
) -> None:
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    images: list[PointImage] = []
    records: list[dict[str, Any]] = []
    for number, scene in enumerate(make_scenes(config, frames, seed), 1):
        file = f"{number:06d}.png"
        _write_png(folder / "images" / file, scene.frame)
        _write_png(folder / "masks" / file, scene.mask.astype(np.uint8) * 255)
        images.append(PointImage(file, config.width, config.height, scene.points))
        scr = [round(float(value), 3) for value in scene.scr]
        records.append({"file": file, "background": scene.background, "scr": scr})
        if progress is not None:
            progress(number)
    write_points(folder / "points.json", images)
    record = {"seed": seed, "config": config.model_dump(mode="json"), "frames": records}
    write_text(folder / "scenes.json", json.dumps(record, indent=1) + "\n")
    stems = [Path(image.file_name).stem for image in images]
    cut = frames - round(frames * test_fraction)
    for split, part in (("train", stems[:cut]), ("test", stems[cut:])):
        if part:
            write_text(folder / "img_idx" / f"{split}_{name}.txt", "\n".join(part) + "\n")


def _write_png(path: Path, pixels: npt.NDArray[Any]) -> None:
    _, content = cv2.imencode(".png", pixels)
    path.write_bytes(content.tobytes())
