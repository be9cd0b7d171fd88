"""Damaged and hostile files of every kind that dimpoint reads: each gives a result or a DimpointError.

    python benchmarks/fuzz.py --inputs 100000
    python benchmarks/fuzz.py --kind tiff --inputs 5000 --seed 3 --keep faults

Whole files are cut, flipped, spliced and filled with extreme values; JSON and YAML also get wrong values in
right places. Input number i of a kind is a function of seed, kind and i. Each kind runs in a process that may
take 2 GB more than it has at the start, and 5 s of processor time for an input (60 s by the clock). One line
of JSON: how many inputs, and the tracebacks, hangs and memory faults by place.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import multiprocessing
import os
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from dimpoint.errors import DimpointError
from fuzz_kinds import KINDS, Kind

MEMORY = 2 << 30
SECONDS = 5.0  # of processor time, so that a busy machine makes no hang
CLOCK = 60.0
HOSTILE: list[Any] = [
    None, True, -1, 0, 2**31, 2**63, -(2**63), 10**400, 1e308, float("nan"), float("inf"), "", "a" * 5000,
    "\ud800", "\x1b[31m", "../../x", "=1+1", [], {}, [[]], [None], {"": {}}, [1e9, -1e9, 2], "NaN", "0x10",
]  # fmt: skip


TOKENS = (b"nan", b"1e400", b"\xff\xfe", b"[" * 300, b"{" * 300, b"&a [*a,*a]", b"\x00", b"!!python/x")


def mutated(kind: Kind, examples: list[bytes], rng: np.random.Generator) -> bytes:
    """One input: an example with one to six changes."""
    content = examples[rng.integers(len(examples))]
    if kind.tree and rng.random() < 0.6:
        return _wrong_values(content, rng)
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 7))):
        _change(data, examples, rng)
    if data[:8] == b"\x89PNG\r\n\x1a\n" and rng.random() < 0.7:
        data = _checksums(data)
    return bytes(data)


def _change(data: bytearray, examples: list[bytes], rng: np.random.Generator) -> None:
    size = len(data)
    place = int(rng.integers(size)) if size else 0
    length = int(rng.integers(1, 40))
    choice = int(rng.integers(8))
    if choice == 0 and size:
        data[place] ^= 1 << int(rng.integers(8))
    elif choice == 1:
        del data[place:]
    elif choice == 2:
        del data[place : place + length]
    elif choice == 3:
        data[place:place] = data[place : place + length]
    elif choice == 4:
        value = int(rng.choice(np.array([0, 1, 0x7F, 0xFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000])))
        pattern = struct.pack(">I" if rng.random() < 0.5 else "<I", value)
        data[place : place + 4] = pattern
    elif choice == 5:
        data[place:place] = rng.bytes(length)
    elif choice == 6:
        other = examples[rng.integers(len(examples))]
        data[place:] = other[int(rng.integers(len(other))) :]
    else:
        data[place:place] = TOKENS[rng.integers(len(TOKENS))]


def _wrong_values(content: bytes, rng: np.random.Generator) -> bytes:
    """JSON with one to three values replaced, removed or repeated."""
    tree = json.loads(content)
    for _ in range(int(rng.integers(1, 4))):
        holder, key = _somewhere(tree, rng)
        if rng.random() < 0.15:
            del holder[key]
        elif isinstance(holder, list) and rng.random() < 0.2:
            holder.extend([holder[key]] * int(rng.integers(1, 30)))
        else:
            holder[key] = copy.deepcopy(HOSTILE[rng.integers(len(HOSTILE))])
    return json.dumps(tree).encode()


def _somewhere(tree: Any, rng: np.random.Generator) -> tuple[Any, Any]:
    """A random place in nested lists and mappings: its holder and its key there."""
    holder = {"root": tree} if not isinstance(tree, dict | list) or not tree else tree
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        key = keys[rng.integers(len(keys))]
        below = holder[key]
        if not isinstance(below, dict | list) or not below or rng.random() < 0.25:
            return holder, key
        holder = below


def _checksums(data: bytearray) -> bytearray:
    """A PNG whose chunks have right checksums again, so that the damage reaches the decoder."""
    out, place = bytearray(data[:8]), 8
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        body = bytes(data[place + 4 : place + 8 + length])
        if length > len(data):
            break
        out += struct.pack(">I", length) + body + struct.pack(">I", zlib.crc32(body))
        place += 12 + length
    return out + data[place:]


def work(name: str, seed: int, numbers: range, folder: Path, send: Any) -> None:
    """Read inputs one after another, in a process of its own; tells each number and each fault."""
    kind, examples = KINDS[name], KINDS[name].examples()
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what the decoders' libraries print
    path = folder / kind.name
    path.write_bytes(examples[0])
    with contextlib.suppress(DimpointError):
        kind.read(path)  # what it imports does not count
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    signal.signal(signal.SIGPROF, _too_long)
    for number in numbers:
        rng = np.random.default_rng((seed, zlib.crc32(name.encode()), number))
        content = mutated(kind, examples, rng)
        send.send(("at", number, content))
        path.write_bytes(content)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            kind.read(path)
        except DimpointError:
            pass
        except BaseException as error:
            send.send(("fault", number, place_of(error)))
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    send.send(("end", 0, ""))


class HangError(BaseException):
    """An input that takes too long."""


def _too_long(*_: object) -> None:
    raise HangError


def place_of(error: BaseException) -> str:
    """The error's type and the innermost line of dimpoint that it passed."""
    lines = [line for line in traceback.extract_tb(error.__traceback__) if "/dimpoint/" in line.filename]
    where = f"{Path(lines[-1].filename).name}:{lines[-1].lineno}" if lines else "elsewhere"
    return f"{type(error).__name__} at {where}"


def run(name: str, seed: int, inputs: int, keep: Path | None) -> Iterator[str]:
    """The faults of one kind; a process that dies or hangs is started again after the input at fault."""
    context = multiprocessing.get_context("spawn")
    begin = 0
    while begin < inputs:
        folder = Path(tempfile.mkdtemp())
        receive, send = context.Pipe(False)
        process = context.Process(target=work, args=(name, seed, range(begin, inputs), folder, send))
        process.start()
        send.close()
        at, content, since = begin, b"", time.monotonic()
        ended = False
        while not ended:
            if receive.poll(CLOCK if content else 10 * CLOCK):
                try:
                    what, number, value = receive.recv()
                except EOFError:
                    yield _kept(keep, name, at, content, f"the process died (exit {process.exitcode})")
                    break
                if what == "at":
                    at, content, since = number, value, time.monotonic()
                elif what == "fault":
                    yield _kept(keep, name, number, content, value)
                else:
                    ended = True
            else:
                yield _kept(keep, name, at, content, f"hang of more than {time.monotonic() - since:.0f} s")
                break
        process.kill()
        process.join()
        shutil.rmtree(folder, ignore_errors=True)
        begin = inputs if ended else at + 1


def _kept(keep: Path | None, name: str, number: int, content: bytes, fault: str) -> str:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        (keep / f"{name}-{number}{Path(KINDS[name].name).suffix}").write_bytes(content)
    return fault


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--inputs", type=int, default=14_000, help="in all, spread evenly over the kinds")
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="may be repeated; default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the inputs at fault")
    options = parser.parse_args()
    kinds = options.kind or list(KINDS)
    each, begin = -(-options.inputs // len(kinds)), time.perf_counter()
    faults: dict[str, dict[str, int]] = {}
    for name in kinds:
        with contextlib.suppress(BrokenPipeError):
            found = Counter(run(name, options.seed, each, options.keep))
        if found:
            faults[name] = dict(found)
    total = sum(sum(counts.values()) for counts in faults.values())
    seconds = round(time.perf_counter() - begin, 1)
    print(json.dumps({"inputs": each * len(kinds), "faults": total, "by_kind": faults, "seconds": seconds}))
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
