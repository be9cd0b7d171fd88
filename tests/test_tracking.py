"""Tracker, camera memory, camera motion and clock: what each promises, on made sequences."""

from __future__ import annotations

import time as clock_time
from dataclasses import replace

import cv2
import numpy as np
import pytest

import dimpoint
from dimpoint.errors import ConfigError, DataError, FrameError
from dimpoint.tracking import kalman
from dimpoint.tracking.memory import CameraMemory, brightness, read_memory
from dimpoint.tracking.motion import Motion, MotionEstimator
from dimpoint.tracking.stream import Clock, track
from dimpoint.tracking.track import TrackerSettings
from dimpoint.tracking.tracker import Tracker
from tiny_models import write_model
from track_scenes import background, bright_spots, detections, frame_of

RNG = np.random.default_rng(0)


def follow(tracker: Tracker, frames: list, rate: float = 30.0, begin: int = 0) -> None:
    for number, found in enumerate(frames, begin):
        tracker.update(found, number / rate, frame=number)


class TestKalman:
    def test_the_covariance_converges_to_the_solution_of_the_riccati_equation(self):
        mean, covariance = kalman.start(np.zeros((1, 2)), 1.0, 10.0)
        for _ in range(2000):
            mean, covariance = kalman.predict(mean, covariance, 0.1, 5.0)
            before = covariance
            mean, covariance = kalman.update(mean, covariance, np.zeros((1, 2)), 1.0)
        predicted = before[0][np.ix_([0, 2], [0, 2])]
        move = np.array([[1, 0.1], [0, 1]])
        noise = 25 * np.array([[0.1**3 / 3, 0.1**2 / 2], [0.1**2 / 2, 0.1]])
        gain = predicted[:, :1] / (predicted[0, 0] + 1)
        riccati = move @ (predicted - gain @ predicted[:1]) @ move.T + noise
        np.testing.assert_allclose(riccati, predicted, rtol=1e-6)

    def test_a_straight_line_is_predicted(self):
        mean, covariance = kalman.start(np.array([[10.0, 20.0]]), 0.5, 50.0)
        for step in range(1, 60):
            mean, covariance = kalman.predict(mean, covariance, 0.04, 1.0)
            mean, covariance = kalman.update(
                mean, covariance, np.array([[10 + 1.2 * step, 20 - 0.4 * step]]), 0.5
            )
        np.testing.assert_allclose(mean[0, 2:], [30, -10], atol=0.3)

    def test_a_turned_camera_turns_the_velocity(self):
        quarter = np.array([[0.0, -1.0, 100.0], [1.0, 0.0, 0.0]])
        mean, _ = kalman.carry(np.array([[3.0, 4.0, 1.0, 0.0]]), np.eye(4)[None], quarter)
        np.testing.assert_allclose(mean, [[96, 3, 0, 1]])


class TestTracker:
    def test_a_moving_target_is_one_track(self):
        tracker = Tracker()
        follow(tracker, [detections((20 + 2 * n, 50 + n)) for n in range(30)])
        (one,) = tracker.tracks
        assert (one.id, one.state, len(one.points)) == (1, "confirmed", 30)
        assert one.confirmed_at is not None
        assert one.confirmed_at < 0.3
        assert one.points[-1].vx == pytest.approx(60, abs=1)

    def test_no_candidates_no_tracks(self):
        tracker = Tracker()
        follow(tracker, [detections() for _ in range(10)])
        assert tracker.all_tracks() == []

    def test_lone_candidates_are_not_confirmed(self):
        tracker = Tracker()
        places = RNG.uniform(0, 300, (200, 2))
        follow(tracker, [detections(tuple(place)) for place in places])
        assert tracker.tracks == []

    def test_crossing_targets_keep_their_ids(self):
        tracker = Tracker()
        follow(
            tracker, [detections((20 + 3 * n, 60 + 1.0 * n), (20 + 3 * n, 120 - 1.0 * n)) for n in range(60)]
        )
        slopes = {one.id: one.points[-1].vy for one in tracker.tracks}
        assert len(slopes) == 2
        for one in tracker.tracks:
            assert np.sign(one.points[-1].vy) == np.sign(one.points[10].vy)

    def test_a_gap_is_coasted_over(self):
        tracker = Tracker()
        there = [detections((20 + 2 * n, 50)) if not 20 <= n < 30 else detections() for n in range(60)]
        follow(tracker, there)
        (one,) = tracker.tracks
        assert [point.frame for point in one.points if not point.measured] == list(range(20, 30))

    def test_a_longer_gap_is_joined_again_under_the_old_id(self):
        tracker = Tracker()
        there = [detections((20 + 1 * n, 50)) if not 30 <= n < 65 else detections() for n in range(120)]
        follow(tracker, there)
        (one,) = [one for one in tracker.all_tracks() if one.state == "confirmed"]
        assert one.id == 1
        assert one.points[0].frame == 0
        assert one.points[-1].frame == 119

    def test_a_track_ends_at_its_last_measurement(self):
        tracker = Tracker()
        follow(tracker, [detections((20 + n, 50)) if n < 30 else detections() for n in range(90)])
        (one,) = tracker.all_tracks()
        assert one.ended
        assert one.trimmed()[-1].frame == 29

    def test_a_cut_ends_tracks_and_none_is_taken_up_again(self):
        tracker = Tracker()
        for n in range(60):
            how = "cut" if n == 30 else "still"
            tracker.update(detections((50 + 0.5 * n, 50)), n / 30, motion=Motion(np.eye(2, 3), how))
        first, second = tracker.all_tracks()
        assert first.ended
        assert first.points[-1].frame == 29
        assert second.points[0].frame == 30

    def test_a_frozen_stretch_is_coasted_over(self):
        tracker = Tracker()
        for n in range(120):
            frozen = 40 <= n < 80  # a shutter event of more than a second
            found = detections() if frozen else detections((20 + n, 50))
            tracker.update(found, n / 30, motion=Motion(np.eye(2, 3), "frozen" if frozen else "still"))
        (one,) = tracker.tracks
        assert (one.id, one.points[0].frame, one.points[-1].frame) == (1, 0, 119)

    def test_camera_motion_is_removed(self):
        """The camera pans by 6 pixels a frame: beyond the gate of a target that rests in the scene."""
        tracker = Tracker()
        pan = Motion(np.array([[1.0, 0, -6], [0, 1, 0]]), "features")
        for n in range(30):
            tracker.update(detections((250 - 6 * n, 50 + 0.6 * n)), n / 30, motion=pan if n else None)
        (one,) = tracker.tracks
        assert one.points[-1].vx == pytest.approx(0, abs=1.5)

    @pytest.mark.parametrize("time", [0.0, -1.0, float("nan")])
    def test_times_must_increase(self, time):
        tracker = Tracker()
        tracker.update(detections(), 0.0)
        with pytest.raises(DataError, match="order of time"):
            tracker.update(detections(), time)

    def test_500_candidates_a_frame_take_bounded_time(self):
        tracker = Tracker()
        spent = []
        for n in range(12):
            found = detections(*map(tuple, RNG.uniform(0, 600, (500, 2))))
            begin = clock_time.process_time()
            tracker.update(found, n / 30)
            spent.append(clock_time.process_time() - begin)
            assert len(tracker.tentative) <= 2 * tracker.settings.most_candidates
        assert tracker.passed_over == 12 * 200
        assert max(spent) < 5  # far above what it takes; without bounds it grows from frame to frame

    def test_an_endless_track_keeps_its_first_and_its_latest_points(self):
        tracker = Tracker(history=20)
        follow(tracker, [detections((20 + 0.5 * n, 50)) for n in range(500)])
        (one,) = tracker.tracks
        assert one.points[0].frame == 0
        assert 21 <= len(one.points) <= 42
        assert [point.frame for point in one.points[-20:]] == list(range(480, 500))

    def test_released_tracks_are_forgotten_once_none_can_continue_them(self):
        tracker = Tracker()
        follow(tracker, [detections((20 + n, 50)) for n in range(20)])
        follow(tracker, [detections()] * 30, begin=20)
        assert len(tracker.finished) == 1
        assert tracker.release() == []  # it may still be taken up again
        follow(tracker, [detections()] * 70, begin=50)
        (one,) = tracker.release()
        assert (one.id, one.points[0].frame, one.ended) == (1, 0, True)
        assert tracker.release() == tracker.all_tracks() == []

    def test_second_peaks_of_a_target_begin_no_track(self):
        tracker = Tracker()
        frames = [detections((50 + n, 50)) for n in range(20)]
        frames += [detections((50 + n, 50), (52.5 + n, 51)) for n in range(20, 60)]
        follow(tracker, frames)
        assert [one.id for one in tracker.all_tracks()] == [1]

    @pytest.mark.parametrize("changes", [{"noise": 0}, {"gate": -1}, {"least_hits": 0}, {"coast": 0.0}])
    def test_settings_that_cannot_be(self, changes):
        with pytest.raises(ConfigError, match=next(iter(changes))):
            TrackerSettings(**changes)


class TestCameraMemory:
    def test_a_spot_that_rests_from_the_start_is_static_with_its_reason(self):
        tracker = Tracker()
        follow(tracker, [detections((80 + RNG.normal(0, 0.1), 40 + RNG.normal(0, 0.1))) for _ in range(120)])
        (one,) = tracker.tracks
        assert one.state == "static"
        assert one.reason == "rests in the picture, there since the first second"

    @pytest.mark.parametrize(
        ("place", "why"),
        [
            (lambda n: (80 + 0.8 * np.sin(n / 5), 40 + 0.7 * np.cos(n / 7)), "it jitters"),
            (lambda n: (80 + 0.4 * np.sin(n / 5), 40 + 0.3 * np.cos(n / 7)), "it jitters by less than half"),
            (lambda n: (80 + 0.02 * n, 40), "it drifts, by more than half a pixel a second"),
            (lambda n: (80 + 0.008 * n, 40), "it drifts, by a quarter of a pixel a second"),
            (lambda n: (80 + max(0, 60 - n), 40), "it arrived, and hovers since"),
        ],
    )
    def test_a_hovering_drone_survives(self, place, why):
        tracker = Tracker()
        rng = np.random.default_rng(3)
        follow(tracker, [detections(tuple(place(n) + rng.normal(0, 0.1, 2))) for n in range(240)])
        assert [one.state for one in tracker.tracks] == ["confirmed"], why

    @pytest.mark.parametrize(
        ("flicker", "noise", "state"),
        [(0.06, 0, "confirmed"), (0.01, 0, "static"), (0.06, 6, "static")],
        ids=["it flutters", "it is a lamp", "its surroundings are as restless"],
    )
    def test_what_rests_and_flutters_is_no_lamp(self, flicker, noise, state):
        rng = np.random.default_rng(5)
        y, x = np.mgrid[:80, :160]
        spot = 100 * np.exp(-((x - 80) ** 2 + (y - 40) ** 2) / 4)
        frames = []
        for _ in range(120):
            frame = (
                50 + spot * (1 + flicker * rng.standard_normal()) + noise * rng.standard_normal(spot.shape)
            )
            frames.append(frame.clip(0, 255).astype(np.uint8))
        tracker = Tracker()
        for n, frame in enumerate(frames):
            found = detections((80 + rng.normal(0, 0.05), 40))
            tracker.update(found, n / 30, light=brightness(frame, found.xy))
        assert [one.state for one in tracker.tracks] == [state]

    def test_brightness_is_the_sum_above_the_surroundings(self):
        frame = np.full((40, 50), 1000, np.uint16)
        frame[19:22, 29:32] += 50
        frame[0, 0] += 7
        found = brightness(frame, np.array([[30.3, 19.8], [0.0, 0.0]], np.float32))
        np.testing.assert_allclose(
            found, [(450, 0), (7 * 16, 0)]
        )  # the corner's pixel stands for those outside
        assert brightness(frame, np.zeros((0, 2))).shape == (0, 2)

    def test_what_appears_later_and_rests_survives(self):
        tracker = Tracker()
        follow(tracker, [detections((80, 40)) if n > 60 else detections() for n in range(240)])
        assert [one.state for one in tracker.tracks] == ["confirmed"]

    def test_a_static_spot_that_starts_to_move_is_a_track_again(self):
        tracker = Tracker()
        follow(tracker, [detections((80 + max(0, n - 120), 40)) for n in range(180)])
        (one,) = tracker.tracks
        assert (one.state, one.reason) == ("confirmed", None)

    def test_a_sensor_spot_under_a_moving_camera(self):
        """A bad pixel stays on the sensor while the scene moves by."""
        tracker = Tracker()
        pan = Motion(np.array([[1.0, 0, -0.3], [0, 1, 0]]), "features")
        for n in range(120):
            tracker.update(detections((80, 40)), n / 30, motion=pan if n else None)
        (one,) = tracker.tracks
        assert one.reason is not None
        assert one.reason.startswith("rests on the sensor")

    def test_a_kept_memory_knows_the_spot_at_once(self, tmp_path):
        first = Tracker()
        first.memory.size = (160, 200)
        follow(first, [detections((80, 40)) for _ in range(120)])
        first.memory.save(tmp_path / "camera.json")
        kept = read_memory(tmp_path / "camera.json")
        assert kept.size == (160, 200)
        tracker = Tracker(memory=kept)
        follow(tracker, [detections((80, 40)) for _ in range(20)])
        (one,) = tracker.tracks
        assert one.reason == "rests in the picture, known from the camera memory"

    def test_a_spot_that_is_not_seen_any_more_is_forgotten(self):
        tracker = Tracker()
        follow(tracker, [detections((80, 40)) for _ in range(120)])
        assert len(tracker.memory.spots) == 1
        follow(tracker, [detections() for _ in range(70)], rate=1, begin=5)
        assert tracker.memory.spots == []

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "{",
            "[]",
            '{"format": "other"}',
            '{"format": "dimpoint camera memory 1", "size": null}',
            '{"format": "dimpoint camera memory 1", "size": null, "spots": [{"x": 1}]}',
            '{"format": "dimpoint camera memory 1", "size": {"height": 1e999, "width": 1}, "spots": []}',
            pytest.param("[" * 100_000, id="deep"),
        ],
    )
    def test_a_file_that_is_no_memory(self, tmp_path, text):
        path = tmp_path / "m.json"
        path.write_text(text)
        with pytest.raises(DataError, match=r"m\.json: is no camera memory"):
            read_memory(path)

    def test_no_file_is_an_empty_memory(self, tmp_path):
        assert read_memory(tmp_path / "none.json").spots == []


class TestMotion:
    @pytest.mark.parametrize(
        ("shift", "roll", "zoom"),
        [((3.4, -2.2), 0, 1), ((0, 0), 1.5, 1), ((1, 1), 0, 1.02), ((-5, 4), -1, 0.99)],
        ids=["shift", "roll", "zoom", "all"],
    )
    @pytest.mark.parametrize("depth", [np.uint8, np.uint16])
    def test_a_known_motion_is_found(self, shift, roll, zoom, depth):
        scene = background(1, 260, 330)
        truth = cv2.getRotationMatrix2D((165, 130), roll, zoom)
        truth[:, 2] += shift
        moved = cv2.warpAffine(scene, truth, (330, 260), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        estimate = MotionEstimator()
        scale = 1 if depth == np.uint8 else 100
        frames = [
            (frame_of(one, [], 1, n).astype(depth) * depth(scale)) for n, one in enumerate((scene, moved))
        ]
        estimate(frames[0])
        motion = estimate(frames[1])
        assert motion.known
        corners = np.array([[40, 40, 1], [290, 40, 1], [165, 220, 1]])
        assert np.abs(corners @ (motion.matrix - truth).T).max() < 0.5

    @pytest.mark.parametrize("known", [True, False], ids=["by the file", "a border"])
    def test_pixels_that_are_no_measurements_do_not_hide_it(self, known):
        scene = 6000 + 3 * background(1, 160, 260)
        estimate = MotionEstimator()
        for number in range(6):
            frame = (scene[:, 2 * number : 2 * number + 200]).astype(np.uint16)
            valid = np.ones(frame.shape, bool)
            valid[:, :12] = False
            valid[100:130, 150:170] = not known
            frame[~valid] = 0
            motion = estimate(frame, valid if known else None)
            if number:
                assert motion.how == "features"
                np.testing.assert_allclose(motion.matrix[:, 2], [-2, 0], atol=0.3)

    def test_noise_alone_is_no_motion_and_no_cut(self):
        estimate = MotionEstimator()
        flat = np.full((120, 160), 100.0)
        hows = {estimate(frame_of(flat, [], 3, n)).how for n in range(20)}
        assert hows <= {"start", "still", "unknown"}

    def test_a_cut_a_freeze_and_a_black_frame_are_told_apart(self):
        estimate = MotionEstimator()
        one, other = background(1), background(2)
        frames = [frame_of(one, [], 1, n) for n in range(10)]
        frames += [frames[-1], np.zeros_like(frames[0]), frame_of(one, [], 1, 11)]
        frames += [frame_of(other.max() - other, [], 1, 12), frame_of(other.max() - other, [], 1, 13)]
        hows = [estimate(frame).how for frame in frames]
        assert hows[10:12] == ["frozen", "blank"]
        assert hows.index("cut") == 13
        assert hows.count("cut") == 1

    def test_another_size_is_a_cut(self):
        estimate = MotionEstimator()
        estimate(frame_of(background(1), [], 1, 0))
        assert estimate(frame_of(background(1, 100, 100), [], 1, 0)).how == "cut"


class TestClock:
    def test_presentation_times_are_the_truth(self):
        clock = Clock()
        assert [clock(time, new_source=n == 0) for n, time in enumerate((5.0, 5.04, 5.2))] == pytest.approx(
            [5.0, 5.04, 5.2]
        )
        assert clock.notes() == []

    @pytest.mark.parametrize(
        ("times", "expected", "note"),
        [
            ([0.0, 0.1, 0.05, 0.3], [0.0, 0.1, 0.2, 0.3], "does not increase"),
            ([None, None, None], [0.0, 0.04, 0.08], "25 frames/s assumed"),
            ([0.0, 0.1, None], [0.0, 0.1, 0.14], "1 frame has no time of its own"),
        ],
        ids=["backwards", "none at all", "none at the end"],
    )
    def test_times_always_increase_and_repairs_are_told(self, times, expected, note):
        clock = Clock()
        got = [clock(time, new_source=number == 0) for number, time in enumerate(times)]
        assert got == pytest.approx(expected)
        assert any(note in one for one in clock.notes())

    def test_a_given_rate_replaces_the_times(self):
        clock = Clock(10.0)
        assert [clock(time, new_source=False) for time in (0.0, 0.01, None)] == pytest.approx([0, 0.1, 0.2])
        assert clock.notes() == []

    @pytest.mark.parametrize("rate", [0, -1, float("inf"), float("nan")])
    def test_a_rate_that_cannot_be(self, rate):
        with pytest.raises(ConfigError, match="fps"):
            Clock(rate)


class TestStream:
    def test_a_target_over_a_moving_camera_with_a_cut(self):
        """Frames from an array: a pan with a target that flies, then another scene."""
        wide = background(5, 200, 320)
        frames = []
        for n in range(40):
            view = wide[20:180, 40 + 2 * n : 240 + 2 * n]
            frames.append(frame_of(view, [(30 + 2.5 * n, 60 + 0.5 * n)], 1, n))
        other = background(9)
        frames += [frame_of(other.max() - other, [(100 + n, 100)], 1, n) for n in range(20)]
        run = track(np.stack(frames), finder=bright_spots, fps=30)
        for frame, live in run:
            assert frame.time is not None
            assert all(one.state != "tentative" for one in live)
        tracks = run.result()
        lives = [(one.points[0].frame, one.trimmed()[-1].frame) for one in tracks.of("confirmed")]
        assert lives == [(0, 39), (40, 59)]
        velocity = tracks.tracks[0].points[35]
        assert velocity.vx == pytest.approx(30 * 4.5, abs=8)  # relative to the scene
        assert {row.how for row in tracks.motions} >= {"features", "cut"}

    def test_an_unreadable_picture_keeps_its_number_and_its_time(self, tmp_path):
        for n in range(20):
            frame = frame_of(background(1), [(20 + 2 * n, 50)], 1, n)
            cv2.imwrite(str(tmp_path / f"{n:03d}.png"), frame)
        for n in (0, 10):
            (tmp_path / f"{n:03d}.png").write_bytes(b"no picture")
        lost = []
        run = track(str(tmp_path), finder=bright_spots, on_error=lambda name, _: lost.append(name), fps=10)
        assert [int(frame.path.stem) for frame, _ in run] == [n for n in range(20) if n not in (0, 10)]
        (one,) = run.result().of("confirmed")
        assert [point.frame for point in one.points] == [n for n in range(1, 20) if n != 10]
        assert [point.time for point in one.points] == pytest.approx(
            [(n - 1) / 10 for n in range(1, 20) if n != 10]
        )
        assert one.points[-1].vx == pytest.approx(20, abs=2)
        assert len(lost) == 2

    def test_a_frame_without_a_valid_pixel_is_left_out_and_told(self, tmp_path):
        """A page of no data must not cost the tracks of the others."""
        frames = np.stack([frame_of(background(4), [(20 + 2 * n, 60)], 1, n, 190) for n in range(20)])
        stack = np.ma.array(frames, mask=np.zeros(frames.shape, bool))
        stack.mask[9] = True
        lost = []
        model = write_model(tmp_path / "blob.onnx")
        run = track(
            stack, model=model, threads=1, on_error=lambda name, error: lost.append(str(error)), fps=10
        )
        assert len(list(run)) == 19
        assert lost == ["array#000009: no pixel is valid"]
        (one,) = run.result().of("confirmed")
        assert [point.frame for point in one.points] == [n for n in range(20) if n != 9]
        assert one.points[-1].time == pytest.approx(1.9)
        with pytest.raises(FrameError, match="array#000009: no pixel is valid"):
            list(track(stack, model=model, threads=1))

    def test_a_rate_counts_the_frames_that_a_stack_lacks(self):
        """Pages that cannot be read leave gaps in the numbers."""
        run = track(np.zeros((1, 9, 9), np.uint8), finder=bright_spots, fps=10)
        page = next(run.frames)
        run.frames = iter([replace(page, index=n) for n in (0, 1, 5)])
        assert [frame.time for frame, _ in run] == pytest.approx([0, 0.1, 0.5])

    @pytest.mark.parametrize("kind", ["folders", "stacks"])
    def test_every_source_is_a_scene_of_its_own(self, tmp_path, kind):
        """The first spot rests where the second source has a target that arrives later and hovers."""
        scene = background(1)
        clips = [
            [frame_of(scene, [(60, 60)], 1, n) for n in range(60)],
            [frame_of(scene, [(60, 60)] if n >= 30 else [], 1, 60 + n) for n in range(60)],
        ]
        sources: list[object] = [np.stack(clip) for clip in clips]
        if kind == "folders":
            sources = [tmp_path / "a", tmp_path / "b"]
            for folder, clip in zip(sources, clips, strict=True):
                folder.mkdir()
                for n, frame in enumerate(clip):
                    cv2.imwrite(str(folder / f"{n:03d}.png"), frame)
        run = track(sources, finder=bright_spots, fps=25)
        assert len(list(run)) == 120
        assert [row.frame for row in run.motions if row.how == "cut"] == [60]
        first, second = run.result().tracks
        assert (first.state, first.points[-1].frame) == ("static", 59)
        assert (second.state, second.points[0].frame) == ("confirmed", 90)

    def test_pictures_that_a_shell_lists_are_one_scene(self, tmp_path):
        for n in range(10):
            frame = frame_of(background(1), [(20 + 2 * n, 50)], 1, n)
            cv2.imwrite(str(tmp_path / f"{n:03d}.png"), frame)
        run = track(sorted(tmp_path.iterdir()), finder=bright_spots)
        assert len(list(run)) == 10
        assert [one.points[-1].frame for one in run.result().of("confirmed")] == [9]

    def test_one_frame(self):
        run = track(frame_of(background(1), [(50, 50)], 1, 0), finder=bright_spots)
        assert [live for _, live in run] == [[]]
        assert [one.state for one in run.result()] == ["tentative"]

    def test_500_candidates_in_each_frame(self):
        """The work of a frame is bounded, and it is said how many candidates were passed over."""
        rng = np.random.default_rng(5)
        frames = np.stack([frame_of(background(2), [], 2, n) for n in range(8)])
        run = track(frames, finder=lambda _: detections(*map(tuple, rng.uniform(0, 160, (500, 2)))), fps=25)
        begin = clock_time.process_time()
        assert len(list(run)) == 8
        assert clock_time.process_time() - begin < 20
        assert "1600 candidates beyond the best 300" in " ".join(run.result().notes)

    def test_the_public_names(self):
        assert dimpoint.track is track
        assert dimpoint.Tracker is Tracker

    def test_a_memory_of_another_camera(self, tmp_path):
        memory = CameraMemory(size=(10, 10))
        tracker = Tracker(memory=memory)
        follow(tracker, [detections((5, 5)) for _ in range(90)])
        memory.save(tmp_path / "m.json")
        run = track(np.zeros((30, 20, 20), np.uint8), finder=bright_spots, camera_memory=tmp_path / "m.json")
        with pytest.raises(DataError, match="20x20, the camera memory is for 10x10"):
            list(run)

    def test_a_memory_without_spots_takes_the_size_of_the_frames(self, tmp_path):
        CameraMemory(size=(10, 10)).save(tmp_path / "m.json")
        run = track(np.zeros((3, 20, 30), np.uint8), finder=bright_spots, camera_memory=tmp_path / "m.json")
        assert len(list(run)) == 3
        assert run.tracker.memory.size == (20, 30)
