"""Labels that grew from points, as a data set."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from dimpoint.atomic import replacing_folder, write_text
from dimpoint.datasets.dataset import DataSet
from dimpoint.errors import ConfigError
from dimpoint.metrics.components import Components
from dimpoint.sources import read_image
from dimpoint.text import counted
from dimpoint.training.run_folder import RunFolder


def check_export(out: Path) -> None:
    """Raise ConfigError if the folder `out` for exported labels exists, or cannot be made."""
    try:
        out.mkdir(parents=True)
        out.rmdir()
    except FileExistsError:
        raise ConfigError(f"{out}: already exists; name another folder for --export-labels") from None
    except OSError as error:
        raise ConfigError(
            f"{out}: cannot be made ({error.strerror}); name another folder for --export-labels"
        ) from None


def export_labels(folder: RunFolder, sets: Iterable[DataSet], out: Path, log: Callable[[str], None]) -> int:
    """Write a data set with the labels of a finished run: `images`, `masks` and a split list for training.

    Parameters
    ----------
    folder : RunFolder
        The run, with its `labels`.
    sets : iterable of DataSet
        The data that it was trained on. Several get a folder each.
    out : Path
        A new folder. Frames are copied as they are.
    log : callable
        Called with a line about ignore regions, which masks cannot hold.

    Returns
    -------
    int
        The number of frames.

    Raises
    ------
    ConfigError
        If `out` exists or cannot be made, or the run has no labels.
    """
    check_export(out)
    if not folder.labels.is_dir():
        raise ConfigError(f"{folder.path}: holds no grown labels (labels/); train it with --labels points")
    sets, count, ignoring, merged = list(sets), 0, 0, 0
    with replacing_folder(out) as new:
        for part in sets:
            root, names = new / part.name if len(sets) > 1 else new, []
            for sample in part:
                label = folder.labels / part.name / f"{sample.name}.png"
                if not label.is_file():  # a held-out frame has none
                    continue
                image = root / "images" / f"{sample.name}{sample.frame_path.suffix}"
                mask = root / "masks" / f"{sample.name}.png"
                for source, target in ((sample.frame_path, image), (label, mask)):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source, target)
                names.append(sample.name)
                ignoring += bool(len(sample.ignore))
                merged += len(sample.read_points()) > len(Components.of(np.asarray(read_image(label) > 0)))
            name = part.name if len(sets) > 1 else out.name
            write_text(root / "img_idx" / f"train_{name}.txt", "\n".join(names) + "\n")
            count += len(names)
    if ignoring:
        log(
            f"warning: {out}: {counted(ignoring, 'frame')} with ignore regions, which masks cannot hold; "
            "they are background in the export"
        )
    if merged:
        log(
            f"warning: {out}: in {counted(merged, 'frame')} labels touch: a mask there holds fewer objects "
            "than the frame has points"
        )
    return count
