"""`Track`, its points, and the settings of a tracker."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from dimpoint.errors import ConfigError
from dimpoint.tracking.memory import Places

State = Literal["tentative", "confirmed", "static"]


@dataclass(frozen=True)
class TrackerSettings:
    """Settings of a `Tracker`; lengths in pixels, times in seconds.

    Parameters
    ----------
    noise : float
        Standard deviation of a candidate's position.
    acceleration : float
        Root of the spectral density of a target's acceleration, pixels / s^1.5.
    speed : float
        Standard deviation of the unknown velocity of a new track, pixels a second.
    gate : float
        Largest squared Mahalanobis distance of a candidate from a track.
    confirm : float
        Log-likelihood ratio at which a track is confirmed.
    least_hits : int
        Measurements that a confirmed track has at least.
    score_zero, score_slope : float
        A candidate of score s adds score_slope * (s - score_zero) to the ratio.
    miss : float
        What a frame without a candidate takes from the ratio.
    best_gain : float
        The most that one frame adds to the ratio.
    coast : float
        Seconds that a confirmed track goes on without a candidate.
    rejoin : float
        Seconds after its end in which a track may be continued under its id.
    most_candidates : int
        Candidates of a frame that are looked at, best first.

    Raises
    ------
    ConfigError
        For a value that must be above 0 and is not.
    """

    noise: float = 0.8
    acceleration: float = 60.0
    speed: float = 90.0
    gate: float = 13.8
    confirm: float = 9.0
    least_hits: int = 5
    score_zero: float = 0.6
    score_slope: float = 4.0
    miss: float = 1.0
    best_gain: float = 2.5
    coast: float = 0.6
    rejoin: float = 2.0
    most_candidates: int = 300

    def __post_init__(self) -> None:
        for name in ("noise", "acceleration", "speed", "gate", "coast"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"tracker: {name} must be above 0, got {getattr(self, name)}")
        if self.least_hits < 1 or self.most_candidates < 1:
            raise ConfigError("tracker: least_hits and most_candidates must be at least 1")


@dataclass(frozen=True)
class Point:
    """One frame of a track.

    Attributes
    ----------
    frame : int
        Number of the frame.
    time : float
        Seconds.
    x, y : float
        Position, pixels of that frame.
    vx, vy : float
        Velocity relative to the scene, pixels a second.
    score : float
        Of the candidate, 0..1; 0 where there was none.
    measured : bool
        Whether there was a candidate; without one the position is a prediction.
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
    """A target over time.

    Attributes
    ----------
    id : int
        From 1, in order of confirmation; 0 while tentative (`Run.result` numbers those after the others).
    state : {"tentative", "confirmed", "static"}
        A static track is a spot that rests; `reason` says why.
    points : list of Point
        One for each frame.
    evidence : float
        Log-likelihood ratio of target against clutter.
    hits : int
        Number of measurements.
    confirmed_at : float or None
        Time of confirmation, seconds.
    ended : bool
        Whether the track has ended.
    """

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
