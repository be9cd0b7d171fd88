"""How long `dimpoint evaluate --report` takes, this code beside another version of it.

    python benchmarks/evaluate_speed.py --before OLD/src --data NUAA-SIRST [--split test] [--rounds 3]

Each side runs as a process of its own, in turn. Prints one JSON line: the least seconds of each side, their
ratio, and whether the counts agree.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1] / "src"
PROGRAM = "import sys; from dimpoint.cli import main; sys.argv[0] = 'dimpoint'; main()"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="the src folder of the other version")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--predictions", type=Path, help="these instead of the default model")
    parser.add_argument("--protocol", default="spire")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {"before": [], "after": []}
    counts: dict[str, Any] = {}
    for _ in range(options.rounds):
        for side, source in (("before", options.before), ("after", HERE)):
            taken, counts[side] = run(source, options)
            seconds[side].append(taken)
    least = {side: round(min(each), 2) for side, each in seconds.items()}
    ratio = round(least["before"] / least["after"], 2)
    same = counts["before"] == counts["after"]
    print(
        json.dumps({"seconds": least, "times_as_fast": ratio, "same_counts": same, "counts": counts["after"]})
    )


def run(source: Path, options: argparse.Namespace) -> tuple[float, dict[str, int]]:
    """Seconds of one evaluation with a report, and its counts."""
    with tempfile.TemporaryDirectory() as folder:
        numbers = Path(folder) / "numbers.json"
        command = [sys.executable, "-c", PROGRAM, "evaluate", "--data", str(options.data)]
        command += ["--split", options.split, "--protocol", options.protocol]
        command += ["--report", folder, "--json", str(numbers)]
        if options.predictions is not None:
            command += ["--predictions", str(options.predictions)]
        began = time.perf_counter()
        environment = os.environ | {"PYTHONPATH": str(source)}
        subprocess.run(command, check=True, capture_output=True, env=environment)
        taken = time.perf_counter() - began
        found = json.loads(numbers.read_text("utf-8"))["pooled"]["protocols"][options.protocol]
    return taken, {key: found[key] for key in ("tp", "fp", "fn")}


if __name__ == "__main__":
    main()
