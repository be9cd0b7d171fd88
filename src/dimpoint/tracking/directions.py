"""Directions of tracks as seen from a fixed camera, for maps: GeoJSON (RFC 7946) and KML (OGC 2.3).

One camera measures directions and no distances. A track is therefore a fan of lines of sight, all of one
length that the user chooses; the end of a line is not the place of a target.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

from dimpoint.errors import ConfigError
from dimpoint.tracking.motion import Matrix, apply, compose, inverse
from dimpoint.tracking.result import Tracks
from dimpoint.tracking.track import Point, Track

Array = npt.NDArray[np.float64]

LENGTH = 2000.0
"""Length of a line of sight, metres."""

_SEMI_MAJOR, _FLATTENING = 6378137.0, 1 / 298.257223563  # WGS 84
_ECCENTRICITY = _FLATTENING * (2 - _FLATTENING)  # squared
_EVERY = 1.0  # seconds between two lines of a track
_MOST_LINES = 120


@dataclass(frozen=True)
class CameraView:
    """Where a camera stands and looks, with square pixels and no distortion.

    Parameters
    ----------
    latitude, longitude : float
        Degrees, WGS 84; north and east are positive.
    heading : float
        Of the middle of the first frame, degrees clockwise from true north.
    fov : float
        Horizontal field of view of the whole frame, degrees, between 0 and 180.
    altitude : float
        Of the camera, metres.
    elevation : float
        Of the middle of the first frame above the horizon, degrees. The camera is not rolled.
    length : float
        Of the lines of sight, metres.

    Raises
    ------
    ConfigError
        For a value out of range.
    """

    latitude: float
    longitude: float
    heading: float
    fov: float
    altitude: float = 0.0
    elevation: float = 0.0
    length: float = LENGTH

    def __post_init__(self) -> None:
        ranges = {
            "latitude": (-90, 90),
            "longitude": (-180, 180),
            "heading": (-360, 360),
            "altitude": (-1e5, 1e5),
            "elevation": (-90, 90),
        }
        for name, (least, most) in ranges.items():
            if not least <= getattr(self, name) <= most:
                raise ConfigError(f"{name}: must be in {least:g}..{most:g}, got {getattr(self, name):g}")
        if not 0 < self.fov < 180:
            raise ConfigError(f"fov: must be above 0 and below 180 degrees, got {self.fov:g}")
        if not 0 < self.length <= 1e6:
            raise ConfigError(f"length: must be above 0 and at most 1e6 metres, got {self.length:g}")

    def rays(self, xy: Array, width: int, height: int) -> Array:
        """Unit vectors (N, 3) to east, north and up of pixels (N, 2) in frames of width x height.

        The pinhole camera of Hartley, Zisserman, Multiple View Geometry, 6.1; its focal length is
        width / (2 tan(fov / 2)) pixels.
        """
        focal = width / (2 * math.tan(math.radians(self.fov) / 2))
        right, down = ((xy - ((width - 1) / 2, (height - 1) / 2)) / focal).T[:, :, None]
        azimuth, tilt = math.radians(self.heading), math.radians(self.elevation)
        sin_a, cos_a, sin_t, cos_t = math.sin(azimuth), math.cos(azimuth), math.sin(tilt), math.cos(tilt)
        forward = np.array([sin_a * cos_t, cos_a * cos_t, sin_t])
        to_right = np.array([cos_a, -sin_a, 0.0])
        upward = np.array([-sin_a * sin_t, -cos_a * sin_t, cos_t])
        rays = forward + right * to_right - down * upward
        found: Array = rays / np.linalg.norm(rays, axis=1, keepdims=True)
        return found

    def directions(self, xy: Array, width: int, height: int) -> Array:
        """Bearings, 0..360 degrees clockwise from true north, and elevations of pixels (N, 2); (N, 2)."""
        east, north, up = self.rays(xy, width, height).T
        bearing = np.degrees(np.arctan2(east, north)) % 360
        return np.stack([bearing, np.degrees(np.arctan2(up, np.hypot(east, north)))], axis=1)

    def ends(self, xy: Array, width: int, height: int) -> Array:
        """Ends of the lines of sight of pixels (N, 2): longitude, latitude in degrees, altitude in metres."""
        latitude, longitude = math.radians(self.latitude), math.radians(self.longitude)
        sin_p, cos_p = math.sin(latitude), math.cos(latitude)
        sin_l, cos_l = math.sin(longitude), math.cos(longitude)
        to_earth = np.array(
            [
                [-sin_l, cos_l, 0.0],
                [-sin_p * cos_l, -sin_p * sin_l, cos_p],
                [cos_p * cos_l, cos_p * sin_l, sin_p],
            ]
        )
        begin = earth_of(self.latitude, self.longitude, self.altitude)
        return geodetic_of(begin + self.length * self.rays(xy, width, height) @ to_earth)


def earth_of(latitude: float, longitude: float, altitude: float) -> Array:
    """Earth-centred coordinates (3,), metres, of a place in degrees and metres (WGS 84)."""
    phi, lam = math.radians(latitude), math.radians(longitude)
    normal = _SEMI_MAJOR / math.sqrt(1 - _ECCENTRICITY * math.sin(phi) ** 2)
    flat = (normal + altitude) * math.cos(phi)
    up = (normal * (1 - _ECCENTRICITY) + altitude) * math.sin(phi)
    return np.array([flat * math.cos(lam), flat * math.sin(lam), up])


def geodetic_of(xyz: Array) -> Array:
    """Longitude, latitude in degrees and altitude in metres (N, 3) of earth-centred (N, 3).

    Bowring, Survey Review 28, 1985: one step, exact to less than a millimetre near the ground.
    """
    x, y, z = xyz.T
    flat = np.hypot(x, y)
    minor = _SEMI_MAJOR * (1 - _FLATTENING)
    second = _ECCENTRICITY / (1 - _ECCENTRICITY)
    radius = np.hypot(flat, z)
    beta = np.arctan2(minor * z * (1 + second * minor / radius), _SEMI_MAJOR * flat)
    phi = np.arctan2(
        z + second * minor * np.sin(beta) ** 3, flat - _ECCENTRICITY * _SEMI_MAJOR * np.cos(beta) ** 3
    )
    shrink = np.sqrt(1 - _ECCENTRICITY * np.sin(phi) ** 2)
    altitude = flat * np.cos(phi) + z * np.sin(phi) - _SEMI_MAJOR * shrink
    return np.stack([np.degrees(np.arctan2(y, x)), np.degrees(phi), altitude], axis=1)


@dataclass(frozen=True, eq=False)
class _Fan:
    """A track's measured points with their directions, and the lines that stand for them."""

    track: Track
    points: list[Point]
    directions: Array
    lines: list[int]  # which points
    ends: Array


def geojson_text(tracks: Tracks, view: CameraView, size: tuple[int, int]) -> str:
    """GeoJSON: the camera, its field of view, and a fan of lines of sight for each confirmed or static track.

    size: height and width of the first frame. `directions` of a track's properties has time, bearing and
    elevation of every measured point.
    """
    camera = [view.longitude, view.latitude, view.altitude]
    features = [_feature("Point", camera, {"kind": "camera", "heading": view.heading, "fov": view.fov})]
    corners = [[*camera], *_rounded(view.ends(_edge(size), size[1], size[0])), [*camera]]
    features.append(_feature("Polygon", [corners], {"kind": "field of view", "length_m": view.length}))
    for fan in _fans(tracks, view, size):
        properties = {
            "kind": "track",
            "id": fan.track.id,
            "state": fan.track.state,
            "reason": fan.track.reason,
            "begin": tracks.clock(fan.points[0].time) or None,
            "end": tracks.clock(fan.points[-1].time) or None,
            "length_m": view.length,
            "directions": [
                {"time": round(point.time, 6), "bearing": round(bearing, 4), "elevation": round(elevation, 4)}
                for point, (bearing, elevation) in zip(fan.points, fan.directions.tolist(), strict=True)
            ],
        }
        lines = [[camera, end] for end in _rounded(fan.ends)]
        features.append(_feature("MultiLineString", lines, properties))
    return json.dumps({"type": "FeatureCollection", "features": features}, allow_nan=False) + "\n"


def kml_text(tracks: Tracks, view: CameraView, size: tuple[int, int]) -> str:
    """KML: as `geojson_text`, with a placemark for each line; with times where the start is known."""
    camera = f"{view.longitude:.8f},{view.latitude:.8f},{view.altitude:.2f}"
    parts = [
        f"<Placemark><name>camera</name><Point><altitudeMode>absolute</altitudeMode>"
        f"<coordinates>{camera}</coordinates></Point></Placemark>"
    ]
    for fan in _fans(tracks, view, size):
        name = f"track {fan.track.id}" + (" (static)" if fan.track.state == "static" else "")
        marks = []
        for at, (longitude, latitude, altitude) in zip(fan.lines, fan.ends.tolist(), strict=True):
            bearing, elevation = fan.directions[at].tolist()
            clock = tracks.clock(fan.points[at].time)
            when = f"<TimeStamp><when>{clock}</when></TimeStamp>" if clock else ""
            words = f"{fan.points[at].time:.2f} s, bearing {bearing:.2f}, elevation {elevation:.2f} degrees"
            marks.append(
                f"<Placemark><name>{name}</name><description>{words}; the distance is not known"
                f"</description>{when}<LineString><altitudeMode>absolute</altitudeMode><coordinates>{camera} "
                f"{longitude:.8f},{latitude:.8f},{altitude:.2f}</coordinates></LineString></Placemark>"
            )
        parts.append(f"<Folder><name>{name}</name>{''.join(marks)}</Folder>")
    title = escape("".join(char for char in tracks.source if char.isprintable()))
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<kml xmlns="http://www.opengis.net/kml/2.2"><Document>'
        f"<name>Tracks of {title}</name>{''.join(parts)}</Document></kml>\n"
    )


def lost_view(tracks: Tracks) -> int | None:
    """The first frame of another scene, from which on the camera's direction is not known; None without."""
    return next((row.frame for row in tracks.motions if row.how == "cut"), None)


def _fans(tracks: Tracks, view: CameraView, size: tuple[int, int]) -> Iterator[_Fan]:
    height, width = size
    cut = lost_view(tracks)
    poses = _Poses(tracks)
    for one in tracks:
        points = [point for point in one.measured_points if cut is None or point.frame < cut]
        if one.state == "tentative" or not points:
            continue
        xy = np.array([poses.first(point) for point in points])
        lines = _spread(points)
        yield _Fan(
            one, points, view.directions(xy, width, height), lines, view.ends(xy[lines], width, height)
        )


class _Poses:
    """Pixels of the first frame that the pixels of later ones show, by the camera's motions."""

    def __init__(self, tracks: Tracks) -> None:
        self._frames: list[int] = []
        self._back: list[Matrix] = [np.eye(2, 3)]
        pose = np.eye(2, 3)
        for row in tracks.motions:
            if row.how == "cut":
                break
            if not np.array_equal(row.matrix, np.eye(2, 3)):
                pose = compose(pose, row.matrix)
                self._frames.append(row.frame)
                self._back.append(inverse(pose))

    def first(self, point: Point) -> Array:
        """The place (2,) in the first frame."""
        back = self._back[int(np.searchsorted(self._frames, point.frame, side="right"))]
        place: Array = apply(back, np.array([[point.x, point.y]]))[0]
        return place


def _spread(points: list[Point]) -> list[int]:
    """The first, the last, and one point each second between them, or as many as a map can show."""
    every = max(_EVERY, (points[-1].time - points[0].time) / _MOST_LINES)
    chosen = [0]
    for at, point in enumerate(points):
        if point.time - points[chosen[-1]].time >= every:
            chosen.append(at)
    return chosen if chosen[-1] == len(points) - 1 else [*chosen, len(points) - 1]


def _edge(size: tuple[int, int]) -> Array:
    """Pixels along the middle row, from the right edge to the left one: counter-clockwise on a map."""
    height, width = size
    x = np.linspace(width - 0.5, -0.5, 9)
    return np.stack([x, np.full_like(x, (height - 1) / 2)], axis=1)


def _rounded(places: Array) -> list[list[float]]:
    return [[round(x, 8), round(y, 8), round(z, 2)] for x, y, z in places.tolist()]


def _feature(kind: str, coordinates: list[Any], properties: dict[str, Any]) -> dict[str, Any]:
    geometry = {"type": kind, "coordinates": coordinates}
    return {"type": "Feature", "geometry": geometry, "properties": properties}
