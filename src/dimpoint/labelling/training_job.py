"""`dimpoint train` on a project's labels, as a process of its own."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dimpoint.errors import ConfigError, MissingExtraError

HELD_OUT = ("scene", "time", "random")
FEWEST_FRAMES = 4  # with targets; fewer leave nothing to train or to validate on


@dataclass
class TrainingJob:
    """A training run of a project, started, watched and stopped by the server.

    project: its folder. process, run: of the newest training. began: when, seconds since 1970. minutes: that
    it may take. init: the model that it started from.
    """

    project: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    run: Path | None = None
    began: float = 0.0
    minutes: float = 0.0
    init: str = "spire-lite"

    def __post_init__(self) -> None:
        """Find the newest finished run of an earlier server."""
        models = self.project.glob("runs/[0-9]*/model.onnx")
        done = sorted((m for m in models if m.parent.name.isdigit()), key=lambda m: int(m.parent.name))
        self.run = done[-1].parent if done else None

    def start(self, minutes: float, init: str, held_out: str = "scene") -> Path:
        """Start a run of the recipe `finetune`.

        Parameters
        ----------
        minutes
            That it may take; on a machine that is too slow for the recipe's length, training is shorter.
        init
            Name or file of the model that it starts from.
        held_out
            How frames are held out: one of `HELD_OUT`. Default: whole scenes.

        Returns
        -------
        Path
            Folder of the run.

        Raises
        ------
        MissingExtraError
            Without the packages for training.
        ConfigError
            If a training is running already, or `held_out` is no such way.
        """
        if held_out not in HELD_OUT:
            raise ConfigError(f"held_out: '{held_out[:40]}' is none of {', '.join(HELD_OUT)}")
        if self.running:
            raise ConfigError("a training is running already")
        for package in ("torch", "lightning"):
            if find_spec(package) is None:
                raise MissingExtraError("training", package, "train")
        taken = [p.stem for p in (self.project / "runs").glob("[0-9]*")]  # folders of runs, and their logs
        number = 1 + max((int(name) for name in taken if name.isdigit()), default=0)
        self.run = self.project / "runs" / f"{number:03d}"
        self.run.parent.mkdir(exist_ok=True)
        self.began, self.minutes, self.init = time.time(), minutes, init
        log = (self.run.parent / f"{self.run.name}.log").open("wb")
        options = ["--data", str(self.project), "--out", str(self.run), "--init", init]
        options += ["--validation-by", held_out]
        recipe = self.run.parent / f"{self.run.name}.yaml"
        recipe.write_text(f"base: finetune\nmost_minutes: {minutes:g}\n", "utf-8")
        command = [sys.executable, "-m", "dimpoint", "train", str(recipe), *options]
        self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        log.close()
        return self.run

    @property
    def running(self) -> bool:
        """Whether a training is running."""
        return self.process is not None and self.process.poll() is None

    def end(self) -> None:
        """Ask the run to end as Ctrl-C does, without waiting for it; its last checkpoint is kept."""
        if self.process is not None and self.running:
            self.process.terminate()

    def stop(self) -> None:
        """End the run as Ctrl-C does; its last checkpoint is kept."""
        if self.process is not None and self.running:
            self.end()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()

    @property
    def model(self) -> Path | None:
        """The trained model, once there is one."""
        path = None if self.run is None else self.run / "model.onnx"
        return path if path is not None and path.is_file() else None

    def status(self) -> dict[str, Any]:
        """State, losses, last lines of the log, and seconds since the start."""
        if self.run is None:
            return {"state": "none"}
        code = self.process.poll() if self.process is not None else 0
        state = "running" if code is None else "done" if code == 0 else "failed"
        log = self.run.parent / f"{self.run.name}.log"
        text = log.read_text("utf-8", "replace") if log.is_file() else ""
        lines = [line for line in re.split(r"[\r\n]+", text) if line.strip()]
        return {
            "state": state,
            "run": self.run.name,
            "seconds": round(time.time() - self.began, 1) if self.process is not None else 0,
            "minutes": self.minutes,
            "loss": _losses(self.run),
            "log": lines[-12:],
            "model": self.model is not None,
        }


def _losses(run: Path) -> list[float]:
    path = run / "csv" / "metrics.csv"
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = list(csv.DictReader(file))
    values = [row.get("train/loss_epoch") or "" for row in rows]
    return [float(value) for value in values if re.fullmatch(r"[-+.\deE]+", value)][-200:]
