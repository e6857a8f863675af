"""JSON or XML, plain or pretty: what the caller wants and what a resource's text becomes (R4 http, 3.1.0.1.11).

``_format`` wins over ``Accept``. Inside the service every resource is its JSON text; XML is made last and read first.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

from starlette.responses import Response

from app.api.coding import Coding, coding, response, weight
from app.errors import NotAcceptable, UnsupportedMediaType
from app.fhir.text import pretty
from app.fhir.xml import to_xml

FHIR_JSON = "application/fhir+json; charset=utf-8"
FHIR_XML = "application/fhir+xml; charset=utf-8"

VARIES = {"Vary": "Accept, Accept-Encoding"}
"""What the form of an answer depends on beside its address (RFC 9110, 12.5.5)."""

_JSON = frozenset({"application/fhir+json", "application/json", "text/json", "json"})
_XML = frozenset({"application/fhir+xml", "application/xml", "text/xml", "xml"})
FHIR_ALONE = frozenset({"application/fhir+json", "application/fhir+xml"})
"""Media types that mean a resource and nothing else."""
GENERIC = (_JSON | _XML) - FHIR_ALONE
"""Media types that mean a resource here, and may be those of anything."""
_ANY = frozenset({"*/*", "application/*", ""})
_OURS = re.compile(r"4\.0(\.[0-9]+)?|R4", re.ASCII)


@dataclass(frozen=True, slots=True)
class Representation:
    """How an answer is written."""

    is_xml: bool = False
    is_pretty: bool = False
    coding: Coding = Coding.PLAIN

    @property
    def takes_long(self) -> bool:
        """Whether a large body is better written out of the event loop."""
        return self.is_xml or self.is_pretty

    def response(self, text: str, status: int, headers: Mapping[str, str]) -> Response:
        """The answer whose body is the resource ``text``, in JSON. Raises NotAcceptable where XML cannot hold it."""
        media_type = FHIR_XML if self.is_xml else FHIR_JSON
        return response(self.write(text), status, {**headers, **VARIES}, media_type, self.coding)

    def write(self, text: str) -> str:
        if not text:
            return text
        if self.is_xml:
            return to_xml(text, pretty=self.is_pretty)
        return pretty(text) if self.is_pretty else text


PLAIN_JSON = Representation()


def wanted(scope: Mapping[str, object], headers: Mapping[bytes, bytes]) -> Representation:
    """What the request asks for. Raises NotAcceptable when it is neither JSON nor XML of FHIR R4."""
    accept = headers.get(b"accept", b"*/*")
    query = scope.get("query_string", b"")
    named = query if isinstance(query, bytes) and b"_" in query else b""
    return _wanted(accept, named, headers.get(b"accept-encoding"))


def wanted_or_plain(scope: Mapping[str, Any]) -> Representation:
    """What the request asks for, as far as that can be told: JSON otherwise. For refusals."""
    try:
        return wanted(scope, dict(scope["headers"]))
    except NotAcceptable:
        return PLAIN_JSON


@lru_cache(maxsize=1024)
def _wanted(accept: bytes, query: bytes, accept_encoding: bytes | None) -> Representation:
    asked = dict(parse_qsl(query.decode("latin-1"))) if b"_format" in query or b"_pretty" in query else {}
    is_pretty = asked.get("_pretty", "").lower() == "true"
    if formatted := asked.get("_format"):
        # In a query a ``+`` that was not escaped arrives as a space.
        is_xml = _is_xml(formatted.strip().lower().replace(" ", "+"))
    else:
        is_xml = _best(accept.decode("latin-1"))
    return Representation(is_xml, is_pretty, coding(accept_encoding))


def alternatives(accept: str) -> list[tuple[str, float]]:
    """The media types of an ``Accept`` with their weights; without those of another version of FHIR."""
    found = []
    for part in accept.split(","):
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if _is_ours(parameters):
            found.append((media, weight(parameters)))
    return found


def _best(accept: str) -> bool:
    """Whether XML is preferred (RFC 9110, 12.5.1); JSON where the caller does not mind."""
    named: dict[bool, float] = {}
    anything = 0.0
    for media, weighs in alternatives(accept):
        if media in _ANY:
            anything = max(anything, weighs)
        elif media in _JSON | _XML:
            named[media in _XML] = max(named.get(media in _XML, 0.0), weighs)
    # What is named counts by its own weight alone, and for more than a wildcard of the same.
    weights = {is_xml: named.get(is_xml, anything) for is_xml in (False, True)}
    best = max(weights, key=lambda is_xml: (weights[is_xml], is_xml in named, not is_xml))
    if weights[best] == 0.0:
        raise NotAcceptable
    return best


def _is_xml(media_type: str) -> bool:
    media, *parameters = (piece.strip() for piece in media_type.split(";"))
    if media not in _JSON | _XML or not _is_ours(parameters):
        raise NotAcceptable
    return media in _XML


def _is_ours(parameters: list[str]) -> bool:
    """``fhirVersion`` names R4 or nothing (R4 versioning, 2.1.0.5)."""
    versions = [one.partition("=")[2].strip('"') for one in parameters if one.startswith("fhirversion=")]
    return all(_OURS.fullmatch(one) for one in versions)


def is_xml_body(content_type: str) -> bool:
    """Whether a body is XML rather than JSON. Raises UnsupportedMediaType when it says to be neither."""
    media, *parameters = (piece.strip().lower() for piece in content_type.split(";"))
    if media not in (_JSON | _XML) - {"json", "xml"} or not _is_ours(parameters):
        raise UnsupportedMediaType
    return media in _XML
