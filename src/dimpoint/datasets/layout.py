"""Where a data set keeps its frames, masks, splits and point files.

    NAME/images/*.png          frames (.png .jpg .jpeg .bmp .tif .tiff .npy), in sub-folders too
    NAME/masks/*.png           masks, found by the frame's stem
    NAME/img_idx/train_X.txt   splits, one stem per line
    NAME/points.json           COCO keypoints; else every NAME/annotations/*.json

Without an `images` folder the frames are the pictures in NAME itself. A frame's name is its path below
the frame folder without the suffix, `000001` or `sequence-3/0001`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dimpoint.errors import DataError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".npy")


@dataclass(frozen=True)
class SplitFile:
    """One `img_idx/*.txt`: its stem, and (line number, frame name) of every line that is not blank."""

    path: Path
    entries: tuple[tuple[int, str], ...]

    @property
    def stem(self) -> str:
        return self.path.stem


@dataclass(frozen=True)
class Layout:
    """The files of one data set. Several files under one name are kept, for the caller to refuse."""

    root: Path
    frame_folder: Path
    frames: dict[str, tuple[Path, ...]]
    masks: dict[str, tuple[Path, ...]]
    splits: tuple[SplitFile, ...]
    point_files: tuple[Path, ...]

    def frame(self, name: str) -> Path:
        return _only(self.frames[name], "frame")

    def mask(self, name: str) -> Path | None:
        return _only(self.masks[name], "mask") if name in self.masks else None

    def name_of(self, file_name: str) -> str | None:
        """The frame that a COCO `file_name` or a line of a split means, or None if there is none.

        It is the path below the frame folder, with or without a leading `images/`. A suffix may be left
        out, as splits do; where it is given it must be the file's.
        """
        path = PurePosixPath(file_name.strip().replace("\\", "/"))
        below = PurePosixPath(*path.parts[1:]) if path.parts[:1] == ("images",) else path
        for candidate in (path, below):
            if str(candidate) in self.frames:
                return str(candidate)
            stem = str(candidate).removesuffix(candidate.suffix)
            if any(file.suffix == candidate.suffix for file in self.frames.get(stem, ())):
                return stem
        return None

    def chosen_splits(self, split: str) -> list[SplitFile]:
        """The file of that stem, or else every `SPLIT_*.txt`; raises DataError listing what there is."""
        exact = [file for file in self.splits if file.stem == split]
        chosen = exact or [file for file in self.splits if file.stem.startswith(f"{split}_")]
        if not chosen:
            stems = ", ".join(file.stem for file in self.splits) or f"none (no {self.root / 'img_idx'}/*.txt)"
            raise DataError(f"{self.root}: no split '{split}'; splits here: {stems}")
        return chosen


def find_layout(root: Path) -> Layout:
    """List the files of the data set in folder `root`; raises DataError if it holds no frames."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    images = root / "images"
    nested = images.is_dir()
    folder = images if nested else root
    frames = images_by_name(folder, nested=nested)
    if not frames:
        raise DataError(f"{folder}: no frames here; expected images ({' '.join(IMAGE_SUFFIXES)})")
    return Layout(
        root=root,
        frame_folder=folder,
        frames=frames,
        masks=images_by_name(root / "masks", nested=True),
        splits=tuple(read_split(path) for path in sorted(root.glob("img_idx/*.txt"))),
        point_files=_point_files(root),
    )


def images_by_name(folder: Path, *, nested: bool) -> dict[str, tuple[Path, ...]]:
    """The image files below `folder` by name (relative path without suffix), names in sorted order."""
    found: dict[str, tuple[Path, ...]] = {}
    for path in sorted(folder.rglob("*") if nested else folder.glob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file():
            name = path.relative_to(folder).with_suffix("").as_posix()
            found[name] = (*found.get(name, ()), path)
    return dict(sorted(found.items()))


def read_split(path: Path) -> SplitFile:
    """Read a split file; blank lines are skipped. Raises DataError if it is no UTF-8 text."""
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable text file of frame names ({error})") from None
    return SplitFile(path, tuple((n, line.strip()) for n, line in enumerate(lines, 1) if line.strip()))


def _point_files(root: Path) -> tuple[Path, ...]:
    native = root / "points.json"
    return (native,) if native.is_file() else tuple(sorted(root.glob("annotations/*.json")))


def _only(paths: Sequence[Path], what: str) -> Path:
    if len(paths) > 1:
        raise DataError(f"{paths[0]}: {paths[1].name} has the same name; keep one {what} of that name")
    return paths[0]
