"""`Track` and its points."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from dimpoint.tracking.memory import Places

State = Literal["tentative", "confirmed", "static"]


@dataclass(frozen=True)
class Point:
    """One frame of a track: position and velocity in pixels and pixels a second, relative to the scene.

    measured: whether a candidate was there; score is that candidate's, 0 where none was.
    """

    frame: int
    time: float
    x: float
    y: float
    vx: float
    vy: float
    score: float
    measured: bool


@dataclass(eq=False)
class Track:
    """A target over time. id: from 1, in order of confirmation; 0 while tentative."""

    id: int = 0
    state: State = "tentative"
    points: list[Point] = field(default_factory=list)
    evidence: float = 0.0
    hits: int = 0
    confirmed_at: float | None = None
    reason: str | None = None
    ended: bool = False
    places: Places = field(default_factory=Places)
    last_measured: float = 0.0
    waited: float = 0.0  # seconds of frozen frames since the last measurement

    @property
    def measured_points(self) -> list[Point]:
        """The points where a candidate was."""
        return [point for point in self.points if point.measured]

    def trimmed(self) -> list[Point]:
        """The points up to the last measured one: what lies behind it is a guess that nothing confirmed."""
        last = max((at for at, point in enumerate(self.points) if point.measured), default=-1)
        return self.points[: last + 1]


def bridged(old: list[Point], new: list[Point]) -> list[Point]:
    """Two parts of a track in one; the frames between them are no points, for nothing was seen there."""
    return [*old, *(point for point in new if point.frame > old[-1].frame)]
