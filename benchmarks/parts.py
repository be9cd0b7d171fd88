"""Which frames of the development data train, and which the panel holds out: one rule for both.

NUAA-SIRST, NUDT-SIRST, IRSTD-1K, SIRST-v2   by scene, as every training holds them out (15 %, seed 0)
HIT-UAV-background                           by flight: time of day, altitude and angle in the file's name
IR-video                                     by scene_groups.json; a group of more than a fifth of the
                                             clips would always train (the drones, 26 of 131, are held out)
AntiUAV-video                                two of the four clips
aerial-16bit                                 all of it is held out
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

LABELLED = ("NUAA-SIRST", "NUDT-SIRST", "IRSTD-1K", "SIRST-v2")
_HELD = {"flights": 0.35, "clips": 0.25, "drones": 0.5}
_LARGEST_GROUP = 0.2  # of the clips


def hold_out(sizes: Mapping[str, int], fraction: float) -> set[str]:
    """Whole groups, in the order of a hash, until `fraction` of all is held out; the largest ones never."""
    total, count, held = sum(sizes.values()), 0, set()
    for key in sorted(sizes, key=lambda key: hashlib.sha256(f"0\n{key}".encode()).digest()):
        if count >= fraction * total:
            break
        if sizes[key] <= _LARGEST_GROUP * total or len(sizes) <= 1 / _LARGEST_GROUP:
            held.add(key)
            count += sizes[key]
    return held


def flight(file: str) -> str:
    """`1_130_30_0` of `1_130_30_0_08070.jpg`."""
    return "_".join(Path(file).stem.split("_")[:4])


def backgrounds(root: Path) -> tuple[list[Path], list[Path]]:
    """HIT-UAV-background: frames that train, frames held out."""
    files = sorted((root / "images").glob("*.jpg"))
    held = hold_out(_count(flight(file.name) for file in files), _HELD["flights"])
    return [f for f in files if flight(f.name) not in held], [f for f in files if flight(f.name) in held]


def sky_clips(root: Path) -> tuple[list[Path], list[Path]]:
    """IR-video: clips that train, clips held out."""
    groups = json.loads((root / "scene_groups.json").read_text(encoding="utf-8"))
    of = {clip: min(group) for group in groups for clip in group}
    held = hold_out(_count(of.values()), _HELD["clips"])
    clips = sorted(root.glob("*.mp4"))
    return [c for c in clips if of[c.stem] not in held], [c for c in clips if of[c.stem] in held]


def drone_clips(root: Path) -> tuple[list[Path], list[Path]]:
    """AntiUAV-video: clips that train, clips held out."""
    clips = sorted(root.glob("*.avi"))
    held = hold_out({clip.stem: 1 for clip in clips}, _HELD["drones"])
    return [c for c in clips if c.stem not in held], [c for c in clips if c.stem in held]


def _count(keys: Iterable[str]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for key in keys:
        sizes[key] = sizes.get(key, 0) + 1
    return sizes
