"""What is near a point: circles on a sphere, and the boxes around them by which an index finds candidates (R4 near).

Positions are degrees of WGS 84; a great circle is measured on the sphere of the Earth's mean radius, which is at most
0.6 % from the ellipsoid. A centimetre is added to every distance: more than rounding loses.
"""

from dataclasses import dataclass
from math import asin, cos, degrees, pi, radians, sin, sqrt

EARTH_RADIUS_METRES = 6_371_008.8
"""The mean radius of the International Union of Geodesy and Geophysics."""

_ROUNDING_METRES = 0.01
_MARGIN_DEGREES = 1e-6


@dataclass(frozen=True, slots=True)
class Box:
    """Degrees; ``west`` is never east of ``east``."""

    south: float
    north: float
    west: float
    east: float

    def holds(self, latitude: float, longitude: float) -> bool:
        return self.south <= latitude <= self.north and self.west <= longitude <= self.east


@dataclass(frozen=True, slots=True)
class Circle:
    """Everything at most ``metres`` from a point, along the surface."""

    latitude: float
    longitude: float
    metres: float

    @property
    def _angle(self) -> float:
        return min((self.metres + _ROUNDING_METRES) / EARTH_RADIUS_METRES, pi)

    @property
    def most(self) -> float:
        """The largest haversine of an angle within it."""
        return sin(self._angle / 2) ** 2

    @property
    def boxes(self) -> tuple[Box, Box]:
        """All of it is in one of the two, which are the same unless it lies across the antimeridian."""
        height = degrees(self._angle) + _MARGIN_DEGREES
        south, north = self.latitude - height, self.latitude + height
        if south <= -90 or north >= 90:  # a pole is in it, and with it every longitude
            every = Box(max(south, -90), min(north, 90), -180, 180)
            return every, every
        width = degrees(asin(min(1.0, sin(self._angle) / cos(radians(self.latitude))))) + _MARGIN_DEGREES
        west, east = self.longitude - width, self.longitude + width
        if west < -180:
            return Box(south, north, west + 360, 180), Box(south, north, -180, east)
        if east > 180:
            return Box(south, north, west, 180), Box(south, north, -180, east - 360)
        return Box(south, north, west, east), Box(south, north, west, east)

    def holds(self, latitude: float, longitude: float) -> bool:
        """As SQL over a stored position: in one of the boxes, and its haversine at most ``most``."""
        near = any(box.holds(latitude, longitude) for box in self.boxes)
        return near and haversine(self.latitude, self.longitude, latitude, longitude) <= self.most


def haversine(latitude: float, longitude: float, other_latitude: float, other_longitude: float) -> float:
    """Of the angle between two positions, 0 to 1."""
    north, east = radians(other_latitude - latitude) / 2, radians(other_longitude - longitude) / 2
    return sin(north) ** 2 + cos(radians(latitude)) * cos(radians(other_latitude)) * sin(east) ** 2


def metres_between(latitude: float, longitude: float, other_latitude: float, other_longitude: float) -> float:
    """Along the great circle."""
    found = min(1.0, haversine(latitude, longitude, other_latitude, other_longitude))
    return 2 * EARTH_RADIUS_METRES * asin(sqrt(found))
