"""`dimpoint data synth`: write a data set of synthetic scenes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from dimpoint.errors import ConfigError

if TYPE_CHECKING:
    from dimpoint.synthetic.scenes import SceneConfig

# The option that sets each part of SceneConfig.
_OPTIONS = {
    "height": "size",
    "width": "size",
    "bits": "bits",
    "background": "background",
    "count": "targets",
    "empty_share": "empty",
    "targets": "scr",
}


def add_to(data_app: typer.Typer) -> None:
    """Add the command `synth` to the group `dimpoint data`."""

    @data_app.command("synth")
    def synth(
        out: Path = typer.Argument(help="Folder to write; must be new or empty."),
        frames: int = typer.Option(100, help="Number of frames."),
        size: str = typer.Option("256x256", metavar="HxW", help="Height and width in pixels."),
        seed: int = typer.Option(0, help="The same seed gives the same files."),
        bits: int = typer.Option(8, help="8, or 16 for the counts of a 14-bit camera in uint16."),
        background: str = typer.Option("mixed", help="cloud, sea, ground or mixed."),
        scr: str = typer.Option("3-40", metavar="LOW-HIGH", help="Local signal-to-clutter ratio of targets."),
        targets: str = typer.Option(
            "1-3", metavar="LOW-HIGH", help="Number of targets in a frame with targets."
        ),
        empty: float = typer.Option(0.1, help="Part of the frames that have no target, 0 to 1."),
        test_fraction: float = typer.Option(0.2, help="Part of the frames in the test split, 0 to 1."),
    ) -> None:
        """Write synthetic infrared scenes with known targets as a data set: frames, masks, points, splits."""
        from rich.console import Console
        from rich.progress import Progress

        from dimpoint.synthetic.scenes import write_dataset

        low, high = _range("targets", targets)
        height, width = _size(size)
        config = _config(
            height=height,
            width=width,
            bits=bits,
            background=background,
            count=(low, high),
            empty_share=empty,
            targets={"scr": _range("scr", scr)},
        )
        with Progress(console=Console(stderr=True)) as bar:
            task = bar.add_task("scenes", total=frames)
            write_dataset(
                out, config, frames, seed, test_fraction, lambda done: bar.update(task, completed=done)
            )
        typer.echo(f"{out}: {frames} frames of {height}x{width}, {bits} bit, with masks, points and splits")


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text.strip())
    if match is None:
        raise ConfigError(f"--size '{text}': expected HEIGHTxWIDTH in pixels, such as 256x256")
    return int(match[1]), int(match[2])


def _range(option: str, text: str) -> tuple[float, float]:
    """`3-40`, or one number for both ends."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(?:-(\d+(?:\.\d+)?))?", text.strip())
    if match is None:
        raise ConfigError(f"--{option} '{text}': expected LOW-HIGH, such as 3-40")
    return float(match[1]), float(match[2] or match[1])


def _config(**settings: Any) -> SceneConfig:
    from pydantic import ValidationError

    from dimpoint.synthetic.scenes import SceneConfig

    try:
        return SceneConfig(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        option = _OPTIONS[str(first["loc"][0])]
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"--{option} {first['input']}: {message}") from None
