"""Directions of tracks on a map, against formulas that the code does not use."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET
from datetime import datetime

import numpy as np
import pytest

from dimpoint.errors import ConfigError, DataError
from dimpoint.tracking.directions import CameraView, earth_of, geodetic_of, geojson_text, kml_text
from dimpoint.tracking.result import MotionRow, Tracks, read_tracks
from dimpoint.tracking.track import Point, Track

SIZE = (256, 320)
MIDDLE = (159.5, 127.5)


def track(*places: tuple[float, float], state: str = "confirmed", one: int = 1, step: float = 1.0) -> Track:
    points = [Point(n, n * step, x, y, 0.0, 0.0, 0.9, measured=True) for n, (x, y) in enumerate(places)]
    return Track(one, state, points)


def test_the_middle_and_the_edges_of_a_level_camera():
    view = CameraView(48.0, 11.0, heading=350.0, fov=40.0)
    found = view.directions(np.array([MIDDLE, (319.5, 127.5), (-0.5, 127.5)]), 320, 256)
    np.testing.assert_allclose(found, [(350, 0), (10, 0), (330, 0)], atol=1e-9)


def test_above_the_middle_is_higher_by_the_angle_of_the_pinhole():
    view = CameraView(48.0, 11.0, heading=90.0, fov=60.0, elevation=20.0)
    focal = 160 / math.tan(math.radians(30))
    found = view.directions(np.array([(159.5, 127.5 - 50)]), 320, 256)
    np.testing.assert_allclose(found, [(90, 20 + math.degrees(math.atan(50 / focal)))], atol=1e-9)


def test_beside_the_middle_of_a_tilted_camera():
    """Spherical trigonometry: sin(elevation) = cos(off) sin(tilt); tan(bearing) = tan(off) / cos(tilt)."""
    view = CameraView(48.0, 11.0, heading=0.0, fov=60.0, elevation=35.0)
    off, tilt = math.atan(80 / (160 / math.tan(math.radians(30)))), math.radians(35)
    found = view.directions(np.array([(159.5 + 80, 127.5)]), 320, 256)
    bearing = math.degrees(math.atan2(math.tan(off), math.cos(tilt)))
    elevation = math.degrees(math.asin(math.cos(off) * math.sin(tilt)))
    np.testing.assert_allclose(found, [(bearing, elevation)], atol=1e-9)


@pytest.mark.parametrize(
    "place", [(0, 0, 0), (90, 0, 0), (48.1, 11.5, 520), (-33.9, 151.2, -40), (-77, -170, 3e4)]
)
def test_places_on_the_earth_and_back(place):
    latitude, longitude, altitude = place
    found = geodetic_of(earth_of(*place)[None])[0]
    np.testing.assert_allclose(found, (longitude, latitude, altitude), atol=1e-5)


def test_known_places_of_the_earth_centred_system():
    np.testing.assert_allclose(earth_of(0, 0, 0), (6378137, 0, 0), atol=1e-6)
    np.testing.assert_allclose(earth_of(90, 0, 0), (0, 0, 6356752.314245), atol=1e-6)


@pytest.mark.parametrize("heading", [0.0, 70.0, 200.0])
def test_ends_of_lines_by_the_radii_of_curvature(heading):
    """Over 1 km the map is flat: metres north over the meridian's radius, east over the parallel's."""
    view = CameraView(52.0, 13.0, heading=heading, fov=30.0, altitude=100.0, elevation=10.0, length=1000.0)
    longitude, latitude, altitude = view.ends(np.array([MIDDLE]), 320, 256)[0]
    phi, e2 = math.radians(52), 0.00669437999014
    normal = 6378137 / math.sqrt(1 - e2 * math.sin(phi) ** 2)
    meridian = normal * (1 - e2) / (1 - e2 * math.sin(phi) ** 2)
    level = 1000 * math.cos(math.radians(10))
    north = math.radians(latitude - 52) * meridian
    east = math.radians(longitude - 13) * normal * math.cos(phi)
    expected = (level * math.cos(math.radians(heading)), level * math.sin(math.radians(heading)))
    assert (north, east) == pytest.approx(expected, abs=0.3)
    assert altitude == pytest.approx(100 + 1000 * math.sin(math.radians(10)), abs=0.1)


def test_geojson_holds_the_camera_its_view_and_a_fan_for_each_track():
    view = CameraView(48.0, 11.0, heading=90.0, fov=40.0, altitude=10.0, length=500.0)
    places = [(159.5 + n, 127.5) for n in range(50)]
    tracks = Tracks(
        [track(*places, step=0.1), track((9, 9), state="static", one=2), track((5, 5), state="tentative")],
        "clip.mp4",
        start=datetime.fromisoformat("2026-05-01T12:00:00+00:00"),
    )
    content = json.loads(geojson_text(tracks, view, SIZE))
    camera, field, first, second = content["features"]
    assert camera["geometry"] == {"type": "Point", "coordinates": [11.0, 48.0, 10.0]}
    ring = np.array(field["geometry"]["coordinates"][0])[:, :2]
    assert (ring[0] == ring[-1]).all()
    area = np.sum(ring[:-1, 0] * ring[1:, 1] - ring[1:, 0] * ring[:-1, 1])
    assert area > 0  # counter-clockwise, as RFC 7946 asks
    assert (first["properties"]["id"], first["properties"]["state"]) == (1, "confirmed")
    assert first["properties"]["end"] == "2026-05-01T12:00:04.900000+00:00"
    assert len(first["properties"]["directions"]) == 50
    assert first["properties"]["directions"][0] == {"time": 0.0, "bearing": 90.0, "elevation": 0.0}
    assert len(first["geometry"]["coordinates"]) == 6  # 0, 1, 2, 3, 4 and 4.9 s
    assert second["properties"]["state"] == "static"


def test_kml_has_a_line_with_its_time_and_direction():
    view = CameraView(48.0, 11.0, heading=90.0, fov=40.0)
    tracks = Tracks([track(MIDDLE)], "a <b>&.mp4", start=datetime.fromisoformat("2026-05-01T12:00:00+00:00"))
    tree = ET.fromstring(kml_text(tracks, view, SIZE))
    space = {"k": "http://www.opengis.net/kml/2.2"}
    assert tree.findtext(".//k:Document/k:name", namespaces=space) == "Tracks of a <b>&.mp4"
    mark = tree.find(".//k:Folder/k:Placemark", space)
    assert mark.findtext(".//k:when", namespaces=space) == "2026-05-01T12:00:00+00:00"
    assert "bearing 90.00, elevation 0.00" in mark.findtext("k:description", namespaces=space)
    begin, end = mark.findtext(".//k:coordinates", namespaces=space).split()
    assert begin.startswith("11.00000000,48.00000000,")
    assert float(end.split(",")[0]) == pytest.approx(
        11 + 2000 / 111_320 / math.cos(math.radians(48)), rel=2e-3
    )


def test_a_camera_that_pans_keeps_the_direction_of_what_rests_and_loses_it_at_a_cut():
    view = CameraView(48.0, 11.0, heading=0.0, fov=40.0)
    tracks = Tracks([track(MIDDLE, (149.5, 127.5), (139.5, 127.5), (10, 10))])
    pan = np.array([[1.0, 0, -10], [0, 1, 0]])
    tracks.motions = [MotionRow(n, float(n), "features", pan) for n in (1, 2)]
    tracks.motions.append(MotionRow(3, 3.0, "cut", np.eye(2, 3)))
    found = json.loads(geojson_text(tracks, view, SIZE))["features"][2]["properties"]["directions"]
    assert [(row["bearing"], row["elevation"]) for row in found] == [(0, 0)] * 3


def test_tracks_that_were_written_and_read_have_the_same_directions(tmp_path):
    """The camera's motion and the notes are read, too; without them a pan would turn the directions."""
    view = CameraView(48.0, 11.0, heading=0.0, fov=40.0)
    tracks = Tracks([track(MIDDLE, (149.5, 127.5), (139.5, 127.5))], notes=["a note"])
    tracks.motions = [
        MotionRow(n, float(n), "features", np.array([[1.0, 0, -10], [0, 1, 0]])) for n in (1, 2)
    ]
    tracks.write(tmp_path)
    again = read_tracks(tmp_path / "tracks.json")
    assert geojson_text(again, view, SIZE) == geojson_text(tracks, view, SIZE)
    assert (again.notes, again.to_dict()) == (["a note"], tracks.to_dict())


@pytest.mark.parametrize("matrix", [[[1, 0], [0, 1]], [[0, 0, 0], [0, 0, 0]], [[1, 0, "x"], [0, 1, 0]], None])
def test_a_camera_motion_that_cannot_be(tmp_path, matrix):
    content = Tracks([]).to_dict()
    content["camera_motion"] = [{"frame": 1, "time": 1, "how": "features", "matrix": matrix}]
    (tmp_path / "t.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"t\.json: is no tracks\.json"):
        read_tracks(tmp_path / "t.json")


@pytest.mark.parametrize(
    "changes",
    [
        {"latitude": 91},
        {"longitude": math.nan},
        {"fov": 180},
        {"heading": 400},
        {"length": 0},
        {"elevation": 91},
    ],
)
def test_views_that_cannot_be(changes):
    values = {"latitude": 48.0, "longitude": 11.0, "heading": 0.0, "fov": 40.0} | changes
    with pytest.raises(ConfigError, match=next(iter(changes))):
        CameraView(**values)
