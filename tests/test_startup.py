"""What a start imports: nothing heavy for `import dimpoint` and for help, and PyTorch for training alone."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# Each takes from a tenth of a second to several seconds. Not pydantic: typer imports it by itself.
HEAVY = [
    "av",
    "cv2",
    "lightning",
    "matplotlib",
    "numpy",
    "onnx",
    "onnxruntime",
    "scipy",
    "tifffile",
    "torch",
    "transformers",
]
TRAINING = ["lightning", "onnx", "safetensors", "torch"]
RUNTIME = [
    "dimpoint.inference.backends",
    "dimpoint.datasets.check",
    "dimpoint.datasets.dataset",
    "dimpoint.synthetic.scenes",
    "dimpoint.inference.detector",
    "dimpoint.evaluation.run",
    "dimpoint.evaluation.subject",
    "dimpoint.metrics.hse",
    "dimpoint.model.files",
    "dimpoint.inference.overlay",
    "dimpoint.sources",
]


def imported(program: str, watched: list[str]) -> list[str]:
    """Which of the watched packages a program has imported in an interpreter of its own."""
    report = f"import json, sys; print(json.dumps([m for m in {watched} if m in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{report}"], capture_output=True, text=True, check=True
    )
    last: list[str] = json.loads(done.stdout.splitlines()[-1])
    return last


def command(*arguments: str) -> str:
    """A program that runs the command line in its own process."""
    return f"""
import sys
from dimpoint.cli import main
sys.argv = ["dimpoint", *{arguments}]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""


def test_heavy_packages_are_noticed() -> None:
    """The tests below could not fail if this did not hold."""
    assert imported("import dimpoint; dimpoint.Detector", ["cv2", "numpy"]) == ["cv2", "numpy"]


def test_importing_dimpoint_is_light() -> None:
    assert imported("import dimpoint", HEAVY) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("--version",),
        ("detect", "--help"),
        ("evaluate", "--help"),
        ("train", "--help"),
        ("data", "synth", "--help"),
    ],
)
def test_help_is_light(arguments: tuple[str, ...]) -> None:
    assert imported(command(*arguments), HEAVY) == []


def test_listing_models_needs_no_training_packages() -> None:
    assert imported(command("models"), TRAINING) == []


def test_detection_and_evaluation_need_no_training_packages() -> None:
    assert imported(f"import {', '.join(RUNTIME)}", TRAINING) == []
