"""Pretraining of a small foundation encoder on unlabelled frames by masked autoencoding (`mae`).

The result is a Hugging Face folder that every user of transformers can load. During the run all files are in
OUT.pretraining; OUT appears at the end, complete with weights, statistics, record and card.
"""

from __future__ import annotations

import datetime
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dimpoint.atomic import replacing_folder, write_text
from dimpoint.datasets.reading import AS_WRITTEN, Reading
from dimpoint.errors import ConfigError, DataError
from dimpoint.extensions import versions_of
from dimpoint.fdep.encoder import quiet
from dimpoint.pretraining.mae import Crops
from dimpoint.pretraining.record import PretrainRun, PretrainSettings, pretrain_settings
from dimpoint.text import counted


def publish(run: PretrainRun, out: Path, started: dict[str, Any]) -> None:
    """Write the result folder of a finished run.

    Parameters
    ----------
    run : PretrainRun
        The run.
    out : Path
        A new folder.
    started : dict
        Content of the run's run.json.

    Raises
    ------
    DimpointError
        If it cannot be written.
    """
    record = _record(run, started)
    with replacing_folder(out) as folder:
        with quiet():
            run.model.encoder.save_pretrained(folder)
        mode = (folder / "config.json").stat().st_mode  # by the umask
        for file in folder.glob("*.safetensors"):  # only their owner could read them
            file.chmod(mode)
        _write_json(folder / "preprocessor_config.json", _statistics(run))
        _write_json(folder / "pretraining.json", record)
        (folder / "README.md").write_text(_card(run, out.name, record), encoding="utf-8")


def _record(run: PretrainRun, started: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in started.items() if name != "roots"}  # a machine's paths
    return kept | {
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "frames": run.crops.counts,
        "crops_seen": run.step * run.settings.batch,
        "seconds": round(run.seconds, 1),
        "loss": round(run.recent_loss, 4),
        "versions": versions_of(("dimpoint", "torch", "transformers")),
    }


def _statistics(run: PretrainRun) -> dict[str, Any]:
    """The statistics by which `FoundationEncoder` and other users of the folder standardise frames."""
    return {
        "image_processor_type": "BitImageProcessor",
        "do_resize": False,
        "do_center_crop": False,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [run.crops.mean] * 3,
        "image_std": [run.crops.std] * 3,
    }


def _card(run: PretrainRun, name: str, record: dict[str, Any]) -> str:
    chosen = run.settings
    parameters = sum(value.numel() for value in run.model.encoder.parameters())
    data = "\n".join(
        f"  - {part}: {counted(count, 'frame')}, sha256 {record['data'][part]}"
        for part, count in record["frames"].items()
    )
    return f"""# {name}

A small vision transformer, pretrained on infrared frames without labels: a foundation encoder for
`dimpoint train fdep-... --foundation`.

- **Architecture**: `Dinov2Model` of transformers, {parameters:,} parameters: patch {chosen.patch},
  {chosen.layers} layers, {chosen.heads} heads, {chosen.hidden} channels. None of DINOv2's published weights
  is in it.
- **Training data** (the train split where a data set has one; sha256 over the decoded frames):
{data}
- **Method**: masked autoencoding (He et al., arXiv 2111.06377), 75 % of the patches dropped, standardised
  patches, on crops of {chosen.size}x{chosen.size} pixels, flipped, rotated by quarter turns, with random
  contrast and offset; {record["steps"]:,} steps of {chosen.batch} crops, AdamW, highest rate {chosen.lr:g},
  cosine schedule, seed {chosen.seed}; {record["seconds"] / 60:.1f} minutes on `{run.device.type}`. Mean
  loss of the last steps: {record["loss"]:.3f}.
- **Input**: one channel in network range by the intensity rule `{chosen.intensity.kind}`, repeated to
  three, less {run.crops.mean:.4f}, over {run.crops.std:.4f} (preprocessor_config.json).
- **Record**: pretraining.json. Finished {record["finished"]}.
- **Licence**: to be stated by you; the licences of the training frames may restrict it.
"""


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


FEW_CROPS = 20_000  # with fewer crops in total, a warning is printed
_SAVE_EVERY = 60.0  # seconds
_LOG_EVERY = 15.0


def pretrain(
    roots: Sequence[Path],
    out: Path,
    settings: PretrainSettings,
    log: Callable[[str], None] = print,
    reading: Reading = AS_WRITTEN,
) -> Path:
    """Pretrain an encoder on the training frames of data sets.

    Parameters
    ----------
    roots : sequence of Path
        Data sets.
    out : Path
        A new folder for the result.
    settings : PretrainSettings
        Length, architecture and optimiser.
    log : callable
        Called with each line of progress. Default: `print`.
    reading : Reading
        How frames are read where that is a choice.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    ConfigError
        If `out` or an unfinished run of it exists.
    DataError, FrameError
        The first error of the data.
    """
    work = _work_folder(out)
    if out.exists():
        raise ConfigError(f"{out}: already exists; choose another --out")
    if (work / "run.json").exists():
        raise ConfigError(f"{work}: holds an unfinished run; continue with: dimpoint pretrain --resume {out}")
    run = PretrainRun(settings, _read(roots, settings, reading, log))
    started = {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "roots": [str(root.resolve()) for root in roots],
        "data": run.crops.hashes,
        "settings": settings.model_dump(mode="json"),
        "steps": run.planned_steps(),
        "reading": reading.to_record(),
    }
    write_text(work / "run.json", json.dumps(started, indent=1))
    return _train(run, out, started, log)


def resume(out: Path, log: Callable[[str], None] = print) -> Path:
    """Continue the unfinished run of `out`; it ends as an uninterrupted one does.

    Parameters
    ----------
    out : Path
        The folder that the run was started with.
    log : callable
        Called with each line of progress. Default: `print`.

    Raises
    ------
    ConfigError
        If there is no such run, or its files are damaged.
    DataError
        If its data changed.
    """
    work = _work_folder(out)
    try:
        started = json.loads((work / "run.json").read_text(encoding="utf-8"))
        settings = pretrain_settings(**started["settings"])
        roots, recorded = [Path(root) for root in started["roots"]], started["data"]
        reading = Reading.from_record(started.get("reading"))
        int(started["steps"])
    except FileNotFoundError:
        raise ConfigError(f"{out}: no unfinished pretraining (no {work / 'run.json'})") from None
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{work / 'run.json'}: damaged; delete {work} and start again") from None
    run = PretrainRun(settings, _read(roots, settings, reading, log))
    if run.crops.hashes != recorded:
        raise DataError(f"{out}: the data changed since the run was started; use another --out")
    if (work / "checkpoint.pt").is_file():
        run.load(work / "checkpoint.pt")
        log(f"continuing after step {run.step}")
    return _train(run, out, started, log)


def _work_folder(out: Path) -> Path:
    return out.with_name(f"{out.name}.pretraining")


def _read(
    roots: Sequence[Path], settings: PretrainSettings, reading: Reading, log: Callable[[str], None]
) -> Crops:
    log("reading the frames")
    crops = Crops(roots, settings.intensity, settings.size, settings.seed, reading)
    for line in crops.taken:
        log(line)
    named = ", ".join(f"{name} ({count})" for name, count in crops.counts.items())
    log(f"{len(crops)} training frames of {named}; mean {crops.mean:.3f}, deviation {crops.std:.3f}")
    return crops


def _train(run: PretrainRun, out: Path, started: dict[str, Any], log: Callable[[str], None]) -> Path:
    """Train to the last step, with checkpoints, and publish."""
    work, total = _work_folder(out), started["steps"]
    log(f"{total} steps of {run.settings.batch} crops")
    saved = logged = time.monotonic()
    while run.step < total:
        run.advance(total)
        now = time.monotonic()
        if now - logged >= _LOG_EVERY or run.step == total:
            logged = now
            log(_progress(run, total))
        if now - saved >= _SAVE_EVERY or run.step == total:
            saved = now
            run.save(work / "checkpoint.pt")
    publish(run, out, started)
    shutil.rmtree(work)
    log(f"foundation encoder written: {out}")
    seen = run.step * run.settings.batch
    if seen < FEW_CROPS:
        log(
            f"warning: it was trained on {seen:,} crops, {seen / len(run.crops):.1f} of each frame, which is "
            f"too few. Pretrain on at least {FEW_CROPS:,} crops (--minutes, --epochs)"
        )
    return out


def _progress(run: PretrainRun, total: int) -> str:
    left = (total - run.step) * run.seconds / run.step
    speed = run.step * run.settings.batch / run.seconds
    return (
        f"step {run.step}/{total}  loss {run.recent_loss:.4f}  {speed:.0f} crops/s  "
        f"{int(left) // 60}:{int(left) % 60:02d} left"
    )
