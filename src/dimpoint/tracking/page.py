"""One HTML page about tracks, with pictures inside: a time line, a table, the picture of all tracks."""

from __future__ import annotations

import base64
import math
from html import escape
from pathlib import Path

import cv2

from dimpoint.atomic import write_text
from dimpoint.text import counted
from dimpoint.tracking.picture import Picture, colour_of
from dimpoint.tracking.result import Tracks
from dimpoint.tracking.track import Track

_WIDTH = 1050  # of the time line, pixels
_ROW = 22
_LEFT = 40
_MOST_ROWS = 500
_TICKS = 8  # at most, on the time line
_STYLE = """body{font:15px/1.5 system-ui,-apple-system,"Segoe UI","Helvetica Neue",Arial,sans-serif;
max-width:1120px;margin:0 auto;padding:32px 32px 60px;color:#1c232b}
h1{font-size:27px;line-height:1.2;margin:0 0 6px;overflow-wrap:anywhere}
h2{font-size:19px;margin:34px 0 10px;padding-top:14px;border-top:1px solid #dfe3e8}
p{margin:0 0 8px}img{max-width:100%;display:block;background:#000;border-radius:4px;margin-bottom:8px}
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
td,th{padding:4px 14px;text-align:right;border-bottom:1px solid #dfe3e8;font-weight:400;white-space:nowrap}
td:first-child,th:first-child{padding-left:0}th{color:#5b6570;font-size:13px;vertical-align:bottom}
.text{text-align:left}td.text:last-child{white-space:normal}i{display:inline-block;width:12px;height:12px;border-radius:2px;margin-right:7px}
tr:target{background:#fff0b3}svg{max-width:100%;height:auto}.note{color:#5b6570;font-size:13px;overflow-wrap:anywhere}"""


def write_page(path: Path, tracks: Tracks, picture: Picture, *, seconds: float) -> None:
    """Write the page; picture: of all tracks, BGR. seconds: time of the last frame.

    The time line begins with the first frame, whose time in a recorded stream need not be 0.
    """
    first = 0.0 if tracks.span is None else tracks.span[0][1]
    shown = [one for one in tracks if one.state != "tentative"][:_MOST_ROWS]
    counts = f"{_count(tracks, 'confirmed', 'confirmed track')} and {_count(tracks, 'static', 'static spot')}"
    name = Path(tracks.source).name if ", " not in tracks.source else tracks.source
    whole = "" if name == tracks.source else f'<p class="note">{escape(tracks.source)}</p>'
    encoded = base64.b64encode(cv2.imencode(".png", picture)[1].tobytes()).decode("ascii")
    begin = tracks.clock(first)
    when = f", from {begin}" if begin else ""
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in tracks.notes)
    write_text(
        path,
        f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>
Tracks of {escape(name)}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head><body>
<h1>Tracks of {escape(name)}</h1>{whole}
<p>{counts} in {counted(tracks.frames, "frame")}, {seconds - first:.1f} s{escape(when)};
model {escape(tracks.model) or "not named"}.</p>{notes}
{_tracks_of(tracks, shown, (first, seconds), encoded)}</body></html>
""",
    )


def _tracks_of(tracks: Tracks, shown: list[Track], ends: tuple[float, float], encoded: str) -> str:
    """The time line, the picture and the table; of a clip without tracks its last frame."""
    image = f'<img alt="all tracks on the last frame" src="data:image/png;base64,{encoded}">'
    if not shown:
        return f"<p>No target could be followed, and no spot rests.</p><h2>Last frame</h2>{image}"
    return f"""<h2>Time line</h2>{_time_line(shown, *ends)}
<p class="note">A bar leads to its track in the table. Grey: static spots.</p>
<h2>All tracks</h2>{image}
<p class="note">On the last frame, at the places where they were measured. Grey: static spots.</p>
<h2>Table</h2><div class="wide">{_table(tracks, shown)}</div>"""


def _count(tracks: Tracks, state: str, words: str) -> str:
    number = len(tracks.of(state))
    return f"{number} {words}{'' if number == 1 else 's'}"


def _css(one: Track) -> str:
    blue, green, red = colour_of(one)
    return f"rgb({red * 4 // 5},{green * 4 // 5},{blue * 4 // 5})"


def _time_line(shown: list[Track], first: float, last: float) -> str:
    span = max(last - first, 1e-9)
    scale = (_WIDTH - _LEFT - 20) / span
    bottom = _ROW * len(shown) + 8
    parts = []
    for row, one in enumerate(shown):
        y = row * _ROW + 4
        points = one.trimmed()
        begin, end = points[0].time, points[-1].time
        x, width = _LEFT + (begin - first) * scale, max((end - begin) * scale, 2)
        words = f"track {one.id}, {one.state}, {begin:.2f} to {end:.2f} s"
        parts.append(
            f'<a href="#track-{one.id}"><title>{words}</title>'
            f'<text x="{_LEFT - 8}" y="{y + 12}" text-anchor="end">{one.id}</text><rect x="{x:.1f}" y="{y}" '
            f'width="{width:.1f}" height="{_ROW - 8}" rx="2" fill="{_css(one)}"/></a>'
        )
    marks = []
    step = _step(span)
    least = math.ceil(first / step)
    for number in range(least, int((first + span) / step) + 1):
        x, shown_time = _LEFT + (number * step - first) * scale, f"{number * step:.10g}"
        marks.append(f'<path d="M{x:.1f} 0V{bottom}" stroke="#dfe3e8"/>')
        unit = " s" if number == least else ""
        marks.append(f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{shown_time}{unit}</text>')
    size = f'viewBox="0 0 {_WIDTH} {bottom + 20}" width="{_WIDTH}" height="{bottom + 20}"'
    font = 'font-size="12" font-family="system-ui,sans-serif" fill="#5b6570"'
    return f"<svg {size} {font}>{''.join(marks)}{''.join(parts)}</svg>"


def _step(span: float) -> float:
    """A round step, seconds, that gives the time line at most as many marks as it has room for."""
    power = 10.0 ** math.floor(math.log10(span / _TICKS))
    return next(power * part for part in (1, 2, 5, 10) if power * part * _TICKS >= span)


def _table(tracks: Tracks, shown: list[Track]) -> str:
    """Columns that would be empty, of the clock and of reasons, are left out."""
    clock, reasons = tracks.start is not None, any(one.reason for one in shown)
    head = ["id", "state", "from, s", "to, s", "measured", "mean score", "mean speed, px/s"]
    head += ["clock"] * clock + ["why static"] * reasons
    rows = []
    for one in shown:
        points, seen = one.trimmed(), one.measured_points
        score = sum(point.score for point in seen) / max(len(seen), 1)
        speed = sum((point.vx**2 + point.vy**2) ** 0.5 for point in points) / len(points)
        cells = [str(one.id), one.state, f"{points[0].time:.2f}", f"{points[-1].time:.2f}"]
        cells += [f"{len(seen)} of {len(points)}", f"{score:.2f}", f"{speed:.1f}"]
        cells += [tracks.clock(points[0].time)] * clock + [one.reason or ""] * reasons
        swatch = f'<i style="background:{_css(one)}"></i>'
        parts = [f"<td>{swatch}{cells[0]}</td>"]
        parts += [_cell("td", title, cell) for title, cell in zip(head[1:], cells[1:], strict=True)]
        rows.append(f'<tr id="track-{one.id}">{"".join(parts)}</tr>')
    titles = "".join(_cell("th", title, title) for title in head)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _cell(tag: str, title: str, text: str) -> str:
    kind = ' class="text"' if title in ("state", "clock", "why static") else ""
    return f"<{tag}{kind}>{escape(text)}</{tag}>"
