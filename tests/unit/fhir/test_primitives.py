"""Each primitive type takes its format and no other."""

from decimal import Decimal
from typing import Any

import pytest

from app.fhir.primitives import PRIMITIVES

FORMATS: dict[str, tuple[list[Any], list[Any]]] = {
    "boolean": ([True, False], ["true", 1, None]),
    "integer": ([0, -2147483648, 2147483647], [2147483648, -2147483649, Decimal("1.0"), True, "1"]),
    "positiveInt": ([1], [0, -1, True]),
    "unsignedInt": ([0], [-1]),
    "decimal": ([1, Decimal("1E-7"), 0.5], ["1", True, float("nan"), float("inf"), None]),
    "string": (["a", " ", "\n"], ["", "\x07", "\x00", 1]),
    "markdown": (["# a\n"], [""]),
    "code": (["a", "a b", "<="], ["", " a", "a ", "a  b", "\x07"]),
    "id": (["a", "A-1.b", "x" * 64], ["", "a_b", "x" * 65, "a b", "é", "a\n"]),
    "uri": (["urn:x", "a", "é"], ["", "a b", " a"]),
    "url": (["https://x.org/?a=b"], ["", "a b"]),
    "canonical": (["http://x.org/a|1"], [""]),
    "oid": (["urn:oid:1.2.840"], ["1.2.3", "urn:oid:3.1", "urn:oid:1.02"]),
    "uuid": (
        ["urn:uuid:4b2cbdd5-0d52-4d5d-8ddb-0f0d1c8a8f10"],
        ["4b2cbdd5-0d52-4d5d-8ddb-0f0d1c8a8f10", "urn:uuid:4B2CBDD5-0D52-4D5D-8DDB-0F0D1C8A8F10"],
    ),
    "base64Binary": (["AAAA", "AA==", "AAAA\nAAA="], ["", "A", "AAA", "AA=A", "A===", "é==="]),
    "date": (
        ["2020", "2020-02", "2020-02-29", "1900-01-31", "2000-02-29"],
        [
            "2021-02-29",
            "1900-02-29",
            "2020-04-31",
            "0000",
            "20",
            "2020-13",
            "2020-1-1",
            "2020-02-30",
            "２０２０",
        ],
    ),
    "dateTime": (
        ["2020", "2020-02-29T00:00:00Z", "2020-01-01T10:00:00.1+01:00", "2016-12-31T23:59:60Z"],
        ["2020-01-01T10:00Z", "2020-01-01T10:00:00", "2020-01-01T24:00:00Z", "2021-02-29T00:00:00Z"],
    ),
    "instant": (
        ["2020-01-01T10:00:00-14:00"],
        ["2020-01-01", "2020-01-01T10:00:00+14:30", "2021-04-31T00:00:00Z"],
    ),
    "time": (["10:00:00", "10:00:00.5"], ["10:00", "24:00:00", "10:00:00Z"]),
    "xhtml": (["<div/>"], [""]),
}


@pytest.mark.parametrize("name", sorted(PRIMITIVES))
def test_a_primitive_takes_its_format_and_no_other(name: str) -> None:
    good, bad = FORMATS[name]
    assert [value for value in good if not PRIMITIVES[name].accepts(value)] == []
    assert [value for value in bad if PRIMITIVES[name].accepts(value)] == []
