"""`Tracker`: detections of one frame after another -> tracks.

For each frame: the states are carried by the camera's motion and predicted; candidates within the gate are
assigned to confirmed tracks, then to tentative ones (least total Mahalanobis distance, `scipy.optimize`);
each track's log-likelihood ratio grows with each candidate by its score and its fit, and falls with each miss
(Blackman, Popoli, Design and Analysis of Modern Tracking Systems, 6.2). docs/tracking.md has the values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from dimpoint.errors import DataError
from dimpoint.inference.detections import Detections
from dimpoint.tracking import kalman
from dimpoint.tracking.memory import LEFT, CameraMemory
from dimpoint.tracking.motion import Matrix, Motion, apply, compose, inverse
from dimpoint.tracking.track import Point, Track, TrackerSettings, bridged

_REJOIN_REACH = 4.0  # pixels from where a lost track would be
_REJOIN_TURN = 12.0  # pixels more for each second of the gap
_ECHO = 4.0  # pixels around a confirmed track in which its second peaks begin no track
_LONGEST_WAIT = 5.0  # seconds of frozen frames after which tracks end

Flags = npt.NDArray[np.bool_]


class Tracker:
    """Joins the detections of one frame after another, of a `Detector` or of anything else.

    Parameters
    ----------
    settings : TrackerSettings, optional
        Default: those of `dimpoint track`.
    memory : CameraMemory, optional
        Resting spots of the camera; left out, a new one learns from this sequence.
    history : int
        For endless streams: how many of a track's latest points are kept beside its first one (up to twice as
        many for a while). Default: 0, all. Call `release` there, too.

    Attributes
    ----------
    finished : list of Track
        Confirmed and static tracks that have ended.
    passed_over : int
        Candidates beyond `most_candidates` of a frame, which were not looked at.
    """

    def __init__(
        self, settings: TrackerSettings | None = None, memory: CameraMemory | None = None, history: int = 0
    ) -> None:
        self.settings = settings or TrackerSettings()
        self.memory = memory or CameraMemory()
        self.history = history
        self.finished: list[Track] = []  # confirmed or static tracks that have ended
        self.passed_over = 0  # candidates beyond `most_candidates`
        self._active: list[Track] = []
        self._lost: list[tuple[Track, Matrix, float]] = []  # ended tracks, state in today's pixels, when
        self._mean = np.zeros((0, 4))
        self._covariance = np.zeros((0, 4, 4))
        self._pose = np.eye(2, 3)
        self._time: float | None = None
        self._frame = -1
        self._count = 0

    def update(
        self,
        detections: Detections,
        time: float,
        *,
        motion: Motion | None = None,
        frame: int | None = None,
        light: Matrix | None = None,
    ) -> list[Track]:
        """Take in the candidates of the next frame.

        Parameters
        ----------
        detections : Detections
            Positions in pixels and scores in 0..1.
        time : float
            Seconds, later than the frame before.
        motion : Motion, optional
            Of the camera since the frame before. Default: it stood still.
        frame : int, optional
            Number of the frame. Default: one more than that of the frame before.
        light : (N, 2) array, optional
            Brightness of the detections as `dimpoint.tracking.memory.brightness` gives it. Left out, a spot
            that rests is static even if it flickers.

        Returns
        -------
        list of Track
            The confirmed and static tracks that go on, by id.

        Raises
        ------
        DataError
            For a time that is not later than that of the frame before.
        """
        if not math.isfinite(time) or (self._time is not None and time <= self._time):
            raise DataError(
                f"tracker: time {time} does not follow {self._time}; frames come in order of time"
            )
        dt = 0.0 if self._time is None else time - self._time
        self._time = time
        self._frame = self._frame + 1 if frame is None else frame
        how = "still" if motion is None else motion.how
        if how == "cut":
            self._end_all()
        elif motion is not None:
            self._carry(motion)
        self._predict(dt, unknown=how == "unknown")
        if how in ("frozen", "blank"):
            self._wait(dt, time)
            return self.tracks
        xy, scores, light = self._candidates(detections, light)
        scene = apply(inverse(self._pose), xy)
        looked = 0.0 if how == "cut" else dt  # nobody looked during the gap that a cut may stand for
        self.memory.observe(time, looked, xy, scene, float(np.abs(self._pose - np.eye(2, 3))[:, 2].max()))
        taken = self._assign(xy, scores, scene, light, time)
        self._judge(time)
        self._begin(xy[~taken], scores[~taken], scene[~taken], light[~taken], time)
        return self.tracks

    @property
    def tracks(self) -> list[Track]:
        """The confirmed and static tracks that go on, by id."""
        return sorted((one for one in self._active if one.state != "tentative"), key=lambda one: one.id)

    @property
    def tentative(self) -> list[Track]:
        """The tracks that are not confirmed yet."""
        return [one for one in self._active if one.state == "tentative"]

    def all_tracks(self) -> list[Track]:
        """Confirmed and static tracks, ended ones too, by id, then those that are still tentative."""
        known = [one for one in self.finished if one not in self._active] + self.tracks
        return sorted(known, key=lambda one: one.id) + self.tentative

    def release(self) -> list[Track]:
        """The ended tracks that no later one can continue; the tracker forgets them."""
        waiting = {id(one) for one, _, _ in self._lost}
        gone = [one for one in self.finished if id(one) not in waiting]
        self.finished = [one for one in self.finished if id(one) in waiting]
        return gone

    def _candidates(self, detections: Detections, light: Matrix | None) -> tuple[Matrix, Matrix, Matrix]:
        most = self.settings.most_candidates
        best = np.argsort(-detections.scores, kind="stable")
        self.passed_over += max(0, len(best) - most)
        best = best[:most]
        known = np.full((len(best), 2), np.nan) if light is None else light[best]
        return detections.xy[best].astype(np.float64), detections.scores[best].astype(np.float64), known

    def _carry(self, motion: Motion) -> None:
        if not np.array_equal(motion.matrix, np.eye(2, 3)):
            self._mean, self._covariance = kalman.carry(self._mean, self._covariance, motion.matrix)
            self._pose = compose(self._pose, motion.matrix)
            none = np.zeros((1, 4, 4))
            self._lost = [
                (one, kalman.carry(mean[None], none, motion.matrix)[0][0], ended)
                for one, mean, ended in self._lost
            ]

    def _predict(self, dt: float, *, unknown: bool) -> None:
        if not self._active:
            return
        self._mean, self._covariance = kalman.predict(
            self._mean, self._covariance, dt, self.settings.acceleration
        )
        if unknown:
            self._covariance[:, [0, 1], [0, 1]] += 1.0  # the camera may have moved by a pixel

    def _assign(self, xy: Matrix, scores: Matrix, scene: Matrix, light: Matrix, time: float) -> Flags:
        taken = np.zeros(len(xy), np.bool_)
        if not self._active or not len(xy):
            self._miss(range(len(self._active)), time)
            return taken
        squared, spread = kalman.innovation(self._mean, self._covariance, xy, self.settings.noise)
        cost = squared + spread[:, None] - 2 * self.settings.score_slope * scores[None]
        cost[squared > self.settings.gate] = np.inf
        firm = np.array([one.state != "tentative" for one in self._active])
        pairs: list[tuple[int, int]] = []
        for group in (np.flatnonzero(firm), np.flatnonzero(~firm)):
            free = np.flatnonzero(~taken)
            for row, column in _least_cost(cost[np.ix_(group, free)]):
                pairs.append((int(group[row]), int(free[column])))
                taken[free[column]] = True
        if pairs:
            at, to = (np.array(side) for side in zip(*pairs, strict=True))
            self._mean[at], self._covariance[at] = kalman.update(
                self._mean[at], self._covariance[at], xy[to], self.settings.noise
            )
        sensor, still, lit = xy.tolist(), scene.tolist(), light.tolist()  # plain numbers are fast one by one
        for track, one in pairs:
            gain = self._gain(float(squared[track, one]), float(spread[track]), float(scores[one]))
            self._active[track].places.add(time, sensor[one], still[one], lit[one])
            self._hit(track, float(scores[one]), gain, time)
        self._miss(sorted(set(range(len(self._active))).difference(track for track, _ in pairs)), time)
        near = self._echoes(xy, taken)
        return taken | near

    def _echoes(self, xy: Matrix, taken: Flags) -> Flags:
        """Candidates beside a confirmed track that has its own: second peaks of one target begin no track."""
        firm = [at for at, one in enumerate(self._active) if one.state != "tentative"]
        if not firm:
            return np.zeros(len(xy), np.bool_)
        offset = np.abs(xy[:, None] - self._mean[firm][None, :, :2]).max(axis=2)
        near: Flags = offset.min(axis=1) < _ECHO
        return near & ~taken

    def _gain(self, squared: float, spread: float, score: float) -> float:
        """What a candidate adds to the log-likelihood ratio: by its score and by its fit."""
        settings = self.settings
        fit = 1.0 - 0.5 * squared - 0.25 * max(spread - 2.0, 0.0)
        return min(settings.best_gain, settings.score_slope * (score - settings.score_zero) + fit)

    def _hit(self, at: int, score: float, gain: float, time: float) -> None:
        track = self._active[at]
        track.evidence = min(track.evidence + gain, 2 * self.settings.confirm)
        track.hits += 1
        track.last_measured, track.waited = time, 0.0
        self._add_point(at, time, score, measured=True)

    def _miss(self, indices: Iterable[int], time: float) -> None:
        for at in indices:
            self._active[at].evidence -= self.settings.miss
            self._add_point(at, time, 0.0, measured=False)

    def _wait(self, dt: float, time: float) -> None:
        """A frame that tells nothing: tracks coast, and nothing counts as missed."""
        for at, track in enumerate(self._active):
            track.waited += dt
            self._add_point(at, time, 0.0, measured=False)
        self._drop([time - one.last_measured > _LONGEST_WAIT for one in self._active])

    def _add_point(self, at: int, time: float, score: float, *, measured: bool) -> None:
        x, y, vx, vy = self._mean[at].tolist()
        points = self._active[at].points
        points.append(Point(self._frame, time, x, y, vx, vy, float(score), measured))
        if self.history and len(points) > 2 * self.history + 1:
            del points[1 : -self.history]

    def _judge(self, time: float) -> None:
        settings = self.settings
        drop = []
        self._lost = [one for one in self._lost if time - one[2] <= settings.rejoin]
        for at, track in enumerate(self._active):
            unseen = time - track.last_measured - track.waited
            if track.state == "tentative":
                if track.evidence >= settings.confirm and track.hits >= settings.least_hits and unseen == 0:
                    self._confirm(at, time)
                drop.append(track.state == "tentative" and (track.evidence < -1.0 or unseen > settings.coast))
                continue
            drop.append(unseen > settings.coast)
            if track.hits % 8 == 0 or track.state == "static":
                self._rest(track)
        self._drop(drop)

    def _confirm(self, at: int, time: float) -> None:
        track = self._active[at]
        before = self._left_behind(at, time)
        if before is None:
            self._count += 1
            track.id, track.state, track.confirmed_at = self._count, "confirmed", time
            self._rest(track)
            return
        self.finished.remove(before)
        track.id, track.state, track.reason = before.id, before.state, before.reason
        track.confirmed_at = before.confirmed_at
        track.points = bridged(before.trimmed(), track.points)
        track.places.first, track.places.farthest = before.places.first, before.places.farthest

    def _left_behind(self, at: int, time: float) -> Track | None:
        """The ended track that this one continues: it would be here by now, or has stayed where it was."""
        here = self._mean[at, :2]
        begin = self._active[at].points[0].time
        best, least = -1, math.inf
        for number, (old, mean, ended) in enumerate(self._lost):
            gap = time - ended
            if not (gap <= self.settings.rejoin and old.last_measured < begin):
                continue
            off = min(math.dist(mean[:2] + gap * mean[2:], here), math.dist(mean[:2], here))
            if off < min(_REJOIN_REACH + _REJOIN_TURN * gap, least):
                best, least = number, off
        return self._lost.pop(best)[0] if best >= 0 else None

    def rests(self, track: Track) -> bool:
        """Whether a track rests, which makes it static; `update` asks at every eighth measurement only."""
        reason = self.memory.reason(track.places)
        if reason is not None:
            track.state, track.reason = "static", reason
        return reason is not None

    def _rest(self, track: Track) -> None:
        if not self.rests(track) and track.state == "static" and min(track.places.farthest) > LEFT:
            track.state, track.reason = "confirmed", None

    def _begin(self, xy: Matrix, scores: Matrix, scene: Matrix, light: Matrix, time: float) -> None:
        if not len(xy):
            return
        mean, covariance = kalman.start(xy, self.settings.noise, self.settings.speed)
        self._mean = np.concatenate([self._mean, mean])
        self._covariance = np.concatenate([self._covariance, covariance])
        for at in range(len(xy)):
            evidence = self.settings.score_slope * (scores[at] - self.settings.score_zero)
            track = Track(evidence=min(float(evidence), self.settings.best_gain), hits=1, last_measured=time)
            track.places.add(time, xy[at].tolist(), scene[at].tolist(), light[at].tolist())
            self._active.append(track)
            self._add_point(len(self._active) - 1, time, float(scores[at]), measured=True)
        self._thin()

    def _thin(self) -> None:
        """Keep the best tentative tracks only, which bounds the work of a frame full of candidates."""
        tentative = [(one.evidence, at) for at, one in enumerate(self._active) if one.state == "tentative"]
        excess = len(tentative) - 2 * self.settings.most_candidates
        if excess > 0:
            worst = {at for _, at in sorted(tentative)[:excess]}
            self._drop([at in worst for at in range(len(self._active))])

    def _drop(self, which: Sequence[bool]) -> None:
        if not any(which):
            return
        for at, (track, gone) in enumerate(zip(self._active, which, strict=True)):
            if not gone:
                continue
            track.ended = True
            if track.state != "tentative":
                self.finished.append(track)
                self._lost.append((track, self._mean[at].copy(), self._time or 0.0))
        keep = ~np.array(which, np.bool_)
        self._active = [track for track, stays in zip(self._active, keep, strict=True) if stays]
        self._mean, self._covariance = self._mean[keep], self._covariance[keep]

    def _end_all(self) -> None:
        """Another scene: every track ends, and none of them is taken up again."""
        self._drop([True] * len(self._active))
        self._lost = []
        self._pose = np.eye(2, 3)
        self.memory.new_scene()


def _least_cost(cost: Matrix) -> list[tuple[int, int]]:
    """Pairs of rows and columns of least total cost; infinite ones are never taken."""
    allowed = np.isfinite(cost)
    rows, columns = np.flatnonzero(allowed.any(axis=1)), np.flatnonzero(allowed.any(axis=0))
    if not len(rows):
        return []
    part = cost[np.ix_(rows, columns)]
    never = 1e6
    chosen = linear_sum_assignment(np.where(np.isfinite(part), part, never))
    pairs = zip(rows[chosen[0]].tolist(), columns[chosen[1]].tolist(), strict=True)
    return [(row, column) for row, column in pairs if allowed[row, column]]
