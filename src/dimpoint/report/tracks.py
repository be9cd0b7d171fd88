"""The report of tracks: headline numbers, all numbers, and a row for each clip."""

from __future__ import annotations

from html import escape
from pathlib import Path

from dimpoint.atomic import write_text
from dimpoint.tracking.evaluation import COUNTS, NUMBERS, TrackEvaluation, text

_TILES = ("track_pd", "covered", "false_tracks_per_hour", "confirmed_1_s", "hota")
_COLUMNS = ("objects", "truth_points", "tracks", "false_tracks", "switches", "fragmentations")
_RATIOS = ("covered", "mota", "idf1", "hota", "gospa")


def write_track_report(folder: Path, evaluation: TrackEvaluation) -> Path:
    """Write a page about tracks, `index.html` in `folder`, and return its path."""
    style = (Path(__file__).parent / "report.css").read_text("utf-8")
    path = folder / "index.html"
    write_text(
        path,
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Tracks: evaluation</title><style>{style}</style></head><body><main>"
        f"<h1>Evaluation of tracks</h1>{track_section(evaluation, heading=False)}</main></body></html>\n",
    )
    return path


def track_section(evaluation: TrackEvaluation, *, heading: bool = True) -> str:
    """HTML of the section about tracks, with or without a heading."""
    counts = evaluation.counts
    clips = "1 clip" if counts["clips"] == 1 else f"{counts['clips']:.0f} clips"
    summary = (
        f"{clips}, {counts['seconds']:.1f} s, {counts['objects']:.0f} labelled objects, "
        f"{counts['tracks']:.0f} confirmed tracks; a track's point matches within {evaluation.distance:g} px "
        "of a labelled point or box."
    )
    below = "In brackets, and below each number: its 95&nbsp;% bootstrap interval over clips."
    notes = "".join(f'<p class="small soft">Note: {escape(note)}</p>' for note in evaluation.notes)
    return (
        f"{'<h2>Tracks</h2>' if heading else ''}<p class='soft'>{summary}</p>"
        f'<div class="tiles">{"".join(_tile(evaluation, key) for key in _TILES)}</div>'
        f'<p class="small soft">{below if counts["clips"] > 1 else ""}</p>'
        f'<div class="tables">{_all(evaluation)}{_clips(evaluation)}</div>{notes}'
    )


def _tile(evaluation: TrackEvaluation, key: str) -> str:
    number = next(one for one in NUMBERS if one.key == key)
    value, _, between = text(evaluation.numbers[key], number.form).partition(" ")
    shown = between.strip("[]").replace(", ", " to ") or "&nbsp;"
    return f'<div class="tile"><span>{number.label}</span><b>{value}</b><span>{shown}</span></div>'


def _all(evaluation: TrackEvaluation) -> str:
    rows = "".join(f"<tr><td>{label}</td><td>{value}</td></tr>" for label, value in evaluation.rows())
    caption = "<caption>All clips</caption>"
    return f'<div class="wide"><table class="numbers">{caption}<tbody>{rows}</tbody></table></div>'


def _clips(evaluation: TrackEvaluation) -> str:
    if len(evaluation.clips) < 2:
        return ""
    forms = {one.key: one for one in NUMBERS}
    titles = ["clip", *(COUNTS[key] for key in _COLUMNS), *(forms[key].label for key in _RATIOS)]
    head = "".join(f"<th>{title}</th>" for title in titles)
    body = ""
    for clip in evaluation.clips:
        cells = [escape(clip.name), *(f"{float(clip.counts[key]):g}" for key in _COLUMNS)]
        cells += [text(clip.number(forms[key]), forms[key].form) for key in _RATIOS]
        body += f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
    return (
        '<div class="wide"><table class="numbers"><caption>Each clip</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
