"""``_include`` and ``_revinclude``: what is sent along with the matches (R4 search, 3.1.1.5.4)."""

import re
from functools import cache
from typing import NamedTuple

from app.errors import MalformedSearch
from app.fhir.definitions import RESOURCE_TYPES
from app.fhir.parameters import parameters_of


class Include(NamedTuple):
    """From ``source`` resources along ``parameter``; reversed, from those that refer to what is found."""

    source: str
    """A resource type, or ``*``."""
    parameter: str
    """A reference parameter of the source, or ``*``."""
    target: str
    """The only type that the reference may be to; empty: any."""
    iterate: bool
    """Whether it applies to what was included, too."""
    reverse: bool


_WRITTEN = re.compile(r"([A-Za-z]+|\*)(?::([A-Za-z0-9_-]+|\*))?(?::([A-Za-z]+))?", re.ASCII)


def read_include(name: str, value: str) -> Include:
    """``*``, ``Type:*``, ``Type:parameter`` or ``Type:parameter:Target``. Raises MalformedSearch."""
    code, _, modifier = name.partition(":")
    found = _WRITTEN.fullmatch(value)
    source, parameter, target = found.groups() if found else ("", None, None)
    if source == "*" and parameter is None:
        parameter = "*"
    known = source in RESOURCE_TYPES or (source == "*" and parameter == "*")
    if not known or parameter is None or (target is not None and target not in RESOURCE_TYPES):
        raise MalformedSearch(f"{code}: written Type:parameter, Type:parameter:Target, Type:* or *.")
    if modifier not in ("", "iterate"):
        raise MalformedSearch(f"{code}: the only modifier is :iterate.")
    return Include(source, parameter, target or "", modifier == "iterate", code == "_revinclude")


@cache
def reference_codes(resource_type: str) -> tuple[str, ...]:
    """The type's parameters along which something can be included."""
    found = parameters_of(resource_type).values()
    return tuple(sorted(one.code for one in found if one.type == "reference" and one.expression))


@cache
def referring(resource_type: str) -> tuple[str, ...]:
    """``Type:parameter`` of everything that may refer to the type."""
    return tuple(
        f"{source}:{code}"
        for source in sorted(RESOURCE_TYPES)
        for code in reference_codes(source)
        if resource_type in parameters_of(source)[code].targets
    )
