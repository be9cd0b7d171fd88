"""`dimpoint detect --ray`: the same command on a Ray cluster."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

from dimpoint.text import counted, printable

if TYPE_CHECKING:
    from dimpoint.inference.detector import Detector
    from dimpoint.sources import ReadOptions


_CLUSTER = re.compile(r"auto|local|(ray://)?(\[[^]]*\]|[^/:]+):\d+")


class DetectCommand(TyperCommand):
    """Allow `--ray` without an address, which starts Ray on this machine."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for place in range(len(args) - 1, -1, -1):
            following = args[place + 1 : place + 2]
            if args[place] == "--ray" and not (following and _CLUSTER.fullmatch(following[0])):
                args.insert(place + 1, "local")
        return super().parse_args(ctx, args)


def addresses_of(sources: list[str], out: str, ray: str | None) -> list[str]:
    """The sources that are addresses, such as s3://bucket/frames; file:// ones become paths in `sources`.

    Raises ConfigError for addresses without --ray, and beside paths.
    """
    from dimpoint.cluster.storage import address_of, local_path
    from dimpoint.errors import ConfigError

    sources[:] = [source if (path := local_path(source)) is None else str(path) for source in sources]
    found = [source for source in sources if address_of(source)]
    if ray is None and (found or local_path(out) is None):
        named = found[0] if found else out
        raise ConfigError(f"{named}: an address is read and written with --ray; without it, give a path")
    if found and len(found) < len(sources):
        raise ConfigError(f"{found[0]}: give either addresses or paths")
    return found


def list_addresses(
    addresses: list[str], recursive: bool, missing: list[tuple[str, str]]
) -> list[list[object]]:
    """What `list_address` gives of all addresses; those that cannot be listed go to `missing`."""
    from dimpoint.cluster.storage import list_address
    from dimpoint.errors import FrameError

    stamps: dict[object, list[object]] = {}  # a file that two addresses name is read once
    for address in addresses:
        try:
            stamps |= {stamp[0]: stamp for stamp in list_address(address, recursive=recursive)}
        except FrameError as error:
            missing.append((address, str(error)))
    return list(stamps.values())


def detect_on_ray(
    address: str,
    detector: Detector,
    files: list[Path] | list[str],
    stamps: list[list[object]] | None,
    missing: list[tuple[str, str]],
    out: str,
    settings: dict[str, object],
    formats: set[str],
    reading: ReadOptions,
    overwrite: bool,
) -> None:
    """Detect on a cluster and print a summary; exit code 1 if a file cannot be read."""
    from dimpoint.cluster import ray_detect
    from dimpoint.cluster.storage import local_path
    from dimpoint.errors import ConfigError, FrameError

    if not formats & {"jsonl", "parquet"} or detector.path is None:
        raise ConfigError("--ray needs --format parquet or --format jsonl")
    if not files:
        raise FrameError(missing[0][1] if missing else "no frames in the sources")
    (kind,) = formats
    options = {
        "threshold": detector.rule.threshold,
        "polarity": detector.polarity,
        "device": detector.device,
    }
    place = out if (path := local_path(out)) is None else str(path.absolute())
    job = ray_detect.Job(place, str(detector.path.absolute()), options, reading, kind)
    try:
        found = ray_detect.detect_on_ray(
            files,
            job,
            settings | {"--format": kind},
            stamps=stamps,
            address=address,
            model_name=detector.meta.name,
            overwrite=overwrite,
        )
    except KeyboardInterrupt:
        typer.echo("stopped; run the same command to continue", err=True)
        raise typer.Exit(130) from None
    typer.echo(
        f"{counted(found['frames'], 'frame')}, {counted(found['targets'], 'target')}; "
        f"results: {printable(out)}"
    )
    for name, reason in missing + [tuple(each) for each in found["failures"]]:
        typer.echo(f"not read: {printable(reason if name in reason else f'{name}: {reason}')}", err=True)
    if missing or found["unreadable"]:
        raise typer.Exit(1)
