"""The requests that a Bundle of type transaction or batch holds (R4 http, 3.1.0.11; bundle, 2.36.4).

Read strictly: a condition that was misspelt, or stands where it means nothing, would be one that does not hold.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from urllib.parse import unquote

from app.errors import BadRequest, TooLarge
from app.fhir.dates import asked_span
from app.fhir.definitions import RESOURCE_TYPES
from app.fhir.primitives import PRIMITIVES
from app.fhir.text import Parsed, Span, array_item_spans, member_spans, parse

MOST_ENTRIES: Final = 5_000
FHIR_JSON: Final = "application/fhir+json"
READS: Final = frozenset({"GET", "HEAD"})
METHODS: Final = ("DELETE", "POST", "PUT", "PATCH", "GET", "HEAD")
"""In the order in which they are carried out, PUT and PATCH as one, GET and HEAD as one (R4 http, 3.1.0.11.2)."""

_ORDER: Final = {"DELETE": 0, "POST": 1, "PUT": 2, "PATCH": 2, "GET": 3, "HEAD": 3}
_CONDITIONS: Final[Mapping[str, frozenset[str]]] = {
    "ifNoneExist": frozenset({"POST"}),
    "ifMatch": frozenset({"PUT", "PATCH", "DELETE"}),
    "ifNoneMatch": frozenset({"GET", "HEAD", "PUT"}),
    "ifModifiedSince": READS,
}
_OF_ANY: Final = frozenset({"id", "extension"})
_OF_ENTRY: Final = _OF_ANY | {"fullUrl", "resource", "request", "link", "search", "response"}
_OF_REQUEST: Final = _OF_ANY | {"method", "url", *_CONDITIONS}
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:|/")
_RESTFUL: Final = re.compile(r"(https?://.+)/([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})\Z")


@dataclass(frozen=True, slots=True)
class BundleRequest:
    """One entry, as asked."""

    place: int
    method: str
    path: str
    """Below the base and percent-decoded: ``Patient/p1``."""
    query: str
    """As it was sent, without the question mark."""
    full_url: str | None
    text: str | None
    """Of the resource, as it was sent."""
    resource_type: str
    """What the resource says it is; empty without one."""
    given_id: object
    """What the resource has for its id."""
    if_none_exist: str | None = None
    if_match: str | None = None
    if_none_match: str | None = None
    if_modified_since: datetime | None = None

    @property
    def url(self) -> str:
        return f"{self.path}?{self.query}" if self.query else self.path

    @property
    def reads(self) -> bool:
        return self.method in READS

    @property
    def order(self) -> int:
        return _ORDER[self.method]

    @property
    def sent(self) -> tuple[str, bytes]:
        """Media type and body, as the request would have them by itself.

        What no resource can say is sent inside a Binary: a JSON Patch, the form of a search. Raises BadRequest.
        """
        is_search = self.path.endswith("/_search")
        if self.text is None:
            return ("application/x-www-form-urlencoded" if is_search else FHIR_JSON), b""
        if (is_search or self.method == "PATCH") and self.resource_type == "Binary":
            return _unwrapped(parse(self.text).value)
        return FHIR_JSON, self.text.encode()


@dataclass(frozen=True, slots=True)
class Bundled:
    kind: Literal["transaction", "batch"]
    requests: tuple[BundleRequest, ...]


def read_bundle(body: bytes | str, base_url: str) -> Bundled:
    """The requests of ``body``, each resource's text cut out as it was sent.

    ``base_url`` is our own: an address may begin with it. Raises MalformedBody, TooLarge for too many entries, and
    BadRequest, which names the entry.
    """
    parsed = parse(body)
    if parsed.value.get("resourceType") != "Bundle":
        raise BadRequest("Only a Bundle of type transaction or batch is accepted here.", expression="Bundle")
    kind = parsed.value.get("type")
    if kind not in ("transaction", "batch"):
        raise BadRequest(
            "Only a Bundle of type transaction or batch is accepted here.", expression="Bundle.type"
        )
    return Bundled(kind, requests_of(parsed, base_url))


def requests_of(parsed: Parsed, base_url: str) -> tuple[BundleRequest, ...]:
    """The requests of a Bundle's entries. Raises TooLarge, and BadRequest, which names the entry."""
    entries = parsed.value.get("entry", [])
    if isinstance(entries, list) and len(entries) > MOST_ENTRIES:
        raise TooLarge(
            f"A transaction or batch holds {MOST_ENTRIES:,} entries at most; this one has {len(entries):,}. "
            "Send them in several.",
            expression="Bundle.entry",
        )
    return tuple(
        _request(place, value, spans, parsed.text, base_url)
        for place, (value, spans) in enumerate(spans_of_entries(parsed))
    )


def spans_of_entries(parsed: Parsed) -> list[tuple[Any, Mapping[str, Span]]]:
    """Each entry of a Bundle as a value, and where its members stand in the text. Raises BadRequest."""
    values = parsed.value.get("entry", [])
    if not isinstance(values, list):
        raise BadRequest("entry is an array.", expression="Bundle.entry")
    if "entry" not in parsed.value:
        return []
    items = array_item_spans(parsed.text, member_spans(parsed.text)["entry"][0])
    return [
        (value, member_spans(parsed.text, begin) if isinstance(value, dict) else {})
        for value, (begin, _) in zip(values, items, strict=True)
    ]


def root_of(full_url: str | None) -> str | None:
    """What relative references of an entry are relative to: the part of a RESTful fullUrl before type and id."""
    found = _RESTFUL.match(full_url or "")
    return found[1] if found and found[2] in RESOURCE_TYPES else None


class _Refusing:
    """Says where in the Bundle something is wrong."""

    def __init__(self, place: int) -> None:
        self._entry = f"Bundle.entry[{place}]"

    def at(self, path: str, text: str) -> BadRequest:
        return BadRequest(text, expression=f"{self._entry}.{path}" if path else self._entry)


def _request(place: int, value: Any, spans: Mapping[str, Span], text: str, base_url: str) -> BundleRequest:
    wrong = _Refusing(place)
    if not isinstance(value, dict):
        raise wrong.at("", "An entry is an object.")
    _refuse_unknown(value, _OF_ENTRY, "", wrong)
    request = value.get("request")
    if not isinstance(request, dict):
        raise wrong.at("request", "request is needed, with its method and url.")
    _refuse_unknown(request, _OF_REQUEST, "request.", wrong)
    method = _text(request, "method", "request.method", wrong)
    if method not in _ORDER:
        raise wrong.at("request.method", f"request.method is one of {', '.join(METHODS)}.")
    path, query = _address(_text(request, "url", "request.url", wrong), base_url, wrong)
    conditions = _conditions(request, method, wrong)
    resource_type, id = _resource(value, wrong)
    full_url = _full_url(value, resource_type, id, method, path, wrong)
    return BundleRequest(
        place,
        method,
        path,
        query,
        full_url,
        text[slice(*spans["resource"])] if "resource" in value else None,
        resource_type,
        id,
        conditions.get("ifNoneExist"),
        conditions.get("ifMatch"),
        conditions.get("ifNoneMatch"),
        _instant(conditions.get("ifModifiedSince"), wrong),
    )


def _refuse_unknown(value: Mapping[str, Any], known: frozenset[str], path: str, wrong: _Refusing) -> None:
    for name in value:
        if name.removeprefix("_") not in known:
            shown = name if re.fullmatch(r"_?[A-Za-z]{1,40}", name, re.ASCII) else "A member"
            raise wrong.at(path.rstrip("."), f"{shown} is not known here, so the entry is not carried out.")


def _text(value: Mapping[str, Any], name: str, path: str, wrong: _Refusing) -> str:
    found = value.get(name)
    if not isinstance(found, str):
        raise wrong.at(path, f"{path} is needed." if found is None else f"{path} is a string.")
    return found


def _address(url: str, base_url: str, wrong: _Refusing) -> tuple[str, str]:
    """Path below the base, decoded, and the query."""
    whole, _, query = url.partition("?")
    relative = "" if whole == base_url else whole.removeprefix(f"{base_url}/")
    if _SCHEME.match(relative):
        raise wrong.at(
            "request.url", "request.url is relative to this service's base, or begins with it; this does not."
        )
    if "#" in url:
        raise wrong.at("request.url", "request.url has no fragment.")
    try:
        return unquote(relative, errors="strict"), query
    except UnicodeDecodeError as error:
        raise wrong.at("request.url", "request.url is not percent-encoded UTF-8.") from error


def _conditions(request: Mapping[str, Any], method: str, wrong: _Refusing) -> dict[str, str]:
    found = {}
    for name, methods in _CONDITIONS.items():
        if name in request:
            found[name] = _text(request, name, f"request.{name}", wrong)
            if method not in methods:
                raise wrong.at(f"request.{name}", f"{name} means nothing for a {method}.")
    return found


def _instant(text: str | None, wrong: _Refusing) -> datetime | None:
    if text is None:
        return None
    if not PRIMITIVES["instant"].accepts(text):
        raise wrong.at("request.ifModifiedSince", "ifModifiedSince is an instant.")
    span = asked_span(text)
    return span.lo if span else None


def _resource(value: Mapping[str, Any], wrong: _Refusing) -> tuple[str, object]:
    if "resource" not in value:
        return "", None
    resource = value["resource"]
    if not isinstance(resource, dict):
        raise wrong.at("resource", "resource is an object.")
    return str(resource.get("resourceType") or ""), resource.get("id")


def _full_url(
    value: Mapping[str, Any], resource_type: str, id: object, method: str, path: str, wrong: _Refusing
) -> str | None:
    """The fullUrl "SHALL NOT disagree with the id in the resource", and does not name a version (R4 bundle, bdl-8)."""
    if "fullUrl" not in value:
        return None
    full_url = _text(value, "fullUrl", "fullUrl", wrong)
    if "/_history/" in full_url:
        raise wrong.at("fullUrl", "fullUrl does not name a version.")
    found = _RESTFUL.match(full_url)
    if found is None or found[2] not in RESOURCE_TYPES:
        return full_url
    if resource_type and found[2] != resource_type:
        raise wrong.at("fullUrl", f"fullUrl names another type than the resource, {resource_type}.")
    if isinstance(id, str) and found[3] != id and method in ("PUT", "POST"):
        raise wrong.at("fullUrl", "fullUrl names another id than the resource has.")
    if method == "PUT" and "/" in path and f"{found[2]}/{found[3]}" != path:
        raise wrong.at("fullUrl", "fullUrl and request.url name different resources.")
    return full_url


def _unwrapped(binary: Mapping[str, Any]) -> tuple[str, bytes]:
    """What a Binary holds."""
    media, data = binary.get("contentType"), binary.get("data")
    if not isinstance(media, str) or not isinstance(data, str):
        raise BadRequest("The Binary has contentType and data.", expression="Binary")
    try:
        return media, base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest("The data are not base64.", expression="Binary.data") from error
