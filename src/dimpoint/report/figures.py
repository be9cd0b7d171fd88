"""The figures of a report, as inline SVG."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dimpoint.evaluation.run import Result
from dimpoint.evaluation.tables import columns_of, three_digits
from dimpoint.metrics.breakdown import BreakdownRow
from dimpoint.metrics.curves import Curve
from dimpoint.metrics.pixel import PixelCurve
from dimpoint.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Colours that also differ in lightness, for print and for colour-blind readers.
COLOURS = ("#1f5f99", "#d9730d", "#2a8c6a", "#8a4f9e", "#7a7a7a")
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a929c",
    "axes.labelcolor": "#333a44",
    "xtick.color": "#333a44",
    "ytick.color": "#333a44",
    "axes.grid": True,
    "grid.color": "#e3e6ea",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "dimpoint",  # the same figure, the same text
    "svg.fonttype": "none",  # text stays text: it can be searched and is set in the page's font
}
_MOST_POINTS = 1500  # of a curve; more make the page large and look the same


class Drawn(NamedTuple):
    """A curve, its name in the legend, and the threshold of its dot (None: at the end of the curve)."""

    name: str
    curve: Curve
    threshold: float | None = None


def drawn(results: Sequence[Result]) -> list[Drawn]:
    """The curves of one or several evaluations, each with its method's threshold."""
    thresholds = [each.predictor.threshold for each in results for _ in columns_of(each)]
    return [
        Drawn(literal(column.label), column.part.curve, threshold)
        for column, threshold in zip(columns_of(results), thresholds, strict=True)
    ]


def literal(text: str) -> str:
    """Escape a name for matplotlib: `$` would start a formula, a leading `_` would hide it in the legend."""
    shown = printable(text).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def draw_free_response(axes: Axes, curves: Sequence[Drawn]) -> None:
    """Recall over false objects per frame."""
    least = min((0.5 / max(each.curve.frames, 1) for each in curves), default=0.01)
    rates = [np.maximum(each.curve.false_per_frame, least) for each in curves]
    _recall_over(axes, curves, rates, least)
    axes.set(xlabel="false objects per frame", ylabel="recall (Pd)")


def draw_pd_fa(axes: Axes, curves: Sequence[Drawn]) -> None:
    """Pd over Fa."""
    least = min((0.5 / max(each.curve.pixels, 1) for each in curves), default=1e-7)
    rates = [np.maximum(each.curve.fa, least) for each in curves]
    _recall_over(axes, curves, rates, least)
    pixels = all(each.curve.fa_unit == "pixels" for each in curves)
    unit = "pixels of false objects" if pixels else "false objects"
    axes.set(xlabel=f"Fa: {unit} per pixel", ylabel="Pd")


def draw_precision_recall(axes: Axes, curves: Sequence[Drawn]) -> None:
    """Precision over recall of objects."""
    for each, colour in zip(curves, _colours(len(curves)), strict=True):
        curve = each.curve
        _line(axes, curve.recall, curve.precision, colour, each.name)
        _dot(axes, curve.recall, curve.precision, _row(curve, each.threshold), colour)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02))
    _finish(axes, len(curves))


DRAWINGS: dict[str, Callable[[Axes, Sequence[Drawn]], None]] = {
    "free-response": draw_free_response,
    "precision-recall": draw_precision_recall,
    "pd-fa": draw_pd_fa,
}


def _recall_over(axes: Axes, curves: Sequence[Drawn], rates: Sequence[Any], least: float) -> None:
    for each, rate, colour in zip(curves, rates, _colours(len(curves)), strict=True):
        _step(axes, rate, each.curve.recall, colour, each.name)
        _dot(axes, rate, each.curve.recall, _row(each.curve, each.threshold), colour)
    _decades(axes, least)
    _finish(axes, len(curves))


def free_response(curves: Sequence[Drawn]) -> str:
    """Recall over false objects per frame; dots show the thresholds that the numbers are for."""
    label = "Free response: recall over false objects per frame"
    return _svg(lambda axes: draw_free_response(axes, curves), label)


def pd_fa(curves: Sequence[Drawn]) -> str:
    """Pd over Fa; dots show the thresholds that the numbers are for."""
    return _svg(lambda axes: draw_pd_fa(axes, curves), "Pd over Fa")


def precision_recall(curves: Sequence[Drawn]) -> str:
    """Precision over recall of objects; dots show the thresholds that the numbers are for."""
    return _svg(lambda axes: draw_precision_recall(axes, curves), "Precision over recall of objects")


def reliability(curves: Sequence[tuple[str, Curve]]) -> str:
    """Fraction of targets by tenths of the score; the area of a dot is the number of objects."""

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color="#8a929c", linewidth=1, linestyle="--")
        for (name, curve), colour in zip(curves, _colours(len(curves)), strict=True):
            score, right, count = curve.reliability()
            axes.plot(score, right, color=colour, label=name, linewidth=1.7)
            axes.scatter(score, right, s=8 + 12 * np.log10(np.maximum(count, 1)), color=colour)
        axes.set(xlabel="score", ylabel="fraction of objects that are targets", xlim=(0, 1.02))
        _finish(axes, 0)
        if len(curves) > 1:
            axes.legend(loc="upper left")

    return _svg(draw, "Reliability of the scores")


def pixel_curves(curves: Sequence[tuple[str, PixelCurve]]) -> str:
    """Precision over recall of pixels, all thresholds."""

    def draw(axes: Axes) -> None:
        for (name, curve), colour in zip(curves, _colours(len(curves)), strict=True):
            label = f"{name}, area {three_digits(curve.pr_area)}"
            _line(axes, curve.recall, curve.precision, colour, label)
        axes.set(xlabel="recall of pixels", ylabel="precision of pixels", xlim=(0, 1.02))
        _finish(axes, 2)

    return _svg(draw, "Precision over recall of pixels")


def roc(curves: Sequence[tuple[str, PixelCurve]]) -> str:
    """Recall over the false-positive rate of pixels, which is on a logarithmic axis."""

    def draw(axes: Axes) -> None:
        least = min((0.5 / max(curve.pixels, 1) for _, curve in curves), default=1e-7)
        for (name, curve), colour in zip(curves, _colours(len(curves)), strict=True):
            label = f"{name}, area {three_digits(curve.roc_area)}"
            _line(axes, np.maximum(curve.fpr, least), curve.recall, colour, label)
        _decades(axes, least)
        axes.set(xlabel="false-positive rate of pixels", ylabel="recall of pixels")
        _finish(axes, 2)

    return _svg(draw, "ROC of pixels")


def bars(rows: Sequence[BreakdownRow], title: str) -> str:
    """Pd by class of target; each bar shows the numbers of found and of all targets."""
    shown = [row for row in rows if row.targets]

    def draw(axes: Axes) -> None:
        places = np.arange(len(shown))
        axes.barh(places, [1.0] * len(shown), color="#eef1f4", height=0.62)
        axes.barh(places, [row.pd for row in shown], color=COLOURS[0], height=0.62)
        for place, row in enumerate(shown):
            axes.text(1.02, place, f"{row.found} of {row.targets}", va="center", color="#333a44")
        axes.set_yticks(places, [literal(row.label) for row in shown])
        axes.invert_yaxis()
        axes.set(xlim=(0, 1), xlabel="found (Pd)")
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)

    return _svg(draw, f"Found targets by {title}", height=0.75 + 0.32 * max(len(shown), 1))


def _svg(draw: Any, label: str, height: float = 3.1) -> str:
    """A figure drawn by `draw(axes)` as an <svg> element; `label` is its text for screen readers."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=(4.9, height), layout="constrained")
        draw(figure.add_subplot())
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    return _inline(text.getvalue(), label)


def _inline(svg: str, label: str) -> str:
    """The <svg> element alone, with unique ids and without links to schemas."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    prefix = re.sub(r"\W+", "-", label.lower())
    body = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', body)
    body = re.sub(r"url\(#", f"url(#{prefix}-", body)
    body = re.sub(r'xlink:href="#', f'href="#{prefix}-', body)
    body = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", body)
    return body.replace("<svg", f'<svg role="img" aria-label="{html.escape(label)}"', 1)


def _step(axes: Axes, x: Any, y: Any, colour: str, label: str) -> None:
    keep = _thin(len(x))
    axes.plot(x[keep], y[keep], color=colour, label=label, linewidth=1.7, drawstyle="steps-post")


def _line(axes: Axes, x: Any, y: Any, colour: str, label: str) -> None:
    keep = _thin(len(x))
    axes.plot(x[keep], y[keep], color=colour, label=label, linewidth=1.7)


def _thin(count: int) -> Any:
    return np.unique(np.linspace(0, count - 1, min(count, _MOST_POINTS)).astype(np.int64))


def _dot(axes: Axes, x: Any, y: Any, row: int | None, colour: str) -> None:
    if row is not None:
        axes.plot([x[row]], [y[row]], "o", color=colour, markersize=7, markeredgecolor="white", clip_on=False)


def _row(curve: Curve, threshold: float | None) -> int | None:
    """The row of a curve that contains a threshold; the last if it is below all, None without one."""
    if threshold is None:
        return len(curve.low) - 1
    inside = np.flatnonzero(curve.low <= threshold)
    return int(inside[0]) if len(inside) else len(curve.low) - 1


def _decades(axes: Axes, least: float) -> None:
    """A logarithmic axis over whole decades, whose left end is zero."""
    most = axes.get_xlim()[1]
    axes.set_xscale("log")
    axes.set_xlim(least * 0.8, 10 ** np.ceil(np.log10(max(most, 10 * least))))


def _finish(axes: Axes, curves: int) -> None:
    axes.set_ylim(0, 1.02)
    if curves > 1:
        axes.legend(loc="lower right" if axes.get_xscale() == "log" else "lower left")


def _colours(count: int) -> list[str]:
    return [COLOURS[index % len(COLOURS)] for index in range(count)]
