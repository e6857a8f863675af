"""What is kept of a resource so that searches find it: keys and rows, by the type of search parameter.

``Found`` collects them for one resource; ``app.fhir.writers`` fills it.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple


class DateRow(NamedTuple):
    """A stored range; ``hi`` is out."""

    parameter: str
    lo: datetime
    hi: datetime


class StringRow(NamedTuple):
    parameter: str
    folded: str
    exact: str


class QuantityRow(NamedTuple):
    """A quantity, number or amount: all that it may be, from ``lo`` to ``hi``, both in.

    They are the value twice, with however many digits it is written; the ends of a Range or of samples; and one is
    infinite where a comparator or a missing end leaves it open. Then ``comparator`` is ``<``, ``<=``, ``>=`` or
    ``>``, of which ``<`` and ``>`` take the other end out. ``value`` is None for a Range or SampledData.

    ``canonical_lo`` and ``canonical_hi`` are the same in ``canonical_unit`` (``app.fhir.ucum``), by which values in
    all units of a kind can be compared; None and empty unless the unit is UCUM's.
    """

    parameter: str
    lo: Decimal
    hi: Decimal
    system: str = ""
    code: str = ""
    unit: str = ""
    value: Decimal | None = None
    comparator: str = ""
    canonical_lo: Decimal | None = None
    canonical_hi: Decimal | None = None
    canonical_unit: str = ""


class Reference(NamedTuple):
    """A reference to a record: of this base (``type`` and ``id``), or whatever ``url`` names."""

    parameter: str
    type: str | None
    id: str | None
    url: str | None


class Position(NamedTuple):
    """Decimal degrees, WGS 84."""

    parameter: str
    latitude: Decimal
    longitude: Decimal


class IndexValues(NamedTuple):
    """All that searches may find one resource by."""

    tokens: tuple[int, ...] = ()
    """Keys of tokens, references and URIs; sorted, each once."""
    dates: tuple[DateRow, ...] = ()
    strings: tuple[StringRow, ...] = ()
    quantities: tuple[QuantityRow, ...] = ()
    references: tuple[Reference, ...] = ()
    composites: tuple["Composite", ...] = ()
    positions: tuple[Position, ...] = ()
    present: tuple[int, ...] = ()
    """Keys of the parameters that have any value (``app.fhir.keys.present_key``), sorted."""


class Composite(NamedTuple):
    """One element's values for a composite: a search must find all of its parts here, not spread over elements."""

    parameter: str
    components: tuple[IndexValues, ...]
    """In the composite's order, each under its component's own code."""


class Found:
    """What has been written so far for one resource."""

    __slots__ = (
        "base_url",
        "composites",
        "dates",
        "positions",
        "present",
        "quantities",
        "references",
        "resource",
        "strings",
        "tokens",
    )

    def __init__(self, resource: Mapping[str, Any], base_url: str) -> None:
        self.resource = resource
        self.base_url = base_url
        self.tokens: list[int] = []
        self.dates: list[DateRow] = []
        self.strings: list[StringRow] = []
        self.quantities: list[QuantityRow] = []
        self.references: list[Reference] = []
        self.composites: list[Composite] = []
        self.positions: list[Position] = []
        self.present: set[int] = set()

    def values(self) -> IndexValues:
        return IndexValues(
            tuple(sorted(set(self.tokens))),
            tuple(dict.fromkeys(self.dates)),
            tuple(dict.fromkeys(self.strings)),
            tuple(dict.fromkeys(self.quantities)),
            tuple(dict.fromkeys(self.references)),
            tuple(self.composites),
            tuple(dict.fromkeys(self.positions)),
            tuple(sorted(self.present)),
        )


def text_of(value: Any, name: str) -> str | None:
    """A member that is a string and not empty."""
    found = value.get(name) if type(value) is dict else None
    return found if type(found) is str and found else None


def texts_of(value: Any, name: str) -> Iterator[str]:
    found = value.get(name) if type(value) is dict else None
    for one in found if type(found) is list else ():
        if type(one) is str and one:
            yield one


def members_of(value: Any, name: str) -> list[Any]:
    found = value.get(name) if type(value) is dict else None
    return found if type(found) is list else []
