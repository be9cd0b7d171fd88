"""Where the pixels of a GeoTIFF lie on the Earth: its tags -> map coordinates, longitude and latitude.

Written after OGC GeoTIFF 1.1 (19-008r4). Of coordinate systems WGS 84, ETRS89, their UTM zones and Web
Mercator are known; others need pyproj (`pip install 'dimpoint[geo]'`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

TiffPage: TypeAlias = Any
Places = npt.NDArray[np.float64]

_SCALE, _TIEPOINT, _TRANSFORMATION, _KEYS = 33550, 33922, 34264, 34735
_MODEL_TYPE, _RASTER_TYPE, _GEOGRAPHIC, _PROJECTED = 1024, 1025, 2048, 3072
_PIXEL_IS_POINT = 2
_USER_DEFINED = 32767
_WGS84 = (4326, 4258)  # ETRS89 lies within a metre of it
_WEB_MERCATOR = 3857
_RADIUS, _FLATTENING = 6378137.0, 1 / 298.257223563  # of WGS 84, m
_UTM_SCALE, _EAST, _NORTH = 0.9996, 500_000.0, 10_000_000.0
_HUGE = 1e12  # no coordinate on the Earth


@dataclass(frozen=True)
class Georeference:
    """From pixels of a frame to the map.

    Parameters
    ----------
    transform : tuple of 6 floats
        a, b, c, d, e, f: map x is a * column + b * row + c, map y is d * column + e * row + f, where column
        and row count from the top left corner of the frame, as in rasterio.
    epsg : int, optional
        The coordinate system; None where the file defines its own.

    Examples
    --------
    >>> from dimpoint.sources.georeference import Georeference
    >>> place = Georeference((10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0), 32633)
    >>> place.map_xy([[0, 0]]).tolist()
    [[500005.0, 4999995.0]]
    >>> place.lonlat([[0, 0]]).round(6).tolist()
    [[15.000064, 45.153432]]
    """

    transform: tuple[float, float, float, float, float, float]
    epsg: int | None = None

    def map_xy(self, xy: npt.ArrayLike) -> Places:
        """(N, 2) map x, y of (N, 2) pixels x, y, in the units of the coordinate system."""
        column, row = (np.asarray(xy, np.float64).reshape(-1, 2) + 0.5).T
        a, b, c, d, e, f = self.transform
        return np.stack([a * column + b * row + c, d * column + e * row + f], axis=1)

    def lonlat(self, xy: npt.ArrayLike) -> Places | None:
        """(N, 2) longitude, latitude in degrees (WGS 84) of (N, 2) pixels x, y; None if they are unknown."""
        places = self.map_xy(xy)
        if self.epsg in _WGS84:
            return places
        if self.epsg == _WEB_MERCATOR:
            x, y = places.T / _RADIUS
            return np.asarray(np.degrees(np.stack([x, 2 * np.arctan(np.exp(y)) - math.pi / 2], axis=1)))
        if zone := _utm_zone(self.epsg):
            return _of_utm(places, *zone)
        if self.epsg is None or find_spec("pyproj") is None:
            return None
        return _of_pyproj(places, self.epsg)

    @property
    def is_in_degrees(self) -> bool:
        """Whether map coordinates are longitude and latitude of WGS 84."""
        return self.epsg in _WGS84

    def to_record(self) -> dict[str, Any]:
        """For JSON; `from_record` reads it back."""
        return {
            "crs": None if self.epsg is None else f"EPSG:{self.epsg}",
            "transform": list(self.transform),
        }

    @classmethod
    def from_record(cls, record: Any) -> Georeference | None:
        """What `to_record` gave; None for None. Raises ValueError, TypeError or KeyError for others."""
        if record is None:
            return None
        a, b, c, d, e, f = map(float, record["transform"])
        if not all(map(math.isfinite, (a, b, c, d, e, f))):
            raise ValueError("transform holds a number that is not finite")
        crs = record["crs"]
        return cls((a, b, c, d, e, f), None if crs is None else int(str(crs).removeprefix("EPSG:")))


def georeference_of(page: TiffPage) -> tuple[Georeference | None, tuple[str, ...]]:
    """The georeference of a TIFF page, and notes for the user; None where it has none or a damaged one."""
    keys = _geo_keys(page)
    affine = _affine(page)
    if affine is None:
        held = "ground control points, which are not read: its detections have no positions on the map"
        several = len(_numbers(page, _TIEPOINT)) > 6
        return None, ((f"it has {held}",) if several else ())
    a, b, c, d, e, f = affine
    if keys.get(_RASTER_TYPE) == _PIXEL_IS_POINT:  # the tags speak of pixel centres
        c, f = c - (a + b) / 2, f - (d + e) / 2
    code = keys.get(_PROJECTED if keys.get(_MODEL_TYPE) == 1 else _GEOGRAPHIC)
    found = Georeference((a, b, c, d, e, f), None if code in (None, 0, _USER_DEFINED) else code)
    corner = found.lonlat([[0, 0]])
    if corner is None:
        system = "one of its own" if found.epsg is None else f"EPSG:{found.epsg}"
        remedy = "" if found.epsg is None else ": pip install 'dimpoint[geo]'"
        return found, (f"its coordinate system is {system}: map_x and map_y without lon and lat{remedy}",)
    if not (np.isfinite(corner).all() and (np.abs(corner) <= (180.5, 90.5)).all()):
        return None, ("its geographic tags lie outside the Earth: its detections have no positions",)
    return found, ()


def _affine(page: TiffPage) -> tuple[float, float, float, float, float, float] | None:
    """From raster to model space, as the tags have it."""
    matrix = _numbers(page, _TRANSFORMATION)
    if len(matrix) == 16:
        a, b, _, c, d, e, _, f = matrix[:8]
    else:
        scale, tie = _numbers(page, _SCALE), _numbers(page, _TIEPOINT)
        if len(scale) < 2 or len(tie) < 6:
            return None
        a, b, c = scale[0], 0.0, tie[3] - tie[0] * scale[0]
        d, e, f = 0.0, -scale[1], tie[4] + tie[1] * scale[1]
    values = (a, b, c, d, e, f)
    sound = all(math.isfinite(value) and abs(value) < _HUGE for value in values) and a * e != b * d
    return values if sound else None


def _numbers(page: TiffPage, code: int) -> tuple[float, ...]:
    tag = page.tags.get(code)
    value = () if tag is None else tag.value
    return tuple(map(float, value)) if isinstance(value, tuple) else ()


def _geo_keys(page: TiffPage) -> dict[int, int]:
    """The keys whose values are whole numbers, by their id."""
    tag = page.tags.get(_KEYS)
    entries = tag.value if tag is not None and isinstance(tag.value, tuple) else ()
    keys = (entries[at : at + 4] for at in range(4, len(entries) - 3, 4))
    return {key: value for key, place, _, value in keys if place == 0}


def _utm_zone(epsg: int | None) -> tuple[int, bool] | None:
    """The number of a UTM zone of WGS 84 or ETRS89, and whether it is a southern one."""
    for first, zones, south in (
        (32600, range(1, 61), False),
        (32700, range(1, 61), True),
        (25800, range(28, 39), False),
    ):
        if epsg is not None and epsg - first in zones:
            return epsg - first, south
    return None


def _of_utm(places: Places, zone: int, south: bool) -> Places:
    """Longitude and latitude of UTM: the series of Krüger in the third flattening up to n^3 (< 1 mm)."""
    n = _FLATTENING / (2 - _FLATTENING)
    radius = _RADIUS / (1 + n) * (1 + n**2 / 4 + n**4 / 64)
    east, north = places.T
    xi = (north - (_NORTH if south else 0)) / (_UTM_SCALE * radius)
    eta = (east - _EAST) / (_UTM_SCALE * radius)
    back = (n / 2 - 2 * n**2 / 3 + 37 * n**3 / 96, n**2 / 48 + n**3 / 15, 17 * n**3 / 480)
    xi_0 = xi - sum(b * np.sin(2 * j * xi) * np.cosh(2 * j * eta) for j, b in enumerate(back, 1))
    eta_0 = eta - sum(b * np.cos(2 * j * xi) * np.sinh(2 * j * eta) for j, b in enumerate(back, 1))
    conformal = np.arcsin(np.sin(xi_0) / np.cosh(eta_0))
    series = (2 * n - 2 * n**2 / 3 - 2 * n**3, 7 * n**2 / 3 - 8 * n**3 / 5, 56 * n**3 / 15)
    latitude = conformal + sum(s * np.sin(2 * j * conformal) for j, s in enumerate(series, 1))
    longitude = math.radians(6 * zone - 183) + np.arctan2(np.sinh(eta_0), np.cos(xi_0))
    return np.asarray(np.degrees(np.stack([longitude, latitude], axis=1)))


def _of_pyproj(places: Places, epsg: int) -> Places | None:
    transformer = _transformer(epsg)
    if transformer is None:
        return None
    found = np.stack(transformer.transform(places[:, 0], places[:, 1]), axis=1)
    return np.asarray(found, np.float64)


@cache
def _transformer(epsg: int) -> Any:
    from pyproj import Transformer
    from pyproj.exceptions import ProjError

    try:
        return Transformer.from_crs(epsg, 4326, always_xy=True)
    except ProjError:  # no such system
        return None
