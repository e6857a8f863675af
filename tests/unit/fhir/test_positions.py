"""No box leaves out what a circle holds, anywhere on Earth (R4 Location, near)."""

from math import asin, atan2, cos, degrees, pi, radians, sin

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from app.errors import MalformedSearch
from app.fhir.criteria import NEAR_METRES, NearCriterion, near
from app.fhir.positions import EARTH_RADIUS_METRES, Circle, metres_between

latitudes = st.floats(-90, 90) | st.sampled_from([-90.0, -89.9999, 0.0, 89.9999, 90.0])
longitudes = st.floats(-180, 180) | st.sampled_from([-180.0, -179.9999, 0.0, 179.9999, 180.0])
distances = st.floats(0, 2.1e7) | st.floats(0, 1_000)
bearings = st.floats(0, 2 * pi)


def destination(latitude: float, longitude: float, metres: float, bearing: float) -> tuple[float, float]:
    """Where one comes to, straight on: the direct formula, which nothing here is measured by."""
    phi, angle = radians(latitude), metres / EARTH_RADIUS_METRES
    there = asin(max(-1.0, min(1.0, sin(phi) * cos(angle) + cos(phi) * sin(angle) * cos(bearing))))
    east = atan2(sin(bearing) * sin(angle) * cos(phi), cos(angle) - sin(phi) * sin(there))
    return degrees(there), (longitude + degrees(east) + 540) % 360 - 180


@given(latitudes, longitudes, distances, bearings, st.floats(0, 1))
@example(89.9, 0.0, 30_000.0, 0.0, 1.0)
@example(0.0, 179.99, 5_000.0, pi / 2, 1.0)
@example(-33.0, -179.99, 5_000.0, 3 * pi / 2, 0.9)
def test_what_lies_within_the_distance_is_in_the_circle_and_its_boxes(
    latitude: float, longitude: float, metres: float, bearing: float, part: float
) -> None:
    circle = Circle(latitude, longitude, metres)
    there = destination(latitude, longitude, metres * part, bearing)
    assert any(box.holds(*there) for box in circle.boxes)
    # The formula loses some centimetres near the poles and the other side.
    assume(part < 0.9999 or metres < 1)
    assert Circle(latitude, longitude, metres + 1).holds(*there)


@pytest.mark.parametrize("latitude", [0, 30, 60, 75, -60])
@pytest.mark.parametrize("part", [0.3, 0.9, 0.99])
def test_the_boxes_are_as_wide_as_the_circle_is_where_it_is_widest(latitude: float, part: float) -> None:
    metres = radians(90 - abs(latitude)) * EARTH_RADIUS_METRES * part
    boxes = Circle(latitude, 170, metres).boxes
    for degree in range(360):
        there = destination(latitude, 170, metres, radians(degree))
        assert any(box.holds(*there) for box in boxes), degree


@given(latitudes, longitudes, latitudes, longitudes, distances)
def test_what_is_farther_away_is_not_in_the_circle(
    latitude: float, longitude: float, other: float, elsewhere: float, metres: float
) -> None:
    away = metres_between(latitude, longitude, other, elsewhere)
    assume(abs(away - metres) > 0.1)
    assert Circle(latitude, longitude, metres).holds(other, elsewhere) is (away < metres)


@given(latitudes, longitudes, latitudes, longitudes)
def test_a_distance_is_the_same_there_and_back(a: float, b: float, c: float, d: float) -> None:
    assert metres_between(a, b, c, d) == pytest.approx(metres_between(c, d, a, b), abs=1e-6)
    assert metres_between(a, b, a, b) == 0


def test_distances_are_those_of_the_mean_sphere() -> None:
    assert metres_between(0, 0, 0, 180) == pytest.approx(pi * EARTH_RADIUS_METRES)
    assert metres_between(90, 17, -90, 0) == pytest.approx(pi * EARTH_RADIUS_METRES)
    # Leeds and York, by hand.
    assert metres_between(53.7997, -1.5492, 53.96, -1.0873) == pytest.approx(35_176, abs=50)


@given(longitudes, longitudes)
def test_at_a_pole_every_longitude_is_the_same_place(one: float, other: float) -> None:
    assert Circle(90, one, 0).holds(90, other)
    assert Circle(-90, one, 0).holds(-90, other)


def test_both_ends_of_longitude_are_the_same_place() -> None:
    assert Circle(10, 180, 0).holds(10, -180)
    assert Circle(10, -180, 0).holds(10, 180)
    assert Circle(10, 179.999, 500).holds(10, -179.999)
    assert not Circle(10, 179.999, 100).holds(10, -179.999)


# What is asked.


@pytest.mark.parametrize(
    ("text", "circle"),
    [
        ("53.8|-1.55|11.2|km", Circle(53.8, -1.55, 11_200)),
        ("53.8|-1.55|11.2", Circle(53.8, -1.55, 11_200)),
        ("53.8|-1.55|11.2|", Circle(53.8, -1.55, 11_200)),
        ("53.8|-1.55|5|[mi_i]", Circle(53.8, -1.55, 8_046.72)),
        ("-90|180|0|m", Circle(-90, 180, 0)),
        ("0|0|250|cm", Circle(0, 0, 2.5)),
        ("0|0", Circle(0, 0, NEAR_METRES)),
        ("0|0||kg", Circle(0, 0, NEAR_METRES)),  # "units are irrelevant" without a distance
    ],
)
def test_a_circle_is_written_as_r4_has_it(text: str, circle: Circle) -> None:
    assert near("near", [text]) == NearCriterion("near", (circle,))


@pytest.mark.parametrize(
    "text",
    [
        *("", "53.8", "|", "53.8|", "x|y", "90.1|0", "-91|0|1", "0|180.5", "0|-181", "0|0|-1|km", "0|0|x|km"),
        *("0|0|1|kg", "0|0|1|mile", "0|0|1|km|x", "0|0|1e3|km", "1e1|0", "٥|0", "0|0|1|m2", "+1|0", " 1|0"),
    ],
)
def test_a_place_that_is_nowhere_is_refused(text: str) -> None:
    with pytest.raises(MalformedSearch, match="latitude"):
        near("near", [text])
