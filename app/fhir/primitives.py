"""R4's primitive types as tests of a JSON value with numbers as int or Decimal (datatypes.html#primitive)."""

import calendar
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

Test = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Primitive:
    """``accepts`` a JSON value of the type, and what one looks like, in words for the caller."""

    accepts: Test
    form: str


_YEAR = r"(?!0000)[0-9]{4}"
_DAY = r"(?P<month>0[1-9]|1[0-2])-(?P<day>0[1-9]|[12][0-9]|3[01])"
_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]+)?"
_ZONE = r"(?:Z|[+-](?:(?:0[0-9]|1[0-3]):[0-5][0-9]|14:00))"

_DATE = re.compile(rf"(?P<year>{_YEAR})(?:-(?:0[1-9]|1[0-2])|-{_DAY})?")
_DATE_TIME = re.compile(rf"(?P<year>{_YEAR})(?:-(?:0[1-9]|1[0-2])|-{_DAY}(?:T{_CLOCK}{_ZONE})?)?")
_INSTANT = re.compile(rf"(?P<year>{_YEAR})-{_DAY}T{_CLOCK}{_ZONE}")
_TIME = re.compile(_CLOCK)

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_CODE = re.compile(r"[^\s\x00-\x1f]+(?:\s[^\s\x00-\x1f]+)*")
_ID = re.compile(r"[A-Za-z0-9.-]{1,64}")
_URI = re.compile(r"[^\s\x00-\x1f]+")
_OID = re.compile(r"urn:oid:[0-2](?:\.(?:0|[1-9][0-9]*))+")
_UUID = re.compile(r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]+={0,2}\s*")


def _matching(pattern: re.Pattern[str]) -> Test:
    matches = pattern.fullmatch

    def accepts(value: Any) -> bool:
        return value.__class__ is str and matches(value) is not None

    return accepts


def _on_a_real_day(pattern: re.Pattern[str]) -> Test:
    """Every month has 28 days, so the calendar is asked only after them."""
    matches = pattern.fullmatch

    def accepts(value: Any) -> bool:
        if value.__class__ is not str or not (found := matches(value)):
            return False
        day = found["day"]
        return day is None or day <= "28" or int(day) <= _days(int(found["year"]), int(found["month"]))

    return accepts


def _days(year: int, month: int) -> int:
    return calendar.monthrange(year, month)[1]


def _is_boolean(value: Any) -> bool:
    return value.__class__ is bool


def _is_string(value: Any) -> bool:
    """Not empty, no control characters but tab and line ends. White space alone is allowed."""
    return value.__class__ is str and value != "" and (value.isprintable() or not _CONTROL.search(value))


def _is_base64(value: Any) -> bool:
    if value.__class__ is not str or not _BASE64.fullmatch(value):
        return False
    return len(value) % 4 == 0 or sum(map(len, value.split())) % 4 == 0


def _is_decimal(value: Any) -> bool:
    """JSON's grammar and R4's agree. A float (from another parser) is accepted, NaN and Infinity are not."""
    kind = value.__class__
    return kind is Decimal or kind is int or (kind is float and value - value == 0)


def _whole(least: int) -> Test:
    def accepts(value: Any) -> bool:
        return value.__class__ is int and least <= value <= 2_147_483_647

    return accepts


_TEXT = Primitive(_is_string, "a string that is not empty and has no control characters")
_ADDRESS = "without white space"

PRIMITIVES: Mapping[str, Primitive] = {
    "base64Binary": Primitive(_is_base64, "base64 in groups of four characters"),
    "boolean": Primitive(_is_boolean, "true or false, without quotes"),
    "canonical": Primitive(_matching(_URI), f"a canonical URL {_ADDRESS}"),
    "code": Primitive(_matching(_CODE), "a code: no white space at its ends, single spaces inside"),
    "date": Primitive(_on_a_real_day(_DATE), "a date: YYYY, YYYY-MM or YYYY-MM-DD, on the calendar"),
    "dateTime": Primitive(
        _on_a_real_day(_DATE_TIME),
        "a dateTime on the calendar: YYYY, YYYY-MM, YYYY-MM-DD or, with seconds and zone, "
        "YYYY-MM-DDThh:mm:ss+zz:zz",
    ),
    "decimal": Primitive(_is_decimal, "a decimal number, without quotes"),
    "id": Primitive(_matching(_ID), "an id: 1 to 64 of A-Z, a-z, 0-9, '-' and '.'"),
    "instant": Primitive(
        _on_a_real_day(_INSTANT),
        "an instant, with seconds and zone: YYYY-MM-DDThh:mm:ss+zz:zz, on the calendar",
    ),
    "integer": Primitive(_whole(-2_147_483_648), "an integer of 32 bits, without quotes or decimal point"),
    "markdown": _TEXT,
    "oid": Primitive(_matching(_OID), "an OID: urn:oid:1.2.3"),
    "positiveInt": Primitive(_whole(1), "a whole number from 1 to 2,147,483,647, without quotes"),
    "string": _TEXT,
    "time": Primitive(_matching(_TIME), "a time: hh:mm:ss, without a zone"),
    "unsignedInt": Primitive(_whole(0), "a whole number from 0 to 2,147,483,647, without quotes"),
    "uri": Primitive(_matching(_URI), f"a URI {_ADDRESS}"),
    "url": Primitive(_matching(_URI), f"a URL {_ADDRESS}"),
    "uuid": Primitive(
        _matching(_UUID), "a UUID in lower case: urn:uuid:00000000-0000-0000-0000-000000000000"
    ),
    "xhtml": _TEXT,  # and app.fhir.narrative looks inside
}
