"""The layout of a data set: where its frames, masks, splits and point files are.

    NAME/images/*.png          frames, also in subfolders
    NAME/masks/*.png           masks, matched by the frame's name
    NAME/img_idx/train_X.txt   split lists (`dimpoint.datasets.lists` names the other layouts)
    NAME/points.json           COCO keypoints; else all NAME/annotations/*.json

Without an `images` folder the images in NAME itself are the frames. A frame's name is its path below the
frame folder without the suffix, such as `000001` or `sequence-3/0001`, in Unicode's composed form (NFC).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dimpoint.datasets.lists import SplitFile, choose_lists, columns, find_lists
from dimpoint.datasets.reading import AS_WRITTEN, Reading, frame_size
from dimpoint.errors import DataError, FrameError
from dimpoint.sources.files import IMAGE_SUFFIXES, SUB_FOLDER, FoundFiles, plain_name, summary_of, walk
from dimpoint.text import counted

_FRAME_FOLDERS = ("images", "image", "imgs", "img", "frames", "jpegimages")
_MASK_FOLDERS = ("masks", "mask", "gt", "ground_truth", "groundtruth", "segmentationclass", "labels", "label")
NAMED_SUFFIXES = (*IMAGE_SUFFIXES, ".gif", ".jp2", ".raw")  # of images that label files name


@dataclass(frozen=True)
class Layout:
    """The files of a data set.

    Parameters
    ----------
    root : Path
        The data set's folder.
    frame_folder, mask_folder : Path
        Folders of frames and masks.
    frames, masks : dict of str to tuple of Path
        Files by frame name; several files of one name are kept, and refused when used.
    splits : tuple of SplitFile
        Split lists.
    unread_lists : tuple of str
        What was not understood of files named like split lists.
    point_files : tuple of Path
        COCO files.
    passed : tuple of (Path, str)
        Files among frames and masks that are neither, and why they were passed over.
    notes : tuple of str
        Sentences on what differs from the layout above.
    """

    root: Path
    frame_folder: Path
    frames: dict[str, tuple[Path, ...]]
    mask_folder: Path
    masks: dict[str, tuple[Path, ...]]
    splits: tuple[SplitFile, ...]
    point_files: tuple[Path, ...]
    passed: tuple[tuple[Path, str], ...] = ()
    notes: tuple[str, ...] = ()
    unread_lists: tuple[str, ...] = ()

    def frame(self, name: str) -> Path:
        """The frame's file; DataError if several have this name."""
        return _only(self.frames[name], "frame")

    def mask(self, name: str) -> Path | None:
        """The frame's mask file, or None; DataError if several have this name."""
        return _only(self.masks[name], "mask") if name in self.masks else None

    def name_of(self, file_name: str) -> str | None:
        """The frame meant by a COCO `file_name`, or None if there is none.

        It is a path below the frame folder; folders above it (`images/`, an absolute path) are ignored, and
        the suffix may be missing or that of another image format.
        """
        found = _name_of(file_name, self.frames, self.frame_folder.name)
        if found is not None:
            return found
        alike = self.alike(file_name)
        return alike[0] if len(alike) == 1 else None

    def size_of(self, file_name: str, reading: Reading = AS_WRITTEN) -> tuple[int, int] | None:
        """(height, width) of the frame that `file_name` of a label file names, or None without one."""
        name = self.name_of(file_name)
        return None if name is None else frame_size(self.frame(name), reading)

    def alike(self, file_name: str) -> list[str]:
        """The frames whose paths end like a COCO `file_name`."""
        path = PurePosixPath(plain_name(file_name.strip()).replace("\\", "/"))
        if path.suffix and path.suffix.lower() not in NAMED_SUFFIXES:
            return []
        parts = (*path.parts[:-1], path.name.removesuffix(path.suffix))
        if ".." in parts:
            return []
        for start in range(1, len(parts)):
            shorter = "/".join(parts[start:])
            if shorter in self.frames:
                return [shorter]
        return [name for name in self.frames if f"/{name}".endswith("/" + "/".join(parts))]

    def listed(self, text: str) -> str | None:
        """The frame named by a line of a split list: the whole line, or its first column."""
        return _listed(text, self.frames, self.frame_folder.name)

    def chosen_splits(self, split: str) -> list[SplitFile]:
        """The lists of a split; DataError that names the existing lists if there are none."""
        if self.unread_lists and not self.splits:
            raise DataError(self.unread_lists[0])
        return choose_lists(self.splits, split, self.root)

    def passed_over(self) -> str | None:
        """One line that counts the files that were passed over, or None."""
        return summary_of(self.passed)


def find_layout(root: Path) -> Layout:
    """List the files of the data set in folder `root`; DataError if it has no frames.

    Examples
    --------
    >>> from pathlib import Path
    >>> from dimpoint.datasets.layout import find_layout
    >>> layout = find_layout(Path("examples/scenes"))
    >>> len(layout.frames), [each.purpose for each in layout.splits]
    (8, ['test', 'train'])
    """
    if not os.path.isdir(root):  # noqa: PTH112  (Path.is_dir raises for a name that is too long)
        raise DataError(f"{root}: no such folder")
    try:
        return _layout(root)
    except OSError as error:
        raise DataError(f"{error.filename or root}: cannot be read ({error.strerror})") from None


def _layout(root: Path) -> Layout:
    notes: list[str] = []
    images = _sub_folder(root, _FRAME_FOLDERS)
    folder = root if images is None else images
    found = _pictures(folder, nested=images is not None)
    frames = by_name(folder, found)
    if not frames:
        raise DataError(_no_frames(root, folder))
    mask_folder = _sub_folder(root, _MASK_FOLDERS) or root / "masks"
    found_masks = _pictures(mask_folder, nested=True) if mask_folder.is_dir() else FoundFiles([], [])
    masks, said = _paired(by_name(mask_folder, found_masks), frames)
    notes += said
    for here, usual in ((folder, "images"), (mask_folder, "masks")):
        if here != root and here.name != usual and here.is_dir():
            notes.append(f"{root}: {usual} are taken from the folder '{here.name}'")
    splits, unread = find_lists(
        root, frames, (folder, mask_folder), lambda text: _listed(text, frames, folder.name)
    )
    return Layout(
        root=root,
        frame_folder=folder,
        frames=frames,
        mask_folder=mask_folder,
        masks=masks,
        splits=splits,
        point_files=_point_files(root),
        passed=(*_besides(found, root), *found_masks.passed),
        notes=(*notes, *unread),
        unread_lists=unread,
    )


def images_by_name(folder: Path, *, nested: bool) -> dict[str, tuple[Path, ...]]:
    """The image files below `folder`, by relative path without suffix, sorted."""
    return by_name(folder, _pictures(folder, nested=nested)) if folder.is_dir() else {}


def by_name(folder: Path, found: FoundFiles) -> dict[str, tuple[Path, ...]]:
    """Files by name: the relative path without suffix, in composed form (NFC)."""
    named: dict[str, tuple[Path, ...]] = {}
    for path in sorted(found.files):
        name = plain_name(path.relative_to(folder).with_suffix("").as_posix())
        named[name] = (*named.get(name, ()), path)
    return dict(sorted(named.items()))


def _pictures(folder: Path, *, nested: bool) -> FoundFiles:
    try:
        return walk(folder, nested, IMAGE_SUFFIXES)
    except FrameError as error:
        raise DataError(str(error)) from None


def _besides(found: FoundFiles, root: Path) -> Iterator[tuple[Path, str]]:
    """The files that were passed over, without the data set's own folders, text and label files."""
    for path, reason in found.passed:
        own = path.parent == root and (reason == SUB_FOLDER or path.suffix.lower() in (".txt", ".json"))
        if not own:
            yield path, reason


def _sub_folder(root: Path, names: Sequence[str]) -> Path | None:
    """The first of the folders `names` that holds images, in any letter case; None without one."""
    inner = sorted(path for path in root.iterdir() if path.is_dir())
    for name in names:
        for path in sorted(inner, key=lambda path: path.name != name):
            if path.name.casefold() == name and (
                name in ("images", "masks") or _pictures(path, nested=True).files
            ):
                return path
    return None


def _no_frames(root: Path, folder: Path) -> str:
    inner = sorted(path for path in root.iterdir() if path.is_dir() and path != folder)
    sets = [path.name for path in inner if _sub_folder(path, _FRAME_FOLDERS) is not None]
    remedy = f"; its subfolders {', '.join(sets[:5])} are data sets: name one of them" if sets else ""
    passed = _pictures(folder, nested=folder != root).summary()
    beside = f"; passed over: {passed}" if passed else ""
    return f"{folder}: no frames; expected images ({' '.join(IMAGE_SUFFIXES)}){beside}{remedy}"


def _paired(
    masks: dict[str, tuple[Path, ...]], frames: dict[str, tuple[Path, ...]]
) -> tuple[dict[str, tuple[Path, ...]], list[str]]:
    """Masks by their frames' names, which may differ in letter case or by one ending; and notes."""
    if not masks or any(name in frames for name in masks):
        renamed, note = _by_case(masks, frames)
        return (renamed, [note]) if note else (masks, [])
    for rename in (_by_case, _by_ending):
        renamed, note = rename(masks, frames)
        if note:
            return renamed, [note]
    return masks, []


def _by_case(
    masks: dict[str, tuple[Path, ...]], frames: dict[str, tuple[Path, ...]]
) -> tuple[dict[str, tuple[Path, ...]], str | None]:
    folded: dict[str, list[str]] = {}
    for name in frames:
        folded.setdefault(name.casefold(), []).append(name)
    renamed: dict[str, tuple[Path, ...]] = {}
    changed = []
    for name, paths in masks.items():
        same = folded.get(name.casefold(), [])
        meant = same[0] if name not in frames and len(same) == 1 and same[0] not in masks else name
        if meant != name:
            changed.append(name)
        renamed[meant] = (*renamed.get(meant, ()), *paths)
    if not changed:
        return masks, None
    return (
        renamed,
        counted(len(changed), "mask differs from its frame's name", "masks differ from their frames' names")
        + f" in letter case (first '{changed[0]}')",
    )


def _by_ending(
    masks: dict[str, tuple[Path, ...]], frames: dict[str, tuple[Path, ...]]
) -> tuple[dict[str, tuple[Path, ...]], str | None]:
    """Match masks that are named like frames with one ending, such as `_pixels0`."""
    first = next(iter(masks))
    longest = max((name for name in frames if first.startswith(name)), key=len, default="")
    ending = first.removeprefix(longest)
    if not longest or not all(name.removesuffix(ending) in frames for name in masks):
        return masks, None
    renamed = {name.removesuffix(ending): paths for name, paths in masks.items()}
    if len(renamed) < len(masks):
        return masks, None
    return renamed, f"masks are named like their frames with '{ending}' at the end"


def _name_of(file_name: str, frames: dict[str, tuple[Path, ...]], folder: str) -> str | None:
    path = PurePosixPath(plain_name(file_name.strip()).replace("\\", "/"))
    places = [
        place for place, part in enumerate(path.parts) if part.casefold() in (folder.casefold(), "images")
    ]
    below = [PurePosixPath(*path.parts[place + 1 :]) for place in reversed(places)]
    absolute = path.is_absolute() or (path.parts[:1] != () and path.parts[0].endswith(":"))
    ends = [PurePosixPath(*path.parts[start:]) for start in range(1, len(path.parts))] if absolute else []
    for candidate in (path, *below, *ends):
        if not candidate.name or ".." in candidate.parts:
            continue
        if str(candidate) in frames:
            return str(candidate)
        stem = str(candidate).removesuffix(candidate.suffix)
        files = frames.get(stem, ())
        if any(file.suffix == candidate.suffix for file in files):
            return stem
        if len(files) == 1 and candidate.suffix.lower() in NAMED_SUFFIXES:
            return stem
    return None


def _listed(text: str, frames: dict[str, tuple[Path, ...]], folder: str) -> str | None:
    return next(
        (name for part in columns(text) if (name := _name_of(part, frames, folder)) is not None), None
    )


def _point_files(root: Path) -> tuple[Path, ...]:
    native = root / "points.json"
    return (native,) if native.is_file() else tuple(sorted(root.glob("annotations/*.json")))


def _only(paths: Sequence[Path], what: str) -> Path:
    if len(paths) > 1:
        raise DataError(f"{paths[0]}: {paths[1].name} has the same name; keep one {what} of that name")
    return paths[0]
