"""Fixed values, patterns, and the bounds of ordered ones (R4 elementdefinition: fixed[x], pattern[x], minValue[x])."""

import json
from decimal import Decimal
from typing import Any

from app.fhir.dates import span_of
from app.fhir.profiles.elements import Fixed

_LONGEST_SHOWN = 120


def matches(value: Any, wanted: Fixed) -> bool:
    """Whether ``value`` is exactly what is fixed, or has everything that the pattern has."""
    return same(value, wanted.value) if wanted.exact else contains(value, wanted.value)


def same(value: Any, wanted: Any) -> bool:
    """Equal JSON. Numbers are compared by value, and true is not 1."""
    if isinstance(wanted, dict):
        return (
            isinstance(value, dict)
            and value.keys() == wanted.keys()
            and all(same(value[name], part) for name, part in wanted.items())
        )
    if isinstance(wanted, list):
        return isinstance(value, list) and len(value) == len(wanted) and all(map(same, value, wanted))
    return _equal(value, wanted)


def contains(value: Any, pattern: Any) -> bool:
    """What the pattern states is there, and more may be; an item of an array anywhere in the array."""
    if isinstance(pattern, dict):
        return isinstance(value, dict) and all(
            contains(value.get(name), part) for name, part in pattern.items()
        )
    if isinstance(pattern, list):
        return isinstance(value, list) and all(
            any(contains(item, part) for item in value) for part in pattern
        )
    return _equal(value, pattern)


def _equal(value: Any, wanted: Any) -> bool:
    if isinstance(value, float):
        value = Decimal(repr(value))
    return isinstance(value, bool) == isinstance(wanted, bool) and bool(value == wanted)


def shown(value: Any) -> str:
    """A value of the profile's, for a sentence; never one of the resource's."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"


# Order.


def ordering(value: Any, bound: Any) -> int | None:
    """-1 when ``value`` is surely less than ``bound``, 1 when surely more, 0 otherwise; None: not comparable."""
    if isinstance(value, dict) and isinstance(bound, dict):
        alike = all(value.get(name) == bound.get(name) for name in ("system", "code"))
        return ordering(value.get("value"), bound.get("value")) if alike else None
    if isinstance(value, str) and isinstance(bound, str):
        return _in_time(value, bound)
    if isinstance(value, int | float | Decimal) and isinstance(bound, int | float | Decimal):
        return (value > bound) - (value < bound)
    return None


def _in_time(value: str, bound: str) -> int | None:
    """A date is a range: it is before another when it ends before that begins. Times are ordered as text."""
    one, other = span_of(value), span_of(bound)
    if one is not None and other is not None:
        return (one.lo >= other.hi) - (one.hi <= other.lo)
    times = value[2:3] == value[5:6] == bound[2:3] == bound[5:6] == ":"
    return (value > bound) - (value < bound) if times else None
