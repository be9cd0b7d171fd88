"""Pretraining of a small foundation encoder on unlabelled frames, where no published one can be had.

Masked autoencoding (`mae`) of the training frames alone. The result is a Hugging Face folder that any user
of transformers can load. While the run lasts everything lies in OUT.pretraining; OUT appears whole, at the
end.
"""

from __future__ import annotations

import datetime
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dimpoint.atomic import write_text
from dimpoint.errors import ConfigError, DataError
from dimpoint.foundation.crops import Crops
from dimpoint.foundation.pretrain_run import PretrainRun
from dimpoint.foundation.pretrain_settings import PretrainSettings, pretrain_settings
from dimpoint.foundation.publish import publish

_SAVE_EVERY = 60.0  # seconds
_SAY_EVERY = 15.0


def pretrain(
    roots: Sequence[Path], out: Path, settings: PretrainSettings, say: Callable[[str], None] = print
) -> Path:
    """Pretrain on the training frames of the data sets `roots`, and leave the folder `out`.

    Raises ConfigError if `out` is there or an unfinished run of it, and the first error of the data.
    """
    work = _work_folder(out)
    if out.exists():
        raise ConfigError(f"{out}: is there already; choose another --out")
    if (work / "run.json").exists():
        raise ConfigError(f"{work}: holds an unfinished run; go on with: dimpoint pretrain --resume {out}")
    run = PretrainRun(settings, _read(roots, settings, say))
    story = {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "roots": [str(root.resolve()) for root in roots],
        "data": run.crops.hashes,
        "settings": settings.model_dump(mode="json"),
        "steps": run.planned_steps(),
    }
    write_text(work / "run.json", json.dumps(story, indent=1))
    return _train(run, out, story, say)


def resume(out: Path, say: Callable[[str], None] = print) -> Path:
    """Go on with the unfinished run of `out`; it ends as an uninterrupted one does.

    Raises ConfigError if there is none or its files are damaged, and DataError if its data changed.
    """
    work = _work_folder(out)
    try:
        story = json.loads((work / "run.json").read_text(encoding="utf-8"))
        settings = pretrain_settings(**story["settings"])
        roots, recorded = [Path(root) for root in story["roots"]], story["data"]
        int(story["steps"])
    except FileNotFoundError:
        raise ConfigError(f"{out}: no unfinished pretraining (no {work / 'run.json'})") from None
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{work / 'run.json'}: damaged; delete {work} and start anew") from None
    run = PretrainRun(settings, _read(roots, settings, say))
    if run.crops.hashes != recorded:
        raise DataError(f"{out}: the data changed since the pretraining began; start anew with another --out")
    if (work / "checkpoint.pt").is_file():
        run.load(work / "checkpoint.pt")
        say(f"going on after step {run.step}")
    return _train(run, out, story, say)


def _work_folder(out: Path) -> Path:
    return out.with_name(f"{out.name}.pretraining")


def _read(roots: Sequence[Path], settings: PretrainSettings, say: Callable[[str], None]) -> Crops:
    say("reading the frames")
    crops = Crops(roots, settings.intensity, settings.size, settings.seed)
    named = ", ".join(f"{name} ({count})" for name, count in crops.counts.items())
    say(f"{len(crops)} training frames of {named}; mean {crops.mean:.3f}, deviation {crops.std:.3f}")
    return crops


def _train(run: PretrainRun, out: Path, story: dict[str, Any], say: Callable[[str], None]) -> Path:
    """Go to the last step, saving on the way, and publish."""
    work, total = _work_folder(out), story["steps"]
    say(f"{total} steps of {run.settings.batch} crops")
    saved = said = time.monotonic()
    while run.step < total:
        run.advance(total)
        now = time.monotonic()
        if now - said >= _SAY_EVERY or run.step == total:
            said = now
            say(_progress(run, total))
        if now - saved >= _SAVE_EVERY or run.step == total:
            saved = now
            run.save(work / "checkpoint.pt")
    publish(run, out, story)
    shutil.rmtree(work)
    say(f"a foundation encoder: {out}")
    return out


def _progress(run: PretrainRun, total: int) -> str:
    left = (total - run.step) * run.seconds / run.step
    speed = run.step * run.settings.batch / run.seconds
    return (
        f"step {run.step}/{total}  loss {run.recent_loss:.4f}  {speed:.0f} crops/s  "
        f"{int(left) // 60}:{int(left) % 60:02d} left"
    )
