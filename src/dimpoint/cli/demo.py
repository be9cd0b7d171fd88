"""`dimpoint demo`: all steps from scenes to evaluated detections, on synthetic frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dimpoint.errors import ConfigError

if TYPE_CHECKING:
    from dimpoint.evaluation.run import Result
    from dimpoint.metrics.points import PointCounts
    from dimpoint.training.recipe import Recipe

MINUTES = 3.0  # duration of the demo
_AFTER_TRAINING = 0.25  # fraction of it for export, detection and evaluation
_LEAST_TRAINING = 0.2  # fraction of it for training at least
_LEAST_SCENES = 60
_FRAMES = 400
_TEST_FRACTION = 0.2
_SCR = (5.0, 40.0)  # local signal-to-clutter ratio of the targets
_PICTURES = 8


def register(app: typer.Typer) -> None:
    """Add the command `dimpoint demo`."""
    app.command("demo")(demo)


def demo(
    out: Path = typer.Option(
        Path("dimpoint-demo"), "--out", metavar="DIR", help="New or empty folder for the results."
    ),
    minutes: float = typer.Option(
        MINUTES, min=0.1, help="Approximate duration, minutes; determines the number of scenes and epochs."
    ),
    seed: int = typer.Option(0, min=0, help="The same seed gives the same scenes."),
) -> None:
    """Make synthetic scenes, train a small detector, detect and evaluate; writes the model and pictures."""
    try:
        run_demo(out, minutes=minutes, seed=seed)
    except (KeyboardInterrupt, SystemExit):
        typer.echo(_stopped(out), err=True)
        raise typer.Exit(130) from None


def run_demo(
    out: Path,
    *,
    minutes: float | None = MINUTES,
    seed: int = 0,
    frames: int = _FRAMES,
    changes: Sequence[str] = (),
) -> PointCounts:
    """Make synthetic scenes, train a small detector on them, detect and evaluate.

    Parameters
    ----------
    out : Path
        New or empty folder. Gets the data set `scenes`, the training run `run`, `detections.json` of the test
        frames, and `overlays`.
    minutes : float, optional
        Approximate duration; default 3. None: the number of `frames` and the epochs of the recipe.
    seed : int, default 0
        Seed of scenes and training.
    frames : int, default 400
        Largest number of scenes.
    changes : sequence of str
        Changes of the recipe, KEY=VALUE, as for `dimpoint train --set`.

    Returns
    -------
    PointCounts
        Counts of protocol `spire` on the test frames.

    Raises
    ------
    ConfigError
        If `out` is not empty.
    MissingExtraError
        Without the training packages.
    """
    import time

    from dimpoint.cli.options import require_torch

    begin = time.monotonic()
    require_torch("the demo")
    _refuse_used(out)
    recipe = _recipe(seed, changes)
    if minutes is not None:
        frames = min(frames, max(_LEAST_SCENES, round(frames * minutes / MINUTES)))
    _make_scenes(out / "scenes", frames, seed)
    model = _train(recipe, out, None if minutes is None else _Clock(begin, minutes))
    _detect(model, out)
    counts = _evaluate(out)
    _report(out, time.monotonic() - begin)
    return counts


def _refuse_used(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out {out}: exists and is not an empty folder; name a new one")


def _recipe(seed: int, changes: Sequence[str]) -> Recipe:
    from dimpoint.training.recipe import load_recipe

    return load_recipe("demo", changes).model_copy(update={"seed": seed})


def _make_scenes(scenes: Path, frames: int, seed: int) -> None:
    from dimpoint.cli.console import progress
    from dimpoint.synthetic.scenes import SceneConfig, write_dataset

    config = SceneConfig.model_validate({"bits": 16, "targets": {"scr": _SCR}})
    typer.echo(
        f"1 of 4: making {frames} scenes of cloud, sea and ground, {config.width}x{config.height}, 16 bit, "
        f"with targets of signal-to-clutter ratio {_SCR[0]:g} to {_SCR[1]:g}"
    )
    with progress("making scenes", frames) as step:
        write_dataset(scenes, config, frames, seed, _TEST_FRACTION, lambda _: step())


@dataclass(frozen=True)
class _Clock:
    """Start (`time.monotonic`) and duration in minutes of the demo."""

    begin: float
    minutes: float

    def for_training(self) -> float:
        """Minutes that remain for training."""
        import time

        passed = (time.monotonic() - self.begin) / 60
        return max((1 - _AFTER_TRAINING) * self.minutes - passed, _LEAST_TRAINING * self.minutes)


def _train(recipe: Recipe, out: Path, clock: _Clock | None) -> Path:
    from dimpoint.training.fit import Machine, TrainingData, finish, train  # takes seconds

    left = None if clock is None else clock.for_training()
    now = "" if left is None else f", about {left:.1f} minutes"
    typer.echo(f"2 of 4: training {recipe.network.name} on one point per target{now}")
    # One device: with more, each would run this program.
    held = train(
        recipe,
        TrainingData([out / "scenes"]),
        out / "run",
        machine=Machine(devices=1),
        minutes=left,
        log=typer.echo,
    )
    typer.echo("writing the model")
    return finish(out / "run", typer.echo, held)


def _detect(model: Path, out: Path) -> None:
    from dataclasses import replace

    from dimpoint.cli.console import progress
    from dimpoint.datasets.dataset import open_dataset
    from dimpoint.inference.detections import write_detections
    from dimpoint.inference.detector import Detector

    samples = open_dataset(out / "scenes", "test").samples
    typer.echo(f"3 of 4: detecting in the {len(samples)} test frames with ONNX Runtime")
    detector = Detector(model)
    results = []
    try:
        with progress("detecting", len(samples)) as step:
            for sample in samples:
                frame = sample.read_frame()
                found = replace(detector(frame), file=str(sample.frame_path))
                results.append(found)
                step()
    finally:  # Ctrl-C keeps what is done
        if results:
            write_detections(out / "detections.json", detector.meta.name, results)


def _evaluate(out: Path) -> PointCounts:
    from dimpoint.cli.console import progress
    from dimpoint.cli.evaluate import print_results
    from dimpoint.evaluation.run import evaluate
    from dimpoint.evaluation.subject import Data, open_predictions

    typer.echo("4 of 4: evaluating the detections, protocol spire")
    subject = open_predictions(out / "detections.json", Data((out / "scenes",), "test"))
    with progress("evaluating", len(subject.frames)) as step:
        result = evaluate(subject.predictor, subject.frames, ("spire",), step)
    print_results([result], subject.notes)
    _draw(result, out / "overlays")
    return result.pooled.total("spire")


def _draw(result: Result, folder: Path) -> None:
    """Write pictures of the first test frames with targets, with found, missed and false objects marked."""
    from dimpoint.inference.overlay import write_picture
    from dimpoint.report.overlays import draw_result

    frames = [frame for frame in result.pooled.frames if len(frame.truth_xy)]
    for frame in frames[:_PICTURES]:
        pixels = frame.read_pixels()
        if pixels is not None:
            write_picture(folder / f"{frame.frame.name}.png", draw_result(frame, pixels))


def _report(out: Path, seconds: float) -> None:
    from shlex import quote

    minutes, rest = divmod(round(seconds), 60)

    def inside(name: str) -> str:
        return quote(str(out / name))

    lines = [
        f"Done in {minutes} min {rest} s. Contents of {out}:",
        "  scenes           frames, masks, points and splits, in the layout for your own data",
        "  run              model.onnx (to run), model.safetensors (to train further), recipe and logs",
        "  detections.json  the detections in the test frames",
        "  overlays         some of these frames, with found, missed and false objects marked",
        "Next steps, with your own frames and labels in place of the scenes:",
        f"  dimpoint detect {inside('scenes/images')} --model {inside('run/model.onnx')} "
        f"--out {inside('results')} --overlay",
        f"  dimpoint evaluate --model {inside('run')} --data {inside('scenes')} --split test",
        f"  dimpoint train spire-sirst --data {inside('scenes')} --out {inside('longer')}",
    ]
    typer.echo("\n".join(lines))


def _stopped(out: Path) -> str:
    run = out / "run"
    if (run / "run.json").is_file() and not (run / "model.onnx").is_file():
        from dimpoint.training.run_folder import RunFolder

        return RunFolder(run).stopped()
    return f"stopped; finished parts are in {out}"
