"""Commands that are killed, signalled or run out of disk: nothing half-written, nothing lost, exact resume.

    python benchmarks/kills.py --trials 30
    python benchmarks/kills.py --only detect --only train --trials 5
    python benchmarks/kills.py --part signals --frames 2000
    python benchmarks/kills.py --part disk
    python benchmarks/kills.py --part output

Part `kills`: a command on tiny inputs is killed (SIGKILL) at a random moment and started again; what it
leaves in the end is compared with an uninterrupted run. Part `signals`: `dimpoint detect` over many frames,
stopped by SIGTERM, SIGHUP and SIGKILL in the middle. Part `disk` (needs the right to mount): a file system
that fills up at a random byte. Part `output`: standard output is a closed pipe or a full device.
Commands run in children of this process, which has loaded the packages, so that a trial takes seconds.
Checkpoints are due every 0.05 s in place of minutes. One table for each part, then a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import kills_cases as cases
from kills_cases import Case, broken_files, leftovers, run, start, wait

LEAST, MOST = 0.0, 1.02  # of an uninterrupted run: when the kill comes


@dataclass
class Outcome:
    """What the trials of one command came to."""

    trials: int = 0
    at_work: int = 0  # killed before it ended
    half_written: int = 0
    failed_again: int = 0  # the second call did not end well
    differs: int = 0
    left_behind: int = 0
    tracebacks: int = 0

    @property
    def faults(self) -> int:
        return self.half_written + self.failed_again + self.differs + self.left_behind + self.tracebacks


def kill_trials(case: Case, trials: int, seed: int, keep: Path | None) -> Outcome:
    """Kill a command again and again, each time at another moment, and let it go on."""
    rng = random.Random(f"{seed} {case.name}")
    outcome = Outcome()
    with tempfile.TemporaryDirectory(prefix="kills-", dir=case.place) as folder:
        root = Path(folder)
        whole, seconds = reference(case, root)
        for number in range(trials):
            place = root / "trial" / case.work
            place.mkdir(parents=True)
            process = start(case.first(place), root / "log", case.environment)
            time.sleep(rng.uniform(LEAST, MOST) * seconds)
            process.kill(signal.SIGKILL)
            outcome.trials += 1
            outcome.at_work += wait(process) != 0
            found = after(case, place, root, whole)
            for name in found:
                setattr(outcome, name, getattr(outcome, name) + 1)
            if found and keep is not None:
                shutil.copytree(root / "trial", keep / f"{case.name.replace(' ', '-')}-{number}")
                shutil.copy(root / "log", keep / f"{case.name.replace(' ', '-')}-{number}.log")
            shutil.rmtree(root / "trial")
    return outcome


def reference(case: Case, root: Path) -> tuple[Any, float]:
    """The result of an uninterrupted run and how long it takes."""
    place = root / "whole" / case.work
    place.mkdir(parents=True)
    begin = time.monotonic()
    code = run(case.first(place), root / "log", case.environment)
    seconds = time.monotonic() - begin
    if code not in case.good:
        raise SystemExit(f"{case.name}: the uninterrupted run failed\n{(root / 'log').read_text()}")
    return case.result(place), seconds


def after(case: Case, place: Path, root: Path, whole: Any) -> list[str]:
    """The faults of a killed run: what it left, and what the next call makes of it."""
    found = []
    if broken := broken_files(place):
        print(f"{case.name}: half-written: {broken}", file=sys.stderr)
        found.append("half_written")
    command = case.again(place)
    code = 0 if command is None else run(command, root / "log", case.environment)
    text = (root / "log").read_text("utf-8", "replace")
    if "Traceback" in text:
        found.append("tracebacks")
    if code not in case.good:
        print(f"{case.name}: the next call ended with {code}: {text[-600:]}", file=sys.stderr)
        return [*found, "failed_again"]
    if command is not None and case.result(place) != whole:
        found.append("differs")
    if command is not None and (left := leftovers(place)):
        print(f"{case.name}: left behind: {left}", file=sys.stderr)
        found.append("left_behind")
    return found


def signal_trials(frames: int, trials: int, seed: int) -> list[list[object]]:
    """`dimpoint detect` over many frames, stopped in the middle: frames kept, done again, and the result."""
    rows = []
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        root = Path(folder)
        case = cases.detect(cases.make_frames(root / "frames", frames, (48, 64)))
        whole, seconds = reference(case, root)
        for name in ("SIGTERM", "SIGHUP", "SIGKILL"):
            for _ in range(trials):
                place = root / "trial"
                place.mkdir()
                process = start(case.first(place), root / "log", {})
                least = rng.uniform(0.1, 0.9) * frames
                latest = time.monotonic() + 10 * seconds
                while journal_lines(place) < least and time.monotonic() < latest:
                    time.sleep(0.02)
                before = journal_lines(place)
                process.kill(getattr(signal, name))
                code = wait(process)
                kept = journal_lines(place)
                listed = entries(place)
                again = run(case.first(place), root / "log", {})
                said = (root / "log").read_text()
                equal = again == 0 and case.result(place) == whole
                went_on = f"{kept} frames are done" in said
                rows.append([name, code, before, kept, listed, went_on, frames - kept, equal])
                print(*rows[-1], file=sys.stderr)
                shutil.rmtree(place)
    return rows


def journal_lines(place: Path) -> int:
    """Frames in the journal of an unfinished run: those whose line is whole."""
    journal = place / "out" / "detections.unfinished.jsonl"
    return journal.read_bytes().count(b"\n") - 1 if journal.is_file() else 0


def entries(place: Path) -> int | None:
    """Frames in detections.json, which a run that is stopped but not killed writes."""
    file = place / "out" / "detections.json"
    return len(json.loads(file.read_text())["images"]) if file.is_file() else None


def disk_trials(case: Case, trials: int, seed: int) -> Outcome | None:
    """A file system of a random size below what the command writes; None where mounting is not allowed."""
    rng = random.Random(f"{seed} {case.name}")
    outcome = Outcome()
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        root, disk = Path(folder), Path(folder) / "trial"
        whole, _ = reference(case, root)
        written = sum(file.stat().st_size for file in (root / "whole").rglob("*") if file.is_file())
        for _ in range(trials):
            disk.mkdir(exist_ok=True)
            size = max(8192, int(rng.uniform(0, 0.95) * written))
            mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
            if subprocess.run(mount, check=False, capture_output=True).returncode:
                return None
            try:
                place = disk / case.work
                place.mkdir(parents=True, exist_ok=True)
                code = run(case.first(place), root / "log", case.environment)
                text = (root / "log").read_text("utf-8", "replace")
                outcome.trials += 1
                outcome.at_work += code not in case.good
                outcome.tracebacks += "Traceback" in text
                if "Traceback" in text:
                    print(f"{case.name} on a full disk: {text[-1500:]}", file=sys.stderr)
                elif code == 0 and case.result(place) != whole:
                    outcome.differs += 1
                    print(f"{case.name} on a full disk: exit 0, another result", file=sys.stderr)
                subprocess.run(["mount", "-o", "remount,size=1g", str(disk)], check=True)
                for name in after(case, place, root, whole):
                    setattr(outcome, name, getattr(outcome, name) + 1)
            finally:
                subprocess.run(["umount", str(disk)], check=True)
    return outcome


def output_trials(all_cases: Iterable[Case]) -> list[list[object]]:
    """What each command does when nobody reads its output, and when the output device is full."""
    rows = []
    for case in all_cases:
        for kind in ("closed pipe", "/dev/full"):
            with tempfile.TemporaryDirectory(prefix="kills-", dir=case.place) as folder:
                place = Path(folder) / case.work
                place.mkdir(parents=True)
                process = start(case.first(place), Path(folder) / "log", case.environment, output=kind)
                code = wait(process)
                text = (Path(folder) / "log").read_text("utf-8", "replace")
                broken = broken_files(place)
                rows.append([case.name, kind, code, "Traceback" in text, len(broken), _last_line(text)])
    return rows


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "")[:70]


def table(title: str, columns: list[str], rows: list[list[object]]) -> None:
    """A plain table, the same on a terminal and in a file."""
    cells = [columns, *[[str(value) for value in row] for row in rows]]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    print(f"\n{title}")
    for row in cells:
        print("  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip())
    sys.stdout.flush()


COLUMNS = ["command", "trials", "stopped at work", "half-written", "next call fails", "result differs",
           "left behind", "tracebacks"]  # fmt: skip


def row_of(name: str, one: Outcome) -> list[object]:
    counts = (one.half_written, one.failed_again, one.differs, one.left_behind, one.tracebacks)
    return [name, one.trials, one.at_work, *counts]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--part", action="append", choices=("kills", "signals", "disk", "output"))
    parser.add_argument("--only", action="append", metavar="COMMAND", help=f"of {', '.join(cases.CASES)}")
    parser.add_argument("--trials", type=int, default=30, help="of each command")
    parser.add_argument("--frames", type=int, default=2000, help="of part signals")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for what trials at fault left")
    options = parser.parse_args()
    parts = options.part or ["kills", "signals", "disk", "output"]
    begin, faults = time.monotonic(), 0
    cases.load_packages()
    with tempfile.TemporaryDirectory(prefix="kills-data-") as folder:
        chosen: list[Case] = []
        makers: dict[str, Callable[[Path], Case]] = cases.CASES
        for name in options.only or list(makers):
            chosen.append(makers[name](Path(folder)))
        if "kills" in parts:
            rows = []
            for case in chosen:
                outcome = kill_trials(case, options.trials, options.seed, options.keep)
                faults += outcome.faults
                rows.append(row_of(case.name, outcome))
                print("  ".join(map(str, rows[-1])), file=sys.stderr)
            table(f"Killed at a random moment ({options.trials} times each)", COLUMNS, rows)
        if "signals" in parts:
            rows = signal_trials(options.frames, -(-options.trials // 10), options.seed)
            columns = ["signal", "exit", "written before", "kept", "in detections.json", "next call goes on",
                       "frames still to do", "result equal"]  # fmt: skip
            table(f"dimpoint detect over {options.frames} frames, stopped in the middle", columns, rows)
            faults += sum(not (row[5] and row[7] and int(str(row[3])) >= int(str(row[2]))) for row in rows)
        if "disk" in parts:
            rows = []
            for case in chosen:
                found = disk_trials(case, -(-options.trials // 3), options.seed)
                if found is None:
                    print("mounting is not allowed here: part disk is left out", file=sys.stderr)
                    break
                faults += found.faults
                rows.append(row_of(case.name, found))
            table("Full disk at a random byte, then enough room", COLUMNS, rows)
        if "output" in parts:
            rows = output_trials(chosen)
            columns = ["command", "standard output", "exit", "traceback", "half-written", "last line"]
            table("Standard output that cannot be written", columns, rows)
            faults += sum(bool(row[3]) or bool(row[4]) for row in rows)
    seconds = round(time.monotonic() - begin)
    print(json.dumps({"trials": options.trials, "parts": parts, "faults": faults, "seconds": seconds}))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
