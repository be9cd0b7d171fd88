"""Which tracks of a frame raise an alarm by the rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from datetime import datetime

from dimpoint.live.rules import XY, AlarmRule, Rules


@dataclass(frozen=True)
class Sight:
    """What a rule looks at: a confirmed track at this moment, lengths in pixels, times in seconds."""

    track: int
    x: float
    y: float
    speed: float
    score: float
    duration: float


class Judge:
    """Applies the rules to tracks; each rule raises one alarm for a track."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._raised: set[tuple[int, int]] = set()
        self._quiet: dict[int, float] = {}
        self._zones: dict[tuple[int, int], Mapping[str, list[XY]]] = {}

    def alarms(
        self,
        seen: list[Sight],
        now: float,
        size: tuple[int, int],
        waiting: Set[int] = frozenset(),
        rests: Callable[[int], bool] = lambda _: False,
    ) -> Iterator[tuple[AlarmRule, Sight]]:
        """The alarms of a frame.

        Parameters
        ----------
        seen : list of Sight
            The confirmed tracks of the frame.
        now : float
            Seconds since 1970.
        size : (int, int)
            Width and height of the frame, pixels.
        waiting : set of int
            Ids of tracks that are not seen now and may be seen again.
        rests : callable, optional
            Whether the track with this id is a resting spot; asked before its alarm is raised. Default: none
            is.

        Yields
        ------
        (AlarmRule, Sight)
            Each rule with the track that raises its alarm.
        """
        going = {one.track for one in seen} | waiting
        self._raised = {pair for pair in self._raised if pair[1] in going}
        moment = datetime.fromtimestamp(now).time()
        zones = self.zones(size)
        for number, rule in enumerate(self.rules.alarms):
            if not rule.at_work(moment):
                continue
            for one in seen:
                if (number, one.track) in self._raised or not _fits(rule, one, zones):
                    continue
                if 0 < self._quiet.get(number, now) - now <= rule.pause:  # more: the clock was set back
                    continue
                if rests(one.track):
                    continue
                self._raised.add((number, one.track))
                self._quiet[number] = now + rule.pause
                yield rule, one

    def zones(self, size: tuple[int, int]) -> Mapping[str, list[XY]]:
        """The zones in pixels of frames of a size."""
        drawn = self.rules.size or size
        if size not in self._zones:
            self._zones.clear()
            across, down = size[0] / drawn[0], size[1] / drawn[1]
            self._zones[size] = {
                name: [((x + 0.5) * across - 0.5, (y + 0.5) * down - 0.5) for x, y in corners]
                for name, corners in self.rules.zones.items()
            }
        return self._zones[size]

    def remarks(self, size: tuple[int, int]) -> list[str]:
        """What is odd about the zones for frames of a size."""
        drawn = self.rules.size
        words = []
        if drawn is not None and drawn != size:
            words.append(
                f"the zones are drawn on {drawn[0]}x{drawn[1]}, frames are {size[0]}x{size[1]}: scaled"
            )
        for name, corners in self.zones(size).items():
            xs, ys = [x for x, _ in corners], [y for _, y in corners]
            if max(xs) < 0 or max(ys) < 0 or min(xs) > size[0] - 1 or min(ys) > size[1] - 1:
                words.append(f"the zone '{name}' lies outside of frames of {size[0]}x{size[1]}")
        return words


def inside(x: float, y: float, corners: list[XY]) -> bool:
    """Whether a point lies in a polygon (even-odd rule).

    Parameters
    ----------
    x, y : float
        Pixels.
    corners : list of (float, float)
        Of the polygon, at least one.

    Returns
    -------
    bool
        Whether it lies inside.
    """
    found = False
    before = corners[-1]
    for corner in corners:
        (s, t), (u, v) = before, corner
        if (t > y) != (v > y) and x < (u - s) * (y - t) / (v - t) + s:
            found = not found
        before = corner
    return found


def _fits(rule: AlarmRule, one: Sight, zones: Mapping[str, list[XY]]) -> bool:
    if one.duration < rule.min_duration or one.score < rule.min_score or one.speed < rule.min_speed:
        return False
    if rule.max_speed is not None and one.speed > rule.max_speed:
        return False
    if rule.watch and not any(inside(one.x, one.y, zones[name]) for name in rule.watch):
        return False
    return not any(inside(one.x, one.y, zones[name]) for name in rule.ignore)
