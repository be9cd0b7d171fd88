"""Records of counts that add up, and ratios of counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt


def ratio(part: float, whole: float) -> float:
    """part / whole, or NaN (not defined) if the whole is 0; arrays are divided element by element."""
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
    """Base of records of numbers and 1-D arrays over some frames, which add up with `+` and `sum`.

    Ratios are properties computed from the sums. They also work on records of arrays (`resampled`), so that
    a bootstrap uses the same formulas.
    """

    @classmethod
    def total(cls, parts: Iterable[Self]) -> Self:
        """The sum of many records, in linear time; arrays are concatenated."""
        every = [cls(), *parts]
        return cls(**{each.name: _sum([getattr(part, each.name) for part in every]) for each in fields(cls)})

    @classmethod
    def numbers(cls) -> list[str]:
        """The names of the fields that are numbers, not arrays."""
        empty = cls()
        return [each.name for each in fields(cls) if not isinstance(getattr(empty, each.name), np.ndarray)]

    @classmethod
    def resampled(cls, parts: Sequence[Self], weights: npt.NDArray[Any]) -> Self:
        """Weighted sums of records: weights (R, parts) give a record whose numbers are arrays (R,).

        Array fields of the result are empty.
        """
        names = cls.numbers()
        table = np.array([[getattr(part, name) for name in names] for part in parts], np.float64)
        sums = weights @ table.reshape(len(parts), len(names))
        return cls(**dict(zip(names, sums.T, strict=True)))

    def __add__(self, other: Self) -> Self:
        return self.total((self, other))

    def __radd__(self, other: int) -> Self:
        """Allow the builtin `sum`, which starts at 0."""
        return self if other == 0 else NotImplemented


def _sum(values: list[Any]) -> Any:
    return np.concatenate(values) if isinstance(values[0], np.ndarray) else sum(values)
