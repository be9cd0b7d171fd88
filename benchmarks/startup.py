"""How long a start takes, and how large a plain installation is. Prints one JSON line.

python benchmarks/startup.py [--venv DIR] [--runs 5]

import_ms: `python -c 'import dimpoint'`; help_ms: `dimpoint --help`; each the whole process, its best of the
runs by the clock, and (cpu) by processor time, which other work on the machine disturbs less.
installed_mb: with --venv, what that virtual environment takes on disk; its Python is the one measured then.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path


def best(command: list[str], runs: int) -> tuple[float, float]:
    """Milliseconds of the fastest run, by the clock and by processor time."""
    clock, processor = [], []
    for _ in range(runs + 1):  # the first one fills the disk cache
        before, start = os.times(), time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = os.times()
        clock.append(time.perf_counter() - start)
        processor.append(
            after.children_user + after.children_system - before.children_user - before.children_system
        )
    return round(1000 * min(clock), 1), round(1000 * min(processor), 1)


def megabytes(folder: Path) -> float:
    """What the folder's files take on disk, as `du -s` counts."""
    blocks = sum(path.lstat().st_blocks for path in folder.rglob("*"))
    return round(blocks * 512 / 2**20, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--venv", type=Path, help="a virtual environment with dimpoint in it")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    programs = Path(sys.executable).parent if options.venv is None else options.venv / "bin"
    importing = best([str(programs / "python"), "-c", "import dimpoint"], options.runs)
    helping = best([str(programs / "dimpoint"), "--help"], options.runs)
    result = {
        "benchmark": "startup",
        "import_ms": importing[0],
        "import_cpu_ms": importing[1],
        "help_ms": helping[0],
        "help_cpu_ms": helping[1],
    }
    if options.venv is not None:
        result["installed_mb"] = megabytes(options.venv)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
