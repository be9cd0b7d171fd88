"""`dimpoint train`, `networks`, `recipes` from the command line: what they print and refuse."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cli_runs import heed_signals
from dimpoint.cli import main

DIMPOINT = [sys.executable, "-c", "from dimpoint.cli import main; main()"]


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs the command line in this process: exit code, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dimpoint", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    return run


def test_networks_as_json_lists_both_with_their_sizes(run: Callable[..., tuple[int, str, str]]) -> None:
    rows = {row["name"]: row for row in json.loads(run("networks", "--json")[1])}
    assert rows["spire"]["parameters"] == 294_753
    assert rows["spire-lite"]["macs"] < 2.5e9  # at 512x512, the rough trial's cost


def test_recipes_are_listed(run: Callable[..., tuple[int, str, str]]) -> None:
    assert "spire-sirst" in run("recipes")[1]


REFUSED = [
    # arguments, what the one line on stderr must say
    (["train"], "dimpoint train RECIPE --data DIR --out DIR"),
    (["train", "spire-sirst", "--data", "missing", "--out", "x"], "missing"),
    (["train", "nonsense", "--data", "d", "--out", "x"], "no recipe 'nonsense'"),
    (["train", "--resume", "nowhere"], "no run to resume"),
    (["train", "spire", "--resume", "nowhere"], "takes recipe and data from the run"),
    (["train", "spire", "--data", "d", "--out", "x", "--set", "epoch=1"], "did you mean 'epochs'"),
    (["train", "spire", "--data", "d", "--out", "x", "--set", "loss.kind=[mse"], "not valid YAML"),
    *(
        (["train", "spire", "--data", "d", "--out", "x", option, value], f"{option} {value}")
        for option, value in (
            ("--accelerator", "foo"),
            ("--precision", "foo"),
            ("--devices", "foo"),
            ("--devices", "0"),
            ("--devices", "\N{SUPERSCRIPT TWO}"),
        )
    ),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_bad_input_is_one_line_and_exit_code_2(
    run: Callable[..., tuple[int, str, str]], arguments: list[str], message: str
) -> None:
    code, _, errors = run(*arguments)
    assert code == 2
    assert message in errors
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
    ],
)
def test_a_signal_keeps_the_last_checkpoint_and_says_how_to_go_on(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    from dimpoint.synthetic.scenes import SceneConfig, write_dataset

    data, out = tmp_path / "SCENES", tmp_path / "run"
    write_dataset(data, SceneConfig(height=64, width=64), 12)
    settings = {
        "network.options": "{widths: [4, 8], depths: [1, 1]}",
        "view.size": "32",
        "batch": "2",
        "steps_per_epoch": "2",
        "epochs": "100000",
        "validate_every": "1",
    }
    changes = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    command = [*DIMPOINT, "train", "spire-sirst", "--data", str(data), "--out", str(out), "--threads", "1"]
    process = subprocess.Popen(
        [*command, *changes],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
        preexec_fn=heed_signals,
    )
    checkpoint = out / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 90
    while not checkpoint.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert f"dimpoint train --resume {out}" in errors
    import torch

    assert torch.load(checkpoint, weights_only=True)["state_dict"]
