"""The results of `dimpoint.evaluate` and `dimpoint.compare`: numbers, tables, curves and reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dimpoint.errors import ConfigError, MissingExtraError
from dimpoint.evaluation.compare import Comparison, verdict
from dimpoint.evaluation.compare import compare as compare_results
from dimpoint.evaluation.run import Result, SetResult, chosen_protocols
from dimpoint.evaluation.run import evaluate as evaluate_predictor
from dimpoint.evaluation.subject import Data, Memory, Subject, open_either, same_frames
from dimpoint.evaluation.summary import Number, measured_hse, measured_numbers, numbers_of, to_record
from dimpoint.evaluation.tables import (
    CSV_COLUMNS,
    TextTable,
    columns_of,
    csv_of,
    latex_of,
    names_of,
    rows_of,
    tables_of,
)
from dimpoint.text import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from dimpoint.inference.detector import Detector
    from dimpoint.metrics.curves import Curve

Progress = Callable[[str, int], Callable[[], None]]


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """Result of `dimpoint.evaluate`: one or several methods on the same labelled frames.

    Attributes
    ----------
    results : tuple of Result
        Counts and matches of each method, in the given order.
    data : str
        Description of the data sets and the split.
    notes : tuple of str
        Notes that matter for reading the numbers, such as frames without a prediction.
    threshold_notes : tuple of str
        Sentences about a threshold that was chosen for a goal.
    command : str
        The command that the report names as its own; none if empty.

    Examples
    --------
    >>> import dimpoint
    >>> evaluation = dimpoint.evaluate("spire-lite", "examples/scenes", split="test")
    >>> evaluation.numbers["frames"], evaluation.numbers["tp"] + evaluation.numbers["fn"]
    (2, 5)
    """

    results: tuple[Result, ...]
    data: str
    notes: tuple[str, ...] = ()
    threshold_notes: tuple[str, ...] = ()
    command: str = ""

    @property
    def numbers(self) -> dict[str, float]:
        """Headline numbers of all frames together under the first protocol, by name; NaN if not defined.

        Maps also have iou, niou and hse. For several methods: those of the first; `by_method` has all.
        """
        return _numbers(self.results[0])

    @property
    def by_method(self) -> dict[str, dict[str, float]]:
        """`numbers` of each method, by name."""
        return {name: _numbers(each) for name, each in zip(names_of(self.results), self.results, strict=True)}

    @property
    def tables(self) -> list[TextTable]:
        """The tables of the command line: one for each protocol, and those of maps."""
        return tables_of(self.results)

    @property
    def curves(self) -> dict[str, Curve]:
        """Counts over all thresholds under the first protocol, by method or data set."""
        return {column.label: column.part.curve for column in columns_of(self.results)}

    def to_dataframe(self) -> Any:
        """All numbers as a pandas DataFrame.

        The columns are table, quantity, method, data, value, low and high (ends of the 95 % interval). Raises
        MissingExtraError without pandas.
        """
        if find_spec("pandas") is None:
            raise MissingExtraError("to_dataframe", "pandas", "notebook")
        import pandas as pd

        frame = pd.DataFrame(list(rows_of(self.results)), columns=list(CSV_COLUMNS))
        for name in ("value", "low", "high"):
            frame[name] = pd.to_numeric(frame[name], errors="coerce")
        return frame.dropna(subset="value").reset_index(drop=True)

    def to_csv(self) -> str:
        """All tables as CSV text: table, quantity, method, data, value, low, high."""
        return csv_of(self.results)

    def to_latex(self) -> str:
        """The tables as LaTeX, one row for each method; needs the package booktabs."""
        return latex_of(self.results)

    def to_record(self) -> dict[str, Any]:
        """A JSON-compatible dict; several methods are a list under `evaluations`."""
        records = [to_record(each, self.notes) | {"data_sets": self.data} for each in self.results]
        return records[0] if len(records) == 1 else {"evaluations": records}

    def plot(self, kind: str = "free-response", axes: Axes | None = None) -> Axes:
        """Draw a curve of all methods.

        Parameters
        ----------
        kind : {"free-response", "precision-recall", "pd-fa"}
            The curve. Dots mark the thresholds of the numbers.
        axes : matplotlib.axes.Axes, optional
            Where to draw. Default: a new figure.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        ConfigError
            If the kind is unknown.
        MissingExtraError
            Without matplotlib.
        """
        from dimpoint.report import figures

        if kind not in figures.DRAWINGS:
            raise ConfigError(f"no curve '{kind}'; there are: {', '.join(figures.DRAWINGS)}")
        if axes is None:
            if find_spec("matplotlib") is None:
                raise MissingExtraError("plotting", "matplotlib", "report")
            from matplotlib.figure import Figure

            axes = Figure(layout="constrained").add_subplot()
        figures.DRAWINGS[kind](axes, figures.drawn(self.results))
        return axes

    def report(self, folder: str | Path, section: str = "", label_page: str | None = None) -> Path:
        """Write an HTML page with numbers, curves and pictures.

        Parameters
        ----------
        folder : str or Path
            Folder of the page, `index.html`.
        section : str, optional
            HTML of another section, such as that of `dimpoint.report.tracks.track_section`.
        label_page : str, optional
            Address that `dimpoint label` printed; each error then links to its place there.

        Returns
        -------
        Path
            The page.
        """
        from dimpoint.report.html import write_report

        return write_report(
            Path(folder),
            self.results,
            data=self.data,
            notes=self.notes,
            threshold_notes=self.threshold_notes,
            section=section,
            label_page=label_page,
            command=self.command,
        )

    def overlays(self, folder: str | Path) -> int:
        """Write a picture of every frame with found, missed and false objects marked.

        Parameters
        ----------
        folder : str or Path
            New or empty. Several methods, and several data sets, get a folder each.

        Returns
        -------
        int
            The number of pictures.

        Raises
        ------
        DataError
            If the folder is not empty, or the data hold only labels and no frames.
        """
        from dimpoint.report.overlays import write_overlays

        return write_overlays(Path(folder), self.results)

    def __repr__(self) -> str:
        first = self.results[0]
        frames, protocol = len(first.pooled.frames), first.protocols[0]
        shown = [
            f"{name}: F1 {each['f1']:.3f}, recall {each['recall']:.3f}, precision {each['precision']:.3f}"
            for name, each in self.by_method.items()
        ]
        where = f"{self.data} ({counted(frames, 'frame')}, protocol {protocol})"
        return f"<Evaluation on {where}; {'; '.join(shown)}>"


@dataclass(frozen=True, eq=False, repr=False)
class Compared:
    """Result of `dimpoint.compare`: paired differences, first minus second, on the same frames.

    Attributes
    ----------
    comparisons : tuple of Comparison
        Rows of numbers for each data set and protocol.
    results : tuple of Result
        Both evaluations.
    notes : tuple of str
        Notes that matter for reading the numbers.
    """

    comparisons: tuple[Comparison, ...]
    results: tuple[Result, ...]
    notes: tuple[str, ...] = ()

    @property
    def verdicts(self) -> list[str]:
        """One sentence for each comparison."""
        first, second = names_of(self.results)
        return [verdict(each, first, second) for each in self.comparisons]

    def __repr__(self) -> str:
        return f"<Compared: {' '.join(self.verdicts)}>"


def evaluate(
    model_or_predictions: str | Path | Detector | Sequence[str | Path] | None,
    data: str | Path | Sequence[str | Path],
    *,
    protocol: str | Sequence[str] = "spire",
    split: str | None = None,
    threshold: float | None = None,
    allow_missing: bool = False,
    threads: int | None = None,
    predictions_values: str | None = None,
    device: str = "cpu",
) -> Evaluation:
    """Evaluate models, or predictions on disk, on labelled frames.

    Parameters
    ----------
    model_or_predictions : str, Path, Detector, None, or a sequence of str and Path
        A shipped model's name, a model file, the folder of a training run, a `Detector`, or None for the
        shipped model; or predictions: results of `dimpoint detect`, COCO points, a folder of maps or masks.
        Several are evaluated side by side.
    data : str, Path, or a sequence of them
        Data sets, or COCO keypoints files.
    protocol : str or sequence of str, default "spire"
        How predictions are matched with targets; "all": every protocol that the predictions support.
    split : str, optional
        Name of a split, such as "test". Default: all frames.
    threshold : float, optional
        Scores or pixels above it count. Default: the model's threshold, 0.5 for maps, none for points.
    allow_missing : bool, default False
        Evaluate the frames that have a prediction, even if others have none.
    threads : int, optional
        Number of processor threads. Default: all cores.
    predictions_values : {"0-1", "0-255", "0-65535", "labels", "alpha"}, optional
        What the values of predicted maps mean, if unclear.
    device : str, default "cpu"
        Where models run; see `dimpoint.inference.backends.open_backend`.

    Returns
    -------
    Evaluation

    Raises
    ------
    ConfigError, DataError, ModelFileError
        If an argument, the data or a model is wrong.

    Examples
    --------
    >>> import dimpoint
    >>> evaluation = dimpoint.evaluate("spire-lite", "examples/scenes", split="test")
    >>> sorted(evaluation.curves)
    ['scenes']
    """
    labelled = replace(data_of(data, split, allow_missing), prediction_values=predictions_values)
    several = isinstance(model_or_predictions, Sequence) and not isinstance(model_or_predictions, str)
    given: Sequence[Any] = model_or_predictions if several else [model_or_predictions]  # type: ignore[assignment]
    if not given:
        raise ConfigError("nothing to evaluate: give at least one model or prediction")
    subjects = [open_either(each, labelled, threshold, threads, device) for each in given]
    return evaluate_subjects(subjects, labelled, protocol)


def compare(
    first: str | Path | Detector,
    second: str | Path | Detector,
    data: str | Path | Sequence[str | Path],
    *,
    protocol: str | Sequence[str] = "spire",
    split: str | None = None,
    allow_missing: bool = False,
    threads: int | None = None,
    device: str = "cpu",
) -> Compared:
    """Compare two models or predictions on the same frames, each at its own threshold.

    Parameters
    ----------
    first, second : str, Path or Detector
        Models or predictions; see `evaluate`.
    data, protocol, split, allow_missing, threads, device
        See `evaluate`.

    Returns
    -------
    Compared

    Raises
    ------
    ConfigError, DataError, ModelFileError
        If an argument, the data or a model is wrong.

    Examples
    --------
    >>> import dimpoint
    >>> found = dimpoint.compare("spire-lite", "spire-lite", "examples/scenes")
    >>> found.comparisons[0].rows[0].difference.value
    0.0
    """
    labelled = data_of(data, split, allow_missing)
    subjects = [open_either(each, labelled, None, threads, device) for each in (first, second)]
    evaluation = evaluate_subjects(subjects, labelled, protocol)
    return compared(evaluation)


def compared(evaluation: Evaluation) -> Compared:
    """The paired comparison of the two methods of an evaluation."""
    one, other = evaluation.results
    notes = tuple(dict.fromkeys([*evaluation.notes, *one.notes, *other.notes]))
    return Compared(tuple(compare_results(one, other)), evaluation.results, notes)


def evaluate_subjects(
    subjects: Sequence[Subject],
    data: Data,
    protocol: str | Sequence[str],
    *,
    threshold_notes: Sequence[str] = (),
    memory: Memory | None = None,
    progress: Progress = lambda what, total: lambda: None,
) -> Evaluation:
    """Evaluate opened models or predictions on the frames that all of them have.

    progress: maps a text and a number of frames to a function that is called after each frame.
    """
    frames, notes = same_frames(*subjects)
    protocols = chosen_protocols(protocol, [subject.predictor for subject in subjects], frames)
    results = []
    for number, subject in enumerate(subjects, 1):
        what = "evaluating" if len(subjects) == 1 else f"evaluating {number} of {len(subjects)}"
        step = progress(what, len(frames))
        results.append(evaluate_predictor(subject.predictor, frames, protocols, step, memory))
    every = [*notes, *(note for subject in subjects for note in subject.notes)]
    return Evaluation(tuple(results), str(data), tuple(dict.fromkeys(every)), tuple(threshold_notes))


def data_of(data: str | Path | Sequence[str | Path], split: str | None, allow_missing: bool) -> Data:
    """One data set or several, with a split."""
    roots = [data] if isinstance(data, str | Path) else list(data)
    return Data(tuple(Path(root) for root in roots), split, allow_missing)


def _numbers(result: Result) -> dict[str, float]:
    part: SetResult = result.pooled
    numbers: Sequence[Number] = numbers_of(result.protocols[0])
    found = measured_numbers(part, result.protocols[0])
    values = {number.key: found[number.key].value for number in numbers}
    total = part.total(result.protocols[0])
    values |= {"tp": total.tp, "fp": total.fp, "fn": total.fn, "frames": total.frames}
    if part.maps is not None:
        pixels = measured_numbers(part, "pixels")
        values |= {"iou": pixels["iou"].value, "niou": pixels["niou"].value, "hse": measured_hse(part).value}
    return values
