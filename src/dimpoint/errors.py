"""What dimpoint raises for bad input: one family, so that a caller can catch them all."""

from __future__ import annotations

import re


class DimpointError(Exception):
    """Bad input. The message names the file, line or key, and what would be right."""


class FrameError(DimpointError):
    """A frame (image file, array, video) that cannot be read or is no picture."""


class DataError(DimpointError):
    """A data set, label file or split that is wrong."""


class ConfigError(DimpointError):
    """A recipe, option or setting that is wrong."""


class ModelFileError(DimpointError):
    """A model file that is missing, is no model, or is newer than this version."""


class MissingExtraError(DimpointError):
    """A feature whose optional packages are not installed."""

    def __init__(self, feature: str, package: str, extra: str) -> None:
        super().__init__(f"{feature} needs the package '{package}': pip install 'dimpoint[{extra}]'")


def one_line(error: BaseException, most: int = 300) -> str:
    """The message of another package's error on one line of at most `most` characters."""
    text = " ".join(str(error).split())
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)[:most]
