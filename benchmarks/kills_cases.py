"""The commands that `benchmarks/kills.py` stops: their inputs, how they go on, and what must be equal."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import importlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dimpoint.atomic import TEMPORARY

_PACKAGES = (
    "torch", "lightning.pytorch", "onnx", "onnxruntime", "onnxscript", "transformers", "matplotlib.pyplot",
    "rich.progress", "jinja2", "dimpoint.training.fit", "dimpoint.pretraining.run", "dimpoint.cli",
    "dimpoint.inference.detector", "dimpoint.report.html", "dimpoint.evaluation.run",
    "dimpoint.datasets.check", "dimpoint.model.export", "dimpoint.synthetic.scenes",
    "transformers.models.vit.modeling_vit",
)  # fmt: skip
_RECIPE = (
    "network.options={widths: [4, 8], depths: [1, 1]}", "view.size=32", "epochs=6", "steps_per_epoch=5",
    "batch=2", "validate_every=2", "validation=0.3",
)  # fmt: skip
_DUE = 0.05  # seconds between checkpoints


def load_packages() -> None:
    """Import what the commands import, once for all trials."""
    for name in _PACKAGES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


@dataclass(frozen=True)
class Case:
    """A command. first: its arguments for a place; again: those of the next call, None: nothing goes on.

    result: what is compared with an uninterrupted run. work: the name of the place. place: the file system.
    """

    name: str
    first: Callable[[Path], list[str]]
    again: Callable[[Path], list[str] | None]
    result: Callable[[Path], Any]
    work: str = "w"
    place: str | None = None
    environment: dict[str, str] = field(default_factory=dict)
    good: tuple[int, ...] = (0,)


@dataclass
class Child:
    """A command at work in a process of its own."""

    number: int

    def kill(self, which: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.number, which)


def start(
    arguments: list[str], log: Path, environment: dict[str, str] | None = None, output: str = "log"
) -> Child:
    """Run `dimpoint` with these arguments in a child. output: log, `closed pipe` or `/dev/full`."""
    sys.stdout.flush()
    number = os.fork()
    if number:
        with contextlib.suppress(OSError):
            os.setpgid(number, number)
        return Child(number)
    code = 1
    try:
        os.setpgid(0, 0)
        _redirect(log, output)
        os.environ.update(environment or {})
        tempfile.tempdir = None
        code = _command(arguments)
    finally:
        with contextlib.suppress(BaseException):
            sys.stderr.flush()
        os._exit(code)


def _command(arguments: list[str]) -> int:
    from dimpoint.cli import main
    from dimpoint.pretraining import run
    from dimpoint.training import run_folder

    run_folder.SECONDS_BETWEEN = run._SAVE_EVERY = _DUE  # type: ignore[attr-defined]
    sys.argv = ["dimpoint", *arguments]
    try:
        main()
        sys.stdout.flush()  # as Python does at its end
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
        return 1
    return 0


def _redirect(log: Path, output: str) -> None:
    handle = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644)
    os.dup2(handle, 2)
    if output == "closed pipe":
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, 1)
    elif output == "/dev/full":
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
    else:
        os.dup2(handle, 1)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", closefd=False, buffering=1)


def wait(child: Child, seconds: float = 300) -> int:
    """The exit code of a child; -N where signal N ended it. A child that takes too long is killed."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        number, status = os.waitpid(child.number, os.WNOHANG)
        if number:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    child.kill(signal.SIGKILL)
    os.waitpid(child.number, 0)
    return 124


def run(arguments: list[str], log: Path, environment: dict[str, str] | None = None) -> int:
    return wait(start(arguments, log, environment))


# ---- What lies in a folder


def is_ours(path: Path) -> bool:
    """Whether a file is a temporary one, which counts for nothing."""
    return any(part.startswith(TEMPORARY) or part.startswith(".") for part in path.parts)


def leftovers(place: Path) -> list[str]:
    """Temporary files and folders."""
    found = (path.relative_to(place) for path in place.rglob("*"))
    return [str(path) for path in found if path.name.startswith(".") and path.name != ".lock"]


def broken_files(place: Path) -> list[str]:
    """Files, temporary ones apart, that cannot be read as what their name says."""
    broken = []
    for path in place.rglob("*"):
        if path.is_file() and not is_ours(path.relative_to(place)):
            try:
                _read(path)
            except Exception as error:
                broken.append(f"{path.relative_to(place)}: {type(error).__name__}: {error}"[:200])
    return broken


def _read(path: Path) -> None:
    suffix = path.suffix.lower()
    content = path.read_bytes()
    if suffix == ".json":
        json.loads(content)
    elif suffix == ".png":
        if (
            not content.endswith(b"IEND\xaeB`\x82")
            or cv2.imdecode(np.frombuffer(content, np.uint8), -1) is None
        ):
            raise ValueError("no whole picture")
    elif suffix in (".ckpt", ".pt"):
        import torch

        torch.load(path, weights_only=True, map_location="cpu")
    elif suffix == ".onnx":
        import onnx

        onnx.checker.check_model(onnx.load(path))
    elif suffix == ".safetensors":
        import safetensors.numpy

        safetensors.numpy.load(content)
    elif suffix == ".csv":
        rows = list(csv.reader(content.decode().splitlines()))
        if rows and (len({len(row) for row in rows}) != 1 or not content.endswith(b"\n")):
            raise ValueError("rows of several lengths")
    elif suffix == ".html" and not content.rstrip().endswith(b"</html>"):
        raise ValueError("no whole page")
    elif suffix in (".yaml", ".yml"):
        import yaml

        if yaml.safe_load(content) is None:
            raise ValueError("empty")


def tree(folder: Path, without: tuple[str, ...] = ()) -> dict[str, str]:
    """The hash of every file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in without
    }


def weights(run_folder: Path) -> dict[str, Any]:
    """The state of a run's last checkpoint and its log, without times."""
    import torch

    content = torch.load(run_folder / "checkpoints" / "last.ckpt", weights_only=True, map_location="cpu")
    states = {
        f"{part}.{key}": hashlib.sha256(value.numpy().tobytes()).hexdigest()
        for part in ("state_dict", "current_model_state")
        for key, value in content.get(part, {}).items()
    }
    with (run_folder / "csv" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = ("val/f1", "val/threshold", "train/loss_epoch")
    log = {name: [row[name] for row in rows if row.get(name)] for name in names}
    return {"states": states, "log": log, "model": (run_folder / "model.onnx").is_file()}


# ---- Inputs


def make_frames(folder: Path, count: int, size: tuple[int, int] = (96, 128)) -> Path:
    """Frames of 16 bit with a spot each, and nothing else."""
    if folder.is_dir():
        return folder
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        frame = 6000 + 20 * rng.standard_normal(size)
        y, x = (int(rng.integers(8, side - 8)) for side in size)
        frame[y - 1 : y + 2, x - 1 : x + 2] += 600
        cv2.imwrite(str(folder / f"{number:05d}.png"), frame.round().astype(np.uint16))
    return folder


def make_set(folder: Path, count: int = 12, bad_mask: bool = False) -> Path:
    """A data set of such frames with masks and splits; with `bad_mask` one that repair rewrites."""
    root = folder / ("BAD" if bad_mask else "SPOTS")
    if root.is_dir():
        return root
    make_frames(root / "images", count, (48, 64))
    (root / "masks").mkdir()
    (root / "img_idx").mkdir()
    names = sorted(path.stem for path in (root / "images").iterdir())
    for name in names:
        frame = cv2.imread(str(root / "images" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        mask = (frame > 6300).astype(np.uint8) * (1 if bad_mask else 255)
        cv2.imwrite(str(root / "masks" / f"{name}.png"), mask)
    for part, listed in (("train", names[: 3 * count // 4]), ("test", names[3 * count // 4 :])):
        (root / "img_idx" / f"{part}_{root.name}.txt").write_text("\n".join(listed) + "\n")
    return root


# ---- The commands


def detect(frames: Path) -> Case:
    def command(place: Path) -> list[str]:
        options = ["--out", str(place / "out"), "--format", "json,csv,coco", "--threads", "2"]
        return ["detect", str(frames), *options]

    return Case("detect", command, command, lambda place: tree(place / "out"))


def _detect(data: Path) -> Case:
    frames = make_frames(data / "frames", 60)
    plain = detect(frames)
    command = lambda place: [*plain.first(place), "--overlay"]  # noqa: E731
    return Case("detect", command, command, plain.result)


def _train(data: Path, name: str, place: str | None, environment: dict[str, str]) -> Case:
    root = make_set(data)
    changes = [part for change in _RECIPE for part in ("--set", change)]

    def first(place: Path) -> list[str]:
        machine = ["--threads", "1", "--accelerator", "cpu"]
        return ["train", "spire-sirst", "--data", str(root), "--out", str(place / "run"), *changes, *machine]

    def again(place: Path) -> list[str]:
        begun = (place / "run" / "run.json").is_file()
        return ["train", "--resume", str(place / "run"), "--threads", "1"] if begun else first(place)

    return Case(name, first, again, lambda place: weights(place / "run"), "w", place, environment)


def _evaluate(data: Path) -> Case:
    root = make_set(data)
    predictions = data / "predictions"
    if not predictions.is_dir():
        code = run(["detect", str(root / "images"), "--out", str(predictions)], data / "log")
        if code:
            raise SystemExit((data / "log").read_text())

    def command(place: Path) -> list[str]:
        target = ["--report", str(place / "report"), "--json", str(place / "n.json"), "--csv"]
        found = ["--predictions", str(predictions / "detections.json")]
        return ["evaluate", *found, "--data", str(root), *target, str(place / "t.csv")]

    def result(place: Path) -> Any:
        return sorted(tree(place)), (place / "t.csv").read_text()

    return Case("evaluate --report", command, command, result)


def _repair(data: Path) -> Case:
    root = make_set(data, 60, bad_mask=True)

    def first(place: Path) -> list[str]:
        return ["data", "check", str(root), "--repair", str(place / "clean")]

    def again(place: Path) -> list[str] | None:
        done = (place / "clean").is_dir()
        return None if done and tree(place / "clean") else first(place)

    return Case("data check --repair", first, again, lambda p: tree(p / "clean"), good=(0, 1))


def _export(data: Path) -> Case:
    def command(place: Path) -> list[str]:
        return ["export", "spire-lite", "--out", str(place / "model.onnx")]

    return Case("export", command, command, lambda place: tree(place))


def _pretrain(data: Path) -> Case:
    root = make_set(data)
    sizes = [
        "--size",
        "32",
        "--patch",
        "8",
        "--hidden",
        "16",
        "--layers",
        "1",
        "--heads",
        "1",
        "--batch",
        "4",
    ]

    def first(place: Path) -> list[str]:
        options = ["--data", str(root), "--out", str(place / "encoder"), "--epochs", "40", "--threads", "1"]
        return ["pretrain", *options, *sizes]

    def again(place: Path) -> list[str] | None:
        if (place / "encoder").is_dir():
            return None
        begun = (place / "encoder.pretraining" / "run.json").is_file()
        return ["pretrain", "--resume", str(place / "encoder"), "--threads", "1"] if begun else first(place)

    return Case("pretrain", first, again, lambda p: tree(p / "encoder", ("pretraining.json", "README.md")))


def _demo(data: Path) -> Case:
    def first(place: Path) -> list[str]:
        return ["demo", "--out", str(place / "demo"), "--minutes", "0.1"]

    def again(place: Path) -> list[str] | None:
        run_folder = place / "demo" / "run"
        return ["train", "--resume", str(run_folder)] if (run_folder / "run.json").is_file() else None

    # Its length follows the clock, so that no two runs are equal: what counts is that the run goes on.
    return Case("demo", first, again, lambda place: (place / "demo" / "run" / "model.onnx").is_file())


CASES: dict[str, Callable[[Path], Case]] = {
    "detect": _detect,
    "train": lambda data: _train(data, "train", None, {}),
    "train-two": lambda data: _train(data, "train, two file systems", "/dev/shm", {"TMPDIR": "/tmp"}),
    "evaluate": _evaluate,
    "repair": _repair,
    "export": _export,
    "pretrain": _pretrain,
    "demo": _demo,
}
