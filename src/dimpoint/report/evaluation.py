"""An evaluation as an object with numbers, tables, curves and a report; a comparison of two methods."""

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
    TextTable,
    columns_of,
    csv_of,
    latex_of,
    names_of,
    split_cell,
    tables_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from dimpoint.inference.detector import Detector
    from dimpoint.metrics.curves import Curve

Progress = Callable[[str, int], Callable[[], None]]


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """What `dimpoint.evaluate` gives: one or several methods on the same labelled frames.

    Attributes
    ----------
    results : tuple of Result
        Everything that was counted, one for each method, in the order in which they were given.
    data : str
        The data sets and the split, in words.
    notes : tuple of str
        What a reader of the numbers must know, such as frames without a prediction.
    operating : tuple of str
        Lines about a threshold that was chosen for a goal.
    """

    results: tuple[Result, ...]
    data: str
    notes: tuple[str, ...] = ()
    operating: tuple[str, ...] = ()

    @property
    def numbers(self) -> dict[str, float]:
        """The headline numbers of all frames together under the first protocol, by name; NaN: not defined.

        Of maps also iou, niou and hse. Of several methods those of the first; `by_method` has all.
        """
        return _numbers(self.results[0])

    @property
    def by_method(self) -> dict[str, dict[str, float]]:
        """`numbers` of each method, by its name."""
        return {name: _numbers(each) for name, each in zip(names_of(self.results), self.results, strict=True)}

    @property
    def tables(self) -> list[TextTable]:
        """The tables that the command line prints: one for each protocol, and those of maps."""
        return tables_of(self.results)

    @property
    def curves(self) -> dict[str, Curve]:
        """Counts over all thresholds under the first protocol, by method or data set."""
        return {column.label: column.part.curve for column in columns_of(self.results)}

    def to_dataframe(self) -> Any:
        """All numbers as a pandas DataFrame: table, quantity, method; value, low and high (95 %).

        Raises MissingExtraError without pandas.
        """
        if find_spec("pandas") is None:
            raise MissingExtraError("to_dataframe", "pandas", "notebook")
        import pandas as pd

        rows = [
            (table.title, label.strip(), column, *split_cell(cell))
            for table in self.tables
            for label, cells in table.rows
            for column, cell in zip(table.columns, cells, strict=True)
        ]
        frame = pd.DataFrame(rows, columns=["table", "quantity", "method", "value", "low", "high"])
        for name in ("value", "low", "high"):
            frame[name] = pd.to_numeric(frame[name], errors="coerce")
        return frame.dropna(subset="value").reset_index(drop=True)

    def to_csv(self) -> str:
        """All tables as CSV text: table, quantity, method, value, low, high."""
        return csv_of(self.results)

    def to_latex(self) -> str:
        """The tables as LaTeX, one row for each method; they need the package booktabs."""
        return latex_of(self.results)

    def to_record(self) -> dict[str, Any]:
        """Everything as JSON can hold it; of several methods a list under `evaluations`."""
        records = [to_record(each) | {"data_sets": self.data} for each in self.results]
        return records[0] if len(records) == 1 else {"evaluations": records}

    def plot(self, kind: str = "free-response", axes: Axes | None = None) -> Axes:
        """Draw a curve, all methods in one figure, and return the matplotlib axes.

        Parameters
        ----------
        kind : {"free-response", "precision-recall", "pd-fa"}
            What is drawn; the dots are the thresholds that the numbers are for.
        axes : matplotlib axes, optional
            Where; a new figure if left out.

        Raises ConfigError for another kind, MissingExtraError without matplotlib.
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
        """Write a page with numbers, curves and pictures, `index.html` in `folder`, and return its path.

        section: HTML of a further section, such as `dimpoint.report.tracks.track_section` gives.
        label_page: the address that `dimpoint label` printed; each mistake then links to its place there.
        """
        from dimpoint.report.html import write_report

        return write_report(
            Path(folder),
            self.results,
            data=self.data,
            notes=self.notes,
            operating=self.operating,
            section=section,
            label_page=label_page,
        )

    def __repr__(self) -> str:
        first = self.results[0]
        frames, protocol = len(first.pooled.frames), first.protocols[0]
        shown = [
            f"{name}: F1 {each['f1']:.3f}, recall {each['recall']:.3f}, precision {each['precision']:.3f}"
            for name, each in self.by_method.items()
        ]
        return f"<Evaluation on {self.data} ({frames} frames, protocol {protocol}); {'; '.join(shown)}>"


@dataclass(frozen=True, eq=False, repr=False)
class Compared:
    """What `dimpoint.compare` gives: paired differences, first less second, on the same frames.

    Attributes
    ----------
    comparisons : tuple of Comparison
        Rows of numbers for each data set and protocol.
    results : tuple of Result
        Both evaluations.
    notes : tuple of str
        What a reader of the numbers must know.
    """

    comparisons: tuple[Comparison, ...]
    results: tuple[Result, ...]
    notes: tuple[str, ...] = ()

    @property
    def verdicts(self) -> list[str]:
        """A sentence for each comparison."""
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
    """Evaluate a model, or predictions on disk, on labelled frames.

    Parameters
    ----------
    model_or_predictions : str, Path, Detector, None, or several of the first two
        A shipped model's name, a model file, a training run's folder, a `Detector`, None for the shipped
        default; or a run of `dimpoint detect`, COCO points, a folder of maps or masks. Several stand side by
        side.
    data : str, Path or several
        Data sets, or COCO keypoints files.
    protocol : str or several, default "spire"
        How predictions are matched with targets; "all" for those that the predictions can serve.
    split : str, optional
        Such as "test"; all frames if left out.
    threshold : float, optional
        Scores or pixels above it count; the model's own, or 0.5 for maps, if left out.
    allow_missing : bool, default False
        Score the frames that have a prediction, though others have none.
    threads : int, optional
        Of the processor; all cores if left out.
    predictions_values : {"0-1", "0-255", "0-65535", "labels", "alpha"}, optional
        How predicted maps are read, where their files leave it open.
    device : str, default "cpu"
        Where models run; see `dimpoint.inference.backends.open_backend`.

    Raises ConfigError, DataError or ModelFileError for what is wrong with the arguments or the data.
    """
    held_against = replace(data_of(data, split, allow_missing), prediction_values=predictions_values)
    several = isinstance(model_or_predictions, Sequence) and not isinstance(model_or_predictions, str)
    given: Sequence[Any] = model_or_predictions if several else [model_or_predictions]  # type: ignore[assignment]
    if not given:
        raise ConfigError("nothing to evaluate: give at least one model or prediction")
    subjects = [open_either(each, held_against, threshold, threads, device) for each in given]
    return evaluate_subjects(subjects, held_against, protocol)


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

    The arguments are those of `evaluate`.
    """
    held_against = data_of(data, split, allow_missing)
    subjects = [open_either(each, held_against, None, threads, device) for each in (first, second)]
    evaluation = evaluate_subjects(subjects, held_against, protocol)
    return compared(evaluation)


def compared(evaluation: Evaluation) -> Compared:
    """The paired comparison of the two methods of an evaluation."""
    one, other = evaluation.results
    return Compared(tuple(compare_results(one, other)), evaluation.results, evaluation.notes)


def evaluate_subjects(
    subjects: Sequence[Subject],
    data: Data,
    protocol: str | Sequence[str],
    *,
    operating: Sequence[str] = (),
    memory: Memory | None = None,
    progress: Progress = lambda what, total: lambda: None,
) -> Evaluation:
    """Evaluate opened models or predictions on the frames that all of them have.

    progress: gives for a text and a number of frames what is called after each frame.
    """
    frames, notes = same_frames(*subjects)
    protocols = chosen_protocols(protocol, [subject.predictor for subject in subjects], frames)
    results = []
    for number, subject in enumerate(subjects, 1):
        what = "evaluating" if len(subjects) == 1 else f"evaluating {number} of {len(subjects)}"
        step = progress(what, len(frames))
        results.append(evaluate_predictor(subject.predictor, frames, protocols, step, memory))
    every = [*notes, *(note for subject in subjects for note in subject.notes)]
    return Evaluation(tuple(results), str(data), tuple(dict.fromkeys(every)), tuple(operating))


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
