"""One HTML page about tracks, with pictures inside: a time line, a table, the picture of all tracks."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path

import cv2

from dimpoint.atomic import write_text
from dimpoint.tracking.picture import Picture, colour_of
from dimpoint.tracking.result import Tracks
from dimpoint.tracking.tracker import Track

_WIDTH = 900  # of the time line, pixels
_ROW = 22
_LEFT = 90
_MOST_ROWS = 500
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;
color:#222}
img{max-width:100%;background:#000}table{border-collapse:collapse}td,th{padding:.2rem .8rem;text-align:right;
border-bottom:1px solid #ddd}svg{max-width:100%;height:auto}.note{color:#666}"""


def write_page(path: Path, tracks: Tracks, picture: Picture, *, seconds: float) -> None:
    """Write the page; picture: of all tracks, BGR. seconds: time of the last frame."""
    shown = [one for one in tracks if one.state != "tentative"][:_MOST_ROWS]
    confirmed, static = len(tracks.of("confirmed")), len(tracks.of("static"))
    encoded = base64.b64encode(cv2.imencode(".png", picture)[1].tobytes()).decode("ascii")
    begin = tracks.clock(0.0)
    when = f", from {begin}" if begin else ""
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in tracks.notes)
    write_text(
        path,
        f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>
Tracks of {escape(tracks.source)}</title>
<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>
<h1>Tracks of {escape(tracks.source)}</h1>
<p>{confirmed} confirmed tracks and {static} static spots in {tracks.frames} frames,
{seconds:.1f} s{escape(when)};
model {escape(tracks.model) or "not named"}.</p>{notes}
<h2>Time line</h2>{_time_line(shown, seconds)}
<h2>All tracks</h2><img alt="all tracks on one frame" src="data:image/png;base64,{encoded}">
<p class="note">Positions in the pixels of the frames where they were measured. Grey: static spots.</p>
<h2>Table</h2>{_table(tracks, shown)}</body></html>
""",
    )


def _css(one: Track) -> str:
    blue, green, red = colour_of(one)
    return f"rgb({red * 4 // 5},{green * 4 // 5},{blue * 4 // 5})"


def _time_line(shown: list[Track], seconds: float) -> str:
    span = max(seconds, 1e-9)
    scale = (_WIDTH - _LEFT - 10) / span
    bottom = _ROW * len(shown) + 8
    parts = []
    for row, one in enumerate(shown):
        y = row * _ROW + 4
        points = one.trimmed()
        begin, end = points[0].time, points[-1].time
        x, width = _LEFT + begin * scale, max((end - begin) * scale, 2)
        words = f"track {one.id}, {one.state}, {begin:.2f} to {end:.2f} s"
        parts.append(
            f'<text x="{_LEFT - 8}" y="{y + 12}" text-anchor="end">{one.id}</text><rect x="{x:.1f}" y="{y}" '
            f'width="{width:.1f}" height="{_ROW - 8}" rx="2" fill="{_css(one)}"><title>{words}</title></rect>'
        )
    for step in range(11):
        x = _LEFT + step * span / 10 * scale
        parts.append(
            f'<text x="{x:.1f}" y="{bottom + 14}" text-anchor="middle">{step * span / 10:.1f}</text>'
        )
    parts.append(f'<text x="{_LEFT - 8}" y="{bottom + 14}" text-anchor="end">seconds</text>')
    size = f'viewBox="0 0 {_WIDTH} {bottom + 20}" width="{_WIDTH}" height="{bottom + 20}"'
    return f'<svg {size} font-size="12" font-family="sans-serif">{"".join(parts)}</svg>'


def _table(tracks: Tracks, shown: list[Track]) -> str:
    head = (
        "id",
        "state",
        "from, s",
        "to, s",
        "clock",
        "points measured",
        "mean score",
        "mean speed, px/s",
        "why static",
    )
    rows = []
    for one in shown:
        points, seen = one.trimmed(), one.measured_points
        score = sum(point.score for point in seen) / max(len(seen), 1)
        speed = sum((point.vx**2 + point.vy**2) ** 0.5 for point in points) / len(points)
        ends = (f"{points[0].time:.2f}", f"{points[-1].time:.2f}", tracks.clock(points[0].time))
        cells = (one.id, one.state, *ends, f"{len(seen)} of {len(points)}", f"{score:.2f}", f"{speed:.1f}")
        rows.append("".join(f"<td>{escape(str(cell))}</td>" for cell in (*cells, one.reason or "")))
    titles = "".join(f"<th>{title}</th>" for title in head)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table><tr>{titles}</tr>{body}</table>"
