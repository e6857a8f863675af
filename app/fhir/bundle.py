"""Bundles assembled from resource texts: nothing is parsed, nothing is re-serialised (R4 bundle)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from json import loads
from json.encoder import encode_basestring as quoted

from app.fhir.text import Span, array_item_spans, member_spans

# ``quoted(text)``: a JSON string; what is not ASCII stays as it is.


@dataclass(slots=True)
class Entry:
    """One entry of a searchset or history. ``content`` is the resource's text, None for a deletion."""

    full_url: str
    content: str | None
    mode: str = "match"
    method: str | None = None
    url: str = ""
    status: str = ""
    etag: str = ""
    last_modified: str = ""


def searchset(
    entries: Sequence[Entry], *, links: Iterable[tuple[str, str]], total: int | None, outcome: str | None
) -> str:
    """A Bundle of type searchset. ``outcome``: the OperationOutcome that names sources and ignored parameters."""
    texts = [found_entry(entry) for entry in entries]
    if outcome is not None:
        texts.append(outcome_entry(outcome))
    return _bundle("searchset", texts, links, total)


def found_entry(entry: Entry) -> str:
    """An entry of a searchset."""
    return f'{{"fullUrl":{quoted(entry.full_url)},"resource":{entry.content},"search":{{"mode":"{entry.mode}"}}}}'


def outcome_entry(outcome: str) -> str:
    return f'{{"resource":{outcome},"search":{{"mode":"outcome"}}}}'


def history(entries: Sequence[Entry], *, links: Iterable[tuple[str, str]], total: int | None) -> str:
    """A Bundle of type history: deletions are entries without a resource (R4 http, 3.1.0.10)."""
    return _bundle("history", [_versioned(entry) for entry in entries], links, total)


def document(entries: Iterable[Entry], *, identifier: str, timestamp: str) -> str:
    """A Bundle of type document, its Composition first (R4 documents). ``identifier`` is a URI of its own."""
    listed = ",".join(f'{{"fullUrl":{quoted(one.full_url)},"resource":{one.content}}}' for one in entries)
    return (
        f'{{"resourceType":"Bundle","identifier":{{"system":"urn:ietf:rfc:3986","value":{quoted(identifier)}}},'
        f'"type":"document","timestamp":"{timestamp}","entry":[{listed}]}}'
    )


def response(kind: str, entries: Sequence[str]) -> str:
    """A Bundle of type ``transaction-response`` or ``batch-response``, entries in the order of the request."""
    return _bundle(kind, entries, (), None)


def response_entry(
    *,
    status: str,
    location: str = "",
    etag: str = "",
    last_modified: str = "",
    resource: str | None = None,
    outcome: str | None = None,
) -> str:
    members = [f'"status":{quoted(status)}']
    if location:
        members.append(f'"location":{quoted(location)}')
    if etag:
        members.append(f'"etag":{quoted(etag)}')
    if last_modified:
        members.append(f'"lastModified":{quoted(last_modified)}')
    if outcome is not None:
        members.append(f'"outcome":{outcome}')
    body = f'"resource":{resource},' if resource is not None else ""
    return f'{{{body}"response":{{{",".join(members)}}}}}'


def _versioned(entry: Entry) -> str:
    body = f'"resource":{entry.content},' if entry.content is not None else ""
    return (
        f'{{"fullUrl":{quoted(entry.full_url)},{body}'
        f'"request":{{"method":"{entry.method}","url":{quoted(entry.url)}}},'
        f'"response":{{"status":"{entry.status}","etag":{quoted(entry.etag)},'
        f'"lastModified":"{entry.last_modified}"}}}}'
    )


def _bundle(kind: str, entries: Sequence[str], links: Iterable[tuple[str, str]], total: int | None) -> str:
    # An empty array is not allowed in FHIR JSON: no entries means no member.
    listed = f',"entry":[{",".join(entries)}]' if entries else ""
    return f"{opening(kind, links=links, total=total)}{listed}}}"


def opening(kind: str, *, links: Iterable[tuple[str, str]], total: int | None) -> str:
    """A Bundle's text up to its entries, for one that is written in pieces."""
    parts = [f'{{"resourceType":"Bundle","type":"{kind}"']
    if total is not None:
        parts.append(f',"total":{total}')
    rendered = ",".join(f'{{"relation":"{name}","url":{quoted(url)}}}' for name, url in links)
    if rendered:
        parts.append(f',"link":[{rendered}]')
    return "".join(parts)


def moved(text: str, base: str, to: str) -> str:
    """A Bundle of this module with its links, fullUrls and locations under ``to`` instead of ``base``.

    The resources in it stay byte for byte, and so does a fullUrl under another base.
    """
    pieces, position = [], 0
    for begin, end in sorted(_addresses(text)):
        url = loads(text[begin:end])
        if (there := under(url, base, to)) != url:
            pieces += [text[position:begin], quoted(there)]
            position = end
    return "".join([*pieces, text[position:]])


def under(url: str, base: str, to: str) -> str:
    """``url`` with ``to`` in the place of ``base``, where it is at or below that."""
    rest = url.removeprefix(base)
    return to + rest if url.startswith(base) and rest[:1] in ("", "/", "?") else url


def _addresses(text: str) -> Iterable[Span]:
    """The spans of a Bundle's own URLs."""
    members = member_spans(text)
    for link in array_item_spans(text, members["link"][0]) if "link" in members else ():
        yield member_spans(text, link[0])["url"]
    for entry in array_item_spans(text, members["entry"][0]) if "entry" in members else ():
        inside = member_spans(text, entry[0])
        if "fullUrl" in inside:
            yield inside["fullUrl"]
        if "response" in inside and "location" in (answer := member_spans(text, inside["response"][0])):
            yield answer["location"]
