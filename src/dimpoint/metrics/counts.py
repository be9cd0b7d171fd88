"""Counts that add up, and the ratios that are taken of them afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt


def ratio(part: float, whole: float) -> float:
    """part / whole; NaN, "not defined", where the whole is 0. Arrays of counts give an array of ratios."""
    if isinstance(whole, np.ndarray) or isinstance(part, np.ndarray):
        return cast(float, ratios(part, whole))
    return part / whole if whole else float("nan")


def ratios(part: npt.ArrayLike, whole: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """`ratio` for arrays, element by element."""
    parts, wholes = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(whole, np.float64))
    result = np.full(parts.shape, np.nan)
    np.divide(parts, wholes, out=result, where=wholes != 0)
    return result


@dataclass(frozen=True, eq=False)
class Counts:
    """A record of numbers and 1-D arrays over some frames; records of parts add up with `+` and `sum`.

    Ratios are properties, taken after the sums. They hold for records of arrays as well (`resampled`), so
    that a bootstrap uses the same formulas.
    """

    @classmethod
    def total(cls, parts: Iterable[Self]) -> Self:
        """The sum of many records, in linear time; arrays are put one behind the other."""
        every = [cls(), *parts]
        return cls(**{each.name: _sum([getattr(part, each.name) for part in every]) for each in fields(cls)})

    @classmethod
    def numbers(cls) -> list[str]:
        """The names of the fields that are numbers, not arrays."""
        empty = cls()
        return [each.name for each in fields(cls) if not isinstance(getattr(empty, each.name), np.ndarray)]

    @classmethod
    def resampled(cls, parts: Sequence[Self], weights: npt.NDArray[Any]) -> Self:
        """The sums of weighted parts: weights (R, parts) give a record whose numbers are arrays (R,).

        Arrays of the parts are left out: the record has empty ones.
        """
        names = cls.numbers()
        table = np.array([[getattr(part, name) for name in names] for part in parts], np.float64)
        sums = weights @ table.reshape(len(parts), len(names))
        return cls(**dict(zip(names, sums.T, strict=True)))

    def __add__(self, other: Self) -> Self:
        return self.total((self, other))

    def __radd__(self, other: int) -> Self:
        """Lets the builtin `sum` start at 0."""
        return self if other == 0 else NotImplemented


def _sum(values: list[Any]) -> Any:
    return np.concatenate(values) if isinstance(values[0], np.ndarray) else sum(values)
