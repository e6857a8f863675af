"""Binary over HTTP: the bytes as they are, or in a resource (R4 binary, "Serving Binary Resources").

What is stored may be HTML, SVG or a script, written by anybody who may write. It never runs in our origin: no sniffing,
a sandbox without any source, and nothing but inert types is shown in place.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.types import Scope

from app.api.caller import body
from app.api.coding import Coding, coding, response
from app.api.preferences import preferred
from app.api.representation import (
    FHIR_ALONE,
    GENERIC,
    VARIES,
    Representation,
    alternatives,
    is_xml_body,
    wanted,
    wanted_or_plain,
)
from app.asked import Asked, Preference
from app.errors import BadRequest, MalformedBody, NotAcceptable, UnsupportedMediaType
from app.fhir.binaries import Content, media_type, unwrapped, wrapped
from app.fhir.text import Parsed, parse
from app.fhir.xml import from_xml

_CONTEXT = "X-Security-Context"
_REFERENCE = re.compile(r"[\x21-\x7e]{1,1024}")
_OF_THE_RESOURCE = (b"_format", b"_pretty", b"_summary", b"_elements")

_SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Accept-Ranges": "none",
    **VARIES,
}

_SHOWN = frozenset(
    {
        "application/dicom",
        "application/pdf",
        "image/bmp",
        "image/gif",
        "image/jpeg",
        "image/png",
        "image/tiff",
        "image/webp",
        "text/plain",
    }
)
"""Types that hold nothing a browser would run, sandboxed as they are; any other is for saving."""


@dataclass(frozen=True, slots=True)
class Native(Representation):
    """A Binary's bytes under its own media type, unless the caller named one of FHIR's for the resource."""

    accept: str = "*/*"

    @property
    def takes_long(self) -> bool:
        return True

    def response(self, text: str, status: int, headers: Mapping[str, str]) -> Response:
        content = unwrapped(text) if status == 200 else None
        resource = Representation(self.is_xml, self.is_pretty, self.coding)
        if content is None or not prefers_bytes(self.accept, content.essence):
            return resource.response(text, status, headers)
        return _bytes(content, headers, self.coding)


def _bytes(content: Content, headers: Mapping[str, str], accepted: Coding) -> Response:
    # Named here, or the framework adds a charset that the custodian did not state.
    told = {**headers, **_SAFE, "Content-Type": content.media_type}
    if content.essence not in _SHOWN:
        told["Content-Disposition"] = "attachment"
    if _REFERENCE.fullmatch(content.context):
        told[_CONTEXT] = content.context
    if accepted is Coding.WHERE_IT_PAYS and not _shrinks(content.essence):
        accepted = Coding.PLAIN
    return response(content.data, 200, told, content.media_type, accepted)


def _shrinks(essence: str) -> bool:
    return essence.startswith("text/") or essence.endswith(("json", "xml"))


def wanted_of_binary(scope: Scope, headers: Mapping[bytes, bytes]) -> Representation:
    """How a Binary is read: ``_format`` and what asks for a part of the resource mean the resource."""
    query = scope["query_string"]
    if any(name in query for name in _OF_THE_RESOURCE):
        return wanted(scope, headers)
    return _native(headers.get(b"accept", b"*/*"), headers.get(b"accept-encoding"))


@lru_cache(maxsize=256)
def _native(accept: bytes, accept_encoding: bytes | None) -> Native:
    text = accept.decode("latin-1") or "*/*"
    weights: dict[str, float] = {}
    for media, weighs in alternatives(text):
        if media in FHIR_ALONE | GENERIC:
            form = "xml" if "xml" in media else "json"
            weights[form] = max(weights.get(form, 0.0), weighs)
    is_xml = weights.get("xml", 0.0) > weights.get("json", 0.0)
    return Native(is_xml, False, coding(accept_encoding), text)


@lru_cache(maxsize=1024)
def prefers_bytes(accept: str, native: str) -> bool:
    """Whether the bytes of type ``native`` are wanted rather than the resource. Raises NotAcceptable for neither.

    "When a read request is made for the binary resource that doesn't explicitly specify the FHIR content types
    application/fhir+xml or application/fhir+json, then the content should be returned using the content type stated
    in the resource", and for the general types of JSON and XML, "if the content-type format matches".
    """
    weights: dict[str, float] = {}
    for media, weighs in alternatives(accept):
        kind = _kind(media, native)
        weights[kind] = max(weights.get(kind, 0.0), weighs)
    fhir = weights.get("fhir", 0.0)
    # What is named exactly counts by its own weight, though a wildcard's may be larger (RFC 9110, 12.5.1).
    content = weights.get("native", weights.get("wildcard", 0.0))
    if fhir or content:
        return content > fhir
    if weights.get("general") or weights.get("wildcard"):
        return False
    if not weights.get("other"):
        raise NotAcceptable("Accept excludes the bytes of this Binary as well as the resource.")
    return True


def _kind(media: str, native: str) -> str:
    """How one alternative of ``Accept`` stands to the Binary."""
    if media in FHIR_ALONE:
        return "fhir"
    if media == native:
        return "native"
    if media in GENERIC:
        return "general"
    return "wildcard" if media in ("", "*/*", native.partition("/")[0] + "/*") else "other"


def wanted_of_write(scope: Scope, headers: Mapping[bytes, bytes]) -> Representation:
    """How a write of a Binary is answered: whoever accepts its own type alone gets a refusal in JSON all the same."""
    return wanted_or_plain(scope)


async def binary_body(asked: Asked, http: HttpRequest, limit: int, id: str | None = None) -> bytes | str:
    """The text of the Binary that was sent: the resource itself, or bytes of any type, which become one.

    Sent as bytes, it is not sent back unless that is asked for. Raises UnsupportedMediaType, TooLarge, MalformedBody or
    BadRequest.
    """
    said = media_type(http.headers.get("content-type", ""))
    if said is None:
        raise UnsupportedMediaType("Say by Content-Type what the bytes are.")
    sent, context = await body(http, limit), _context(http)
    resource = _resource(sent, said)
    if resource is None:
        if preferred(http.scope["headers"], "return") is None:
            asked.prefers = Preference.MINIMAL
        return wrapped(Content(sent, said, context), id)
    if context not in ("", _own_context(resource)):
        raise BadRequest(
            f"{_CONTEXT} is for bytes sent as they are; in a resource it is securityContext.",
            expression="Binary.securityContext",
        )
    return resource.text


def _resource(sent: bytes, said: str) -> Parsed | None:
    """What was sent as a Binary resource; None where it is content.

    "The data is accepted as is and treated as the content of a Binary, including when the content type is
    application/fhir+xml or application/fhir+json, except for the special case where the content is actually a Binary
    resource." Of FHIR's own types it has to be well-formed, or else a resource cut short would be kept as bytes.
    """
    essence = said.partition(";")[0].strip().lower()
    if essence not in FHIR_ALONE | GENERIC:
        return None
    try:
        parsed = parse(from_xml(sent) if is_xml_body(said) else sent)
    except MalformedBody:
        if essence in FHIR_ALONE:
            raise
        return None
    return parsed if parsed.value.get("resourceType") == "Binary" else None


def _context(http: HttpRequest) -> str:
    given = http.headers.get(_CONTEXT, "").strip()
    if given and not _REFERENCE.fullmatch(given):
        raise BadRequest(f"{_CONTEXT} is a reference, as Patient/[id] or DocumentReference/[id].")
    return given


def _own_context(parsed: Parsed) -> object:
    context = parsed.value.get("securityContext")
    return context.get("reference") if isinstance(context, dict) else None
