"""Plausible values of a measure for a person on a day, with the digits that would be written."""

from bisect import bisect_right
from datetime import date
from decimal import Decimal
from random import Random

from app.demo.measures import MEASURES
from app.demo.person import YEAR, DemoPerson
from app.demo.problems import Levels

_GROWTH = (
    *((0, 50, 3.4), (1, 75, 9.5), (2, 87, 12.3), (4, 102, 16.3), (6, 116, 20.5), (8, 128, 25.5)),
    *((10, 138, 32.0), (12, 150, 41.0), (14, 160, 50.0), (16, 166, 58.0), (18, 169, 64.0)),
)
"""Age in years, mean height in centimetres, mean weight in kilograms (both sexes)."""

_POSSIBLE = {"saturation": (70, 100), "viral-load": (0, 10_000_000), "phq9": (0, 27), "crp": (0.2, 400)}
"""What a value cannot leave, where the arithmetic might."""


def written(number: float, places: int) -> int | Decimal:
    """``number`` with exactly ``places`` digits after the point: an int for none."""
    return round(number) if places == 0 else Decimal(f"{number:.{places}f}")


def finding(
    name: str, person: DemoPerson, day: date, random: Random, acute: Levels | None = None
) -> int | Decimal:
    """A value of the measure ``name`` near the person's usual one; ``acute`` ranges override every other."""
    measure = MEASURES[name]
    if name in ("height", "weight", "bmi"):
        return written(_size(name, person, day, random), measure.places)
    low, high = (acute or {}).get(name) or _range(name, person, day)
    usual = low + person.levels.get(name, 0.5) * (high - low)
    least, most = _POSSIBLE.get(name, (low * 0.6, high * 1.5))
    number = min(most, max(least, random.gauss(usual, (high - low) * 0.14)))
    return written(number, measure.places)


def _range(name: str, person: DemoPerson, day: date) -> tuple[float, float]:
    """The widest departure among the illnesses that had begun, else what is healthy at that age."""
    for illness in person.illnesses:
        if illness.since <= day and name in illness.problem.levels:
            return illness.problem.levels[name]
    measure = MEASURES[name]
    shift = _childhood(name, person.age(day))
    return measure.low * shift, measure.high * shift


def _childhood(name: str, age: int) -> float:
    """The part of the adult value that is usual in a child."""
    if age >= 16:
        return 1.0
    return {"pulse": 1.5 - age * 0.03, "respirations": 1.9 - age * 0.055, "systolic": 0.75 + age * 0.015}.get(
        name, 1.0
    )


def _size(name: str, person: DemoPerson, day: date, random: Random) -> float:
    height, weight = _grown(person, day)
    weight *= random.gauss(1, 0.02)
    if name == "bmi":
        return weight / (height / 100) ** 2
    return height if name == "height" else weight


def _grown(person: DemoPerson, day: date) -> tuple[float, float]:
    """Height and weight at the age of that day, in proportion to what the person grows to."""
    age = max(0.0, (day - person.born) / YEAR)
    *_, (_, full_height, full_weight) = _GROWTH
    stature, stoutness = person.height / full_height, person.weight / full_weight
    if age >= _GROWTH[-1][0]:
        return person.height, person.weight
    after = bisect_right(_GROWTH, age, key=lambda row: row[0])
    (age0, height0, weight0), (age1, height1, weight1) = _GROWTH[after - 1], _GROWTH[after]
    part = (age - age0) / (age1 - age0)
    return (height0 + part * (height1 - height0)) * stature, (weight0 + part * (weight1 - weight0)) * (
        1 + (stoutness - 1) * age / 18
    )
