"""Which tracks belong to which labels, on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dimpoint.errors import ConfigError, DataError
from dimpoint.text import counted
from dimpoint.tracking.evaluation import DISTANCE, TrackEvaluation, evaluate_clip, evaluate_clips
from dimpoint.tracking.labels import centre, from_zero, read_labels
from dimpoint.tracking.result import ASSUMED_RATE, Tracks, read_tracks
from dimpoint.tracking.track import Point, Track

_LABELS = ("{}.csv", "{}_LABELS.csv", "{}.txt", "{}.json", "{}/gt/gt.txt")


def evaluate_tracks(
    tracks: Path | str | Sequence[Path | str],
    truth: Path | str | Sequence[Path | str],
    *,
    distance: float = DISTANCE,
    fps: float | None = None,
) -> TrackEvaluation:
    """Evaluate tracks against labelled clips.

    Parameters
    ----------
    tracks : path or list of paths
        Of each clip a `tracks.json`, the folder that holds it, or the tracks of another method as
        MOTChallenge text or CSV; a folder of such folders stands for all of its clips.
    truth : path or list of paths
        The labels of each clip, in the same order (`dimpoint.tracking.labels.read_labels`), or one folder in
        which they are named like the clips: `CLIP.csv`, `CLIP_LABELS.csv`, `CLIP.txt`, `CLIP.json` or
        `CLIP/gt/gt.txt`.
    distance : float
        The farthest that a track's point matches a labelled one, or lies from the edge of a box; pixels.
    fps : float, optional
        Frames a second of tracks without times; 25 if left out, which the notes say.

    Returns
    -------
    TrackEvaluation

    Raises
    ------
    DimpointError
        For a file that cannot be read, and for tracks without labels.
    """
    if fps is not None and not fps > 0:
        raise ConfigError(f"fps must be above 0, got {fps:g}")
    clips = [clip for path in _listed(tracks) for clip in _clips_of(path)]
    found = [_read(path, fps) for path in clips]
    names = _names(clips, found)
    labels = _paired(_listed(truth), clips, names)
    return evaluate_clips(
        [
            evaluate_clip(
                one, from_zero(read_labels(file), one.times(fps).last), name=name, distance=distance, rate=fps
            )
            for one, file, name in zip(found, labels, names, strict=True)
        ],
        distance,
    )


def _listed(paths: Path | str | Sequence[Path | str]) -> list[Path]:
    return [Path(one) for one in ([paths] if isinstance(paths, str | Path) else paths)]


def _clips_of(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    if (path / "tracks.json").exists():
        return [path / "tracks.json"]
    inner = sorted(path.glob("*/tracks.json"))
    if not inner:
        raise DataError(
            f"{path}: has no tracks.json, and no folder in it has one; `dimpoint track` writes it"
        )
    return inner


def _read(path: Path, fps: float | None) -> Tracks:
    if path.suffix.lower() == ".json":
        return read_tracks(path)
    labels = read_labels(path)
    step = 1 / (fps or ASSUMED_RATE)
    known: dict[int, list[Point]] = {}
    for number in sorted(labels.frames):
        for one, place in labels.frames[number].items():
            point = Point(number, number * step, *centre(place), 0.0, 0.0, 1.0, measured=True)
            known.setdefault(one, []).append(point)
    notes = [] if fps else [f"tracks without times: {ASSUMED_RATE:g} frames/s assumed (--fps says otherwise)"]
    every = [Track(one, "confirmed", points) for one, points in known.items()]
    return Tracks(every, str(path), "", labels.last + 1, notes=notes)


def _names(clips: list[Path], tracks: list[Tracks]) -> list[str]:
    """The clips' names; those whose sources are called alike have the names of their folders."""
    names = [_name(path, one) for path, one in zip(clips, tracks, strict=True)]
    return [
        path.parent.resolve().name if names.count(name) > 1 and path.name == "tracks.json" else name
        for path, name in zip(clips, names, strict=True)
    ]


def _name(path: Path, tracks: Tracks) -> str:
    """The clip's name: of its source, or of the file or folder where tracks of several sources are in one."""
    if path.name != "tracks.json":
        return path.stem
    source = tracks.source
    return Path(source).stem if source and ", " not in source else path.parent.resolve().name


def _paired(truth: list[Path], clips: list[Path], names: list[str]) -> list[Path]:
    if len(truth) == 1 and truth[0].is_dir():
        return [_labels_of(truth[0], clip, name) for clip, name in zip(clips, names, strict=True)]
    if len(truth) != len(clips):
        raise ConfigError(
            f"{counted(len(clips), 'clip')} with tracks and "
            f"{counted(len(truth), 'file')} of labels; give one for each, in the "
            "same order, or a folder in which they are named like the clips"
        )
    return truth


def _labels_of(folder: Path, clip: Path, name: str) -> Path:
    names = dict.fromkeys((name, clip.parent.resolve().name))
    tried = [folder / form.format(each) for each in names for form in _LABELS]
    for file in tried:
        if file.exists():
            return file
    raise DataError(f"{clip}: no labels in {folder}; looked for {', '.join(file.name for file in tried)}")
