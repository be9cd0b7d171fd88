"""`dimpoint evaluate`: evaluate models or predictions on labelled frames."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dimpoint.cli.compare import compare
from dimpoint.cli.console import (
    command_line,
    json_file,
    plain,
    print_lines,
    print_subject,
    progress,
    table_console,
    write_json,
)
from dimpoint.cli.options import DEVICE, JSON_FILE, PREDICTION_VALUES, THREADS, reads_labels
from dimpoint.cli.tracks import (
    DISTANCE,
    FPS,
    TRACKS,
    TRUTH,
    evaluated_tracks,
    print_tracks,
    section_of,
    write_tracks,
)
from dimpoint.errors import ConfigError
from dimpoint.text import counted

if TYPE_CHECKING:
    from dimpoint.datasets.reading import Reading
    from dimpoint.evaluation.run import Result
    from dimpoint.evaluation.subject import Data, Memory, Subject
    from dimpoint.evaluation.thresholds import ChosenThreshold
    from dimpoint.metrics.curves import Goal

PROTOCOLS = "Protocol (see `dimpoint protocols`), module:object, or all; may be repeated."


def register(app: typer.Typer) -> None:
    """Add the commands `dimpoint evaluate`, `dimpoint compare` and `dimpoint protocols`."""
    app.command("evaluate")(evaluate)
    app.command("protocols")(protocols)
    app.command("compare")(compare)


@reads_labels()
def evaluate(
    data: list[Path] = typer.Option(
        [], "--data", metavar="DIR", help="Labelled data set or COCO points file; may be repeated."
    ),
    model: list[str] = typer.Option(
        [],
        metavar="MODEL",
        help="Name (see `dimpoint models`), .onnx or .safetensors file, or folder of a training run; may be "
        "repeated.",
        show_default="the shipped model",
    ),
    predictions: list[Path] = typer.Option(
        [],
        metavar="[NAME=]PATH",
        help="Predictions: results of dimpoint detect (folder, folder of shards, or file), COCO points, or a "
        "folder of maps or masks; NAME is their name in tables; may be repeated.",
    ),
    prediction_values: str | None = PREDICTION_VALUES,
    split: str | None = typer.Option(
        None, metavar="NAME", help="Split of the data, such as test.", show_default="all frames"
    ),
    protocol: list[str] = typer.Option(["spire"], "--protocol", metavar="NAME", help=PROTOCOLS),
    threshold: float | None = typer.Option(
        None,
        help="Count predictions with a score above this.",
        show_default="the model's threshold, 0.5 for maps",
    ),
    allow_missing: bool = typer.Option(
        False, "--allow-missing", help="Evaluate only the frames that have a prediction."
    ),
    false_alarms: float | None = typer.Option(
        None,
        "--false-alarms-per-frame",
        metavar="X",
        help="Choose the threshold for at most this many false alarms per frame.",
    ),
    fa: float | None = typer.Option(
        None, metavar="X", help="Choose the threshold for at most this false-alarm rate Fa (per pixel)."
    ),
    pd: float | None = typer.Option(None, metavar="X", help="Choose the threshold for at least this recall."),
    calibrate: list[Path] = typer.Option(
        [], metavar="DIR", help="Data set to choose the threshold on.", show_default="that of --data"
    ),
    calibrate_split: str | None = typer.Option(
        None,
        metavar="NAME",
        help="Split to choose the threshold on; held-out: the frames that the --model run held out.",
    ),
    store: Path | None = typer.Option(
        None, metavar="FILE", help="Write the model with the chosen threshold to this .onnx file."
    ),
    as_json: str | None = JSON_FILE,
    as_csv: Path | None = typer.Option(None, "--csv", metavar="FILE", help="Write the tables as CSV."),
    latex: Path | None = typer.Option(None, metavar="FILE", help="Write the tables as LaTeX (booktabs)."),
    report: Path | None = typer.Option(
        None, metavar="DIR", help="Write an HTML page with tables, curves and pictures to this folder."
    ),
    overlays: Path | None = typer.Option(
        None,
        metavar="DIR",
        help="Write a picture of each frame with found, missed and false objects marked to this new folder.",
    ),
    device: str = DEVICE,
    label_page: str | None = typer.Option(
        None,
        "--label-page",
        metavar="ADDRESS",
        help="Address that dimpoint label printed; the report links its errors to that page.",
    ),
    threads: int | None = THREADS,
    tracks: list[Path] = TRACKS,
    truth: list[Path] = TRUTH,
    distance: float | None = DISTANCE,
    fps: float | None = FPS,
    *,
    reading: Reading,
) -> None:
    """Evaluate one or several models or predictions on labelled frames, or tracks on labelled clips."""
    from dimpoint.atomic import check_writable, write_text
    from dimpoint.evaluation.subject import Data, Memory
    from dimpoint.evaluation.thresholds import check_store
    from dimpoint.report.evaluation import evaluate_subjects
    from dimpoint.report.html import check_extra
    from dimpoint.report.overlays import check_folder

    if report is not None:
        check_extra()
    if overlays is not None:
        check_folder(overlays)
        check_writable(overlays / "000001.png")
    page_file = None if report is None else report / "index.html"
    check_writable(as_csv, latex, store, page_file, json_file(as_json))
    if label_page is not None and (report is None or not label_page.startswith(("http://", "https://"))):
        raise ConfigError("--label-page: the address that dimpoint label printed, beside --report DIR")
    followed = evaluated_tracks(tracks, truth, distance, fps)
    if followed is not None and not data:
        if model or predictions or overlays is not None:
            raise ConfigError("--model, --predictions and --overlays need --data")
        write_tracks(followed, as_json, as_csv, latex, report)
        return
    if not data:
        raise ConfigError(
            "give labelled frames (--data DIR), or tracks and their labels (--tracks PATH --truth PATH)"
        )
    goal = _goal(false_alarms, fa, pd, threshold, bool(calibrate or calibrate_split), store)
    if store is not None:
        check_store(store)
        if predictions and not model:
            raise ConfigError("--store needs --model; predictions hold no model to write")
    labelled = Data(tuple(data), split, allow_missing, reading, prediction_values)
    subjects = _subjects(model, predictions, labelled, threshold, threads, device)
    memory, chosen = Memory(), None
    if goal is not None:
        if len(subjects) > 1:
            raise ConfigError("a threshold can only be chosen for one model or prediction at a time")
        run = model[0] if model else None
        chosen_on = _calibration(subjects[0], labelled, tuple(calibrate), calibrate_split, run)
        chosen = _choose(goal, chosen_on, subjects[0], memory)
    lines = [] if chosen is None else chosen.sentences()
    with ExitStack() as bars:
        evaluation = evaluate_subjects(
            subjects,
            labelled,
            protocol,
            threshold_notes=lines,
            memory=memory if goal is not None else None,
            progress=lambda what, total: bars.enter_context(progress(what, total)),
        )
    record = evaluation.to_record()
    if chosen is not None:
        record["operating_point"] = chosen.to_record()
    if followed is not None:
        record["tracks"] = followed.to_record()
    if as_json != "-":
        print_results(evaluation.results, evaluation.notes, lines)
        if followed is not None:
            print_tracks(followed)
    if as_json is not None:
        write_json(record, as_json)
    if store is not None and chosen is not None:
        _store(subjects[0], store, chosen, quiet=as_json == "-")
    if as_csv is not None:
        write_text(as_csv, evaluation.to_csv())
    if latex is not None:
        parts = [evaluation.to_latex()] + ([] if followed is None else [followed.to_latex()])
        write_text(latex, "\n".join(parts))
    if overlays is not None:
        typer.echo(
            f"pictures: {overlays} ({counted(evaluation.overlays(overlays), 'frame')})", err=as_json == "-"
        )
    if report is not None:
        section = "" if followed is None else section_of(followed)
        page = replace(evaluation, command=command_line()).report(report, section, label_page)
        typer.echo(f"report: {page}", err=as_json == "-")


def protocols() -> None:
    """List the evaluation protocols: how each matches predictions with targets and what it counts."""
    from dimpoint.metrics.protocols import get_protocol, protocol_names

    for name in protocol_names():
        rule = get_protocol(name)
        needs = "maps and masks" if rule.match_points is None else "points or maps"
        typer.echo(f"{name} ({needs}): {rule.description}")


def _subjects(
    models: list[str],
    predictions: list[Path],
    data: Data,
    threshold: float | None,
    threads: int | None,
    device: str,
) -> list[Subject]:
    from dimpoint.evaluation.subject import named_path, open_model, open_predictions

    named: list[str | None] = [*models] if models or predictions else [None]
    subjects = [open_model(name, data, threshold, threads, device) for name in named]
    for subject in subjects:
        print_subject(subject, device)
    for name, path in map(named_path, predictions):
        subjects.append(open_predictions(path, data, threshold, name))
    return subjects


def _goal(
    false_alarms: float | None,
    fa: float | None,
    pd: float | None,
    threshold: float | None,
    calibrating: bool,
    store: Path | None,
) -> tuple[Goal, float] | None:
    """The given goal, or None; ConfigError if the options contradict each other."""
    wanted: dict[Goal, float | None] = {"false-alarms-per-frame": false_alarms, "fa": fa, "pd": pd}
    given = [(goal, value) for goal, value in wanted.items() if value is not None]
    goals = ", ".join(f"--{goal}" for goal in wanted)
    if len(given) > 1 or (given and threshold is not None):
        raise ConfigError(f"give only one of {goals} and --threshold: each sets the threshold")
    if not given and (calibrating or store is not None):
        raise ConfigError(f"--calibrate, --calibrate-split and --store need one of {goals}")
    return given[0] if given else None


def _calibration(
    subject: Subject, data: Data, roots: tuple[Path, ...], split: str | None, model: str | None
) -> tuple[Subject, str]:
    """The frames to choose the threshold on, and their description; by default the evaluated frames."""
    from dimpoint.evaluation.predictions import FilePredictor
    from dimpoint.evaluation.subject import Subject, open_predictions
    from dimpoint.evaluation.truth import HELD_OUT, held_out_frames

    if split == HELD_OUT:
        if model is None or roots:
            raise ConfigError(f"--calibrate-split {HELD_OUT} needs --model RUN and no --calibrate")
        return Subject(subject.predictor, held_out_frames(Path(model))), f"the frames held out by {model}"
    if not roots and split is None:
        return subject, f"the evaluated data ({data})"
    other = replace(data, roots=roots or data.roots, split=split)
    if isinstance(subject.predictor, FilePredictor):
        return open_predictions(subject.predictor.path, other), str(other)
    return Subject(subject.predictor, other.frames()), str(other)


def _choose(
    goal: tuple[Goal, float], chosen_on: tuple[Subject, str], subject: Subject, memory: Memory
) -> ChosenThreshold:
    """Choose the threshold and apply it to the subject."""
    from dimpoint.evaluation.thresholds import apply_threshold, choose_threshold

    calibration, words = chosen_on
    with progress("choosing the threshold", len(calibration.frames)) as step:
        chosen = choose_threshold(
            calibration,
            *goal,
            chosen_on=words,
            evaluated=subject.frames,
            progress=step,
            memory=memory if calibration is subject else None,
        )
    apply_threshold(subject, chosen)
    return chosen


def _store(subject: Subject, out: Path, chosen: ChosenThreshold, *, quiet: bool) -> None:
    from dimpoint.evaluation.predictions import ModelPredictor
    from dimpoint.evaluation.summary import threshold_digits
    from dimpoint.evaluation.thresholds import store_threshold

    if not isinstance(subject.predictor, ModelPredictor) or subject.predictor.path is None:
        raise ConfigError("--store needs --model; predictions hold no model to write")
    store_threshold(subject.predictor.path, out, chosen)
    typer.echo(f"stored: {out}, threshold {threshold_digits(chosen.threshold)}", err=quiet)


def print_results(
    results: Sequence[Result], notes: Sequence[str] = (), threshold_notes: Sequence[str] = ()
) -> None:
    """Print the tables of one or several evaluations, a column for each method, and the notes."""
    from rich.table import Table

    from dimpoint.evaluation.summary import HINDSIGHT, threshold_text
    from dimpoint.evaluation.tables import names_of, tables_of

    console = table_console()
    lines = [
        f"{name}: {threshold_text(result.predictor)}"
        for name, result in zip(names_of(results), results, strict=True)
    ]
    print_lines(console, [*lines, *threshold_notes])
    tables = tables_of(results)
    for content in tables:
        table = Table(title=plain(content.title), title_justify="left")
        table.add_column("", no_wrap=True)
        for name in content.columns:
            table.add_column(plain(name), justify="right")
        for label, cells in content.rows:
            table.add_row(plain(label), *map(plain, cells))
        console.print(table)
    lines = ["[...]: 95 % bootstrap interval over frames"]
    if any(label.endswith("*") for table in tables for label, _ in table.rows):
        lines.append(f"*: {HINDSIGHT}")
    every = dict.fromkeys([*notes, *(note for result in results for note in result.notes)])
    print_lines(console, [*lines, *(f"note: {note}" for note in every)])
