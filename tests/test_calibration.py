"""Calibrated scores, and `dimpoint calibrate`: thresholds for a false-alarm rate."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from pydantic import ValidationError

from dimpoint.cli import main
from dimpoint.errors import ConfigError, DataError
from dimpoint.evaluation.predictions import FLOOR, ModelPredictor
from dimpoint.evaluation.thresholds import isotonic_knots, threshold_for_rate
from dimpoint.inference.decode import decode
from dimpoint.inference.detector import Detector
from dimpoint.live.watch import open_detector
from dimpoint.model.onnx_file import read_meta
from dimpoint.model.record import DecodeRule
from dimpoint.tracking.stream import CANDIDATE_SCORE, track
from tiny_models import blob_meta, spots, write_model

KNOTS = ((0.0, 0.0), (0.5, 0.1), (0.8, 0.7), (1.0, 1.0))


def frames(*scores: list[float]) -> list[npt.NDArray[np.float32]]:
    return [np.array(each, np.float32) for each in scores]


def response(*heights: float) -> npt.NDArray[np.float32]:
    """A map with single pixels of these heights, ten apart."""
    values = np.zeros((21, 10 * len(heights) + 11), np.float32)
    values[10, 10 : 10 * len(heights) + 1 : 10] = heights
    return values


@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.1, 0.3, 0.7, 0.95])
def test_a_calibration_maps_scores_and_threshold_alike(threshold: float) -> None:
    heights = np.array([0.05, 0.3, 0.5, 0.65, 0.8, 0.9, 0.99])
    rule = DecodeRule(threshold=threshold, calibration=KNOTS)
    after = np.interp(heights, *np.array(KNOTS).T)
    expected = sorted(after[after > threshold + 1e-6])[::-1]
    assert decode(response(*heights), rule).scores.tolist() == pytest.approx(expected, abs=1e-6)


def test_a_calibration_keeps_positions_and_order() -> None:
    map_ = response(0.9, 0.6, 0.8)
    plain, mapped = (decode(map_, DecodeRule(threshold=0.01, calibration=k)) for k in (None, KNOTS))
    assert plain.xy.tolist() == mapped.xy.tolist()


@pytest.mark.parametrize("threshold", [0.05, 0.1, 0.4, 0.9])
def test_the_uncalibrated_rule_gives_the_same_detections(threshold: float) -> None:
    map_ = response(0.2, 0.45, 0.55, 0.65, 0.75, 0.85, 0.99)
    rule = DecodeRule(threshold=threshold, calibration=KNOTS)
    plain = rule.uncalibrated()
    assert plain.calibration is None
    found, own = decode(map_, rule), decode(map_, plain)
    assert own.xy.tolist() == found.xy.tolist()
    assert found.scores.tolist() == pytest.approx(
        np.interp(own.scores, *np.array(KNOTS).T).tolist(), abs=1e-6
    )
    assert plain.uncalibrated() is plain


def test_a_detector_gives_the_scores_of_the_network_when_asked(tmp_path: Path) -> None:
    rule = DecodeRule(threshold=0.4, calibration=KNOTS)
    calibrated = write_model(tmp_path / "calibrated.onnx", blob_meta(decode=rule))
    model = write_model(tmp_path / "plain.onnx", blob_meta())
    frame = np.maximum(spots((64, 64), [(20, 20)]), spots((64, 64), [(44, 40)], height=0.8))
    own = Detector(calibrated, threshold=0.2, calibrated=False)(frame)
    expected = Detector(model, threshold=0.2)(frame)
    assert own.scores.tolist() == expected.scores.tolist()
    mapped = Detector(calibrated, threshold=0.05)(frame)
    assert mapped.scores.tolist() == pytest.approx(
        np.interp(own.scores, *np.array(KNOTS).T).tolist(), abs=1e-6
    )


def test_an_evaluation_keeps_the_detections_that_it_keeps_without_a_calibration(tmp_path: Path) -> None:
    """The least score that counts for curves is one before the calibration, which makes low scores lower."""
    rule = DecodeRule(threshold=0.4, calibration=KNOTS)
    calibrated = ModelPredictor(write_model(tmp_path / "calibrated.onnx", blob_meta(decode=rule)))
    plain = ModelPredictor(write_model(tmp_path / "plain.onnx", blob_meta()))
    assert plain.floor == FLOOR
    assert calibrated.floor == pytest.approx(0.2 * FLOOR)
    assert calibrated.detector.rule.uncalibrated().threshold == pytest.approx(FLOOR)
    assert rule.calibrated(0.65) == pytest.approx(0.4)
    assert DecodeRule().calibrated(0.65) == 0.65


def test_tracking_weighs_the_scores_of_the_network(tmp_path: Path) -> None:
    rule = DecodeRule(threshold=0.4, calibration=KNOTS)
    model = write_model(tmp_path / "calibrated.onnx", blob_meta(decode=rule))
    run = track(np.zeros((3, 64, 64), np.float32), model=model)
    assert isinstance(run.finder, Detector)
    watched = open_detector(model, score=CANDIDATE_SCORE, threads=1, device="cpu", polarity="white-hot")
    for detector in (run.finder, watched):
        assert detector.rule == rule.uncalibrated().at(CANDIDATE_SCORE)


@pytest.mark.parametrize(
    ("knots", "kind"),
    [
        ((), "peaks"),
        (((0.0, 0.0),), "peaks"),  # one knot is no map
        (((0.0, 0.0), (0.5, 0.5), (0.5, 0.6)), "peaks"),  # stands still before
        (((0.0, 0.0), (0.5, 0.5), (1.0, 0.5)), "peaks"),  # stands still after: has no inverse
        (((0.0, 0.0), (1.0, 1.5)), "peaks"),  # no score
        (((0.0, 0.0), (1.0, float("nan"))), "peaks"),
        (((0.0, 0.0), (1.0, 1.0)), "components"),
    ],
)
def test_what_is_no_calibration_is_refused(knots: tuple[tuple[float, float], ...], kind: str) -> None:
    with pytest.raises(ValidationError, match="calibration"):
        DecodeRule.model_validate({"kind": kind, "calibration": knots})


def test_isotonic_knots_recover_how_often_a_score_is_right() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(20_000)
    right = rng.random(20_000) < scores**2
    knots = isotonic_knots(scores, right)
    before, after = np.array(knots).T
    assert (np.diff(before) > 0).all()
    assert (np.diff(after) > 0).all()
    at = np.linspace(0.05, 0.95, 19)
    assert np.interp(at, before, after) == pytest.approx(at**2, abs=0.05)
    DecodeRule(calibration=knots)


@pytest.mark.parametrize("right", [True, False])
def test_a_calibration_needs_both_kinds(right: bool) -> None:
    with pytest.raises(DataError, match="both true and false detections"):
        isotonic_knots(np.array([0.3, 0.4]), np.array([right, right]))


@pytest.mark.parametrize(
    ("scores", "rate", "threshold", "false"),
    [
        (frames([], []), 0.5, 0.0, 0),  # nothing found: nothing to keep out
        (frames([0.5], [0.375]), 0.5, 0.375, 1),
        (frames([0.5], [0.4]), 1, 0.0, 2),  # all are allowed
        (frames([0.5, 0.25], [0.375], [], []), 0.25, 0.375, 1),
        (frames([0.5, 0.5], [0.5], [], []), 0.25, 0.5, 0),  # of equals all or none
        (frames([0.1234], [0.1232]), 0.5, 0.124, 0),  # rounded up to three decimals
    ],
)
def test_the_lowest_threshold_that_keeps_the_rate(
    scores: list[npt.NDArray[np.float32]], rate: float, threshold: float, false: int
) -> None:
    found = threshold_for_rate(scores, rate)
    assert (found.threshold, found.false) == (pytest.approx(threshold), false)
    assert found.per_frame <= rate


@pytest.mark.parametrize(
    ("scores", "rate", "error", "says"),
    [
        ([], 0.1, DataError, "no frame"),
        (frames([0.1]), 0, ConfigError, "above 0"),
        (frames([0.1]), -1, ConfigError, "above 0"),
        (frames([0.1]), float("nan"), ConfigError, "above 0"),
        (frames(*[[0.1]] * 20), 0.01, DataError, r"possible: 0.05 or more\); give at least 100 frames"),
        (frames(*[[0.95, 0.1]] * 20), 0.5, DataError, "20 of 20 frames .* targets"),
        (frames([1.0], [0.9996], *[[]] * 298), 0.004, DataError, "no threshold below 1 .*find nothing"),
    ],
)
def test_rates_that_the_footage_cannot_give(
    scores: list[npt.NDArray[np.float32]], rate: float, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        threshold_for_rate(scores, rate)


def test_one_can_insist_that_there_are_no_targets() -> None:
    assert threshold_for_rate(frames(*[[0.95, 0.1]] * 20), 0.5, insist=True).threshold == 0.95


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """`dimpoint calibrate blob.onnx ...` beside `faint/`, 20 frames of faint spots, and `bright/`."""
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "blob.onnx")
    for name, height in (("faint", 60), ("bright", 255)):
        (tmp_path / name).mkdir()
        for number in range(20):
            level = height * (0.5 + number / 40)
            frame = spots((48, 64), [(20, 20)], height=level / 255) * 255
            cv2.imwrite(str(tmp_path / name / f"{number:02}.png"), frame.round().astype(np.uint8))

    def command(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["dimpoint", "calibrate", "blob.onnx", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out + printed.err

    return command


def test_calibrate_stores_the_threshold(run: Callable[..., tuple[int, str]]) -> None:
    code, said = run("faint", "--per-frame", "0.1", "--out", "mine.onnx")
    assert code == 0, said
    meta = read_meta(Path("mine.onnx"))
    assert f"threshold {meta.decode.threshold:g}" in said
    detector = Detector("mine.onnx")
    found = sum(len(detector(cv2.imread(str(f), cv2.IMREAD_GRAYSCALE))) for f in Path("faint").iterdir())
    assert found == 2
    assert "2 false alarms in 20 frames" in said


def test_calibrate_counts_the_parts_of_a_mask_at_its_threshold(
    run: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    """Two of the three spots are joined at low thresholds, which would count as one."""
    meta = blob_meta(kind="probability", stride=1, decode=DecodeRule(kind="components"))
    names = ("frame", "probability")
    write_model(tmp_path / "blob.onnx", meta, kernel=np.ones((1, 1), np.float32), names=names)
    (tmp_path / "mask").mkdir()
    frame = np.zeros((48, 64), np.uint8)
    frame[20, 10:31] = 100
    frame[20, [10, 30, 50]] = 220, 200, 150
    cv2.imwrite(str(tmp_path / "mask" / "0.png"), frame)
    code, said = run("mask", "--per-frame", "1", "--out", "mine.onnx")
    assert code == 0, said
    assert read_meta(Path("mine.onnx")).decode.threshold == pytest.approx(0.785)  # 200 / 255, rounded up
    assert len(Detector("mine.onnx")(frame)) == 1
    assert "1 false alarm in 1 frame" in said


def test_calibrate_reads_frames_as_the_other_commands_do(
    run: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    (tmp_path / "dark").mkdir()
    (tmp_path / "jet").mkdir()
    for file in Path("faint").iterdir():
        frame = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(tmp_path / "dark" / file.name), 255 - frame)
        cv2.imwrite(str(tmp_path / "jet" / file.name), cv2.applyColorMap(frame, cv2.COLORMAP_JET))
    white, black, jet = (
        run(*arguments, "--per-frame", "0.1", "--out", "mine.onnx")
        for arguments in (["faint"], ["dark", "--polarity", "black-hot"], ["jet", "--colour", "jet"])
    )
    assert white[0] == 0
    assert white == black
    assert white == jet


def test_calibrate_by_the_hour(run: Callable[..., tuple[int, str]]) -> None:
    code, said = run("faint", "--false-alarms-per-hour", "9000", "--fps", "25", "--out", "mine.onnx")
    assert (code, "2 false alarms in 20 frames, 0.1 per frame, 9e+03 per hour" in said) == (0, True), said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["faint", "--out", "a.onnx"], "either --false-alarms-per-hour or --per-frame"),
        (["faint", "--out", "a.onnx", "--per-frame", "1", "--false-alarms-per-hour", "1"], "either"),
        (["faint", "--out", "a.onnx", "--false-alarms-per-hour", "9"], "--fps"),
        (["faint", "--out", "a.onnx", "--per-frame", "1", "--fps", "0"], "--fps"),
        (["faint", "--out", "a.safetensors", "--per-frame", "1"], "write a .onnx file"),
        (["none", "--out", "a.onnx", "--per-frame", "1"], "none"),
        (["faint", "--out", "a.onnx", "--per-frame", "1", "--polarity", "red"], "polarity must be"),
        (["faint", "--out", "a.onnx", "--per-frame", "1", "--colour", "red"], "colour"),
        (["faint", "--out", "a.onnx", "--false-alarms-per-hour", "1", "--fps", "25"], "too few"),
        (["bright", "--out", "a.onnx", "--per-frame", "0.1"], "--insist"),
    ],
)
def test_calibrate_refuses_in_one_line(
    run: Callable[..., tuple[int, str]], arguments: list[str], says: str
) -> None:
    code, said = run(*arguments)
    assert code == 2
    assert says in said
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert not Path("a.onnx").exists()


def test_calibrate_goes_on_when_insisted(run: Callable[..., tuple[int, str]]) -> None:
    code, said = run("bright", "--out", "a.onnx", "--per-frame", "0.1", "--insist")
    assert code == 0, said
    assert read_meta(Path("a.onnx")).decode.threshold > 0.5
