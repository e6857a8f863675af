"""One question put to several types: a search of the whole system, or of all of a compartment (R4 http, 3.1.0.9).

Only parameters that every one of the types has count; they are read for each type by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote

from app.errors import MalformedSearch, TooCostly, UnsupportedSearch
from app.fhir.compartments import compartment_parameters
from app.fhir.definitions import RESOURCE_TYPES
from app.fhir.query import KEPT_APART, Compartment, Ignored, SearchQuery, parse_search


@dataclass(frozen=True, slots=True)
class SeveralQuery:
    """The same question for each of the types, and where it was asked, below the base."""

    queries: tuple[SearchQuery, ...]
    link: str
    named: bool
    """Whether the types were asked for by name, so that each of them needs a scope."""


def parse_several(
    pairs: Sequence[tuple[str, str]],
    *,
    strict: bool,
    base_url: str = "",
    compartment: Compartment | None = None,
) -> SeveralQuery:
    """``_type`` says which types; without it, all of the compartment's. Raises as ``parse_search`` does."""
    asked = [value for name, value in pairs if name == "_type"]
    rest = [pair for pair in pairs if pair[0] != "_type"]
    types = _types(asked, compartment)
    used, ignored = _common(types, rest, strict, base_url)
    queries = tuple(
        parse_search(kind, used, strict=False, base_url=base_url, compartment=compartment) for kind in types
    )
    queries = tuple(_with_ignored(one, ignored) for one in queries)
    return SeveralQuery(queries, _link(compartment, asked, queries[0]), bool(asked))


def _types(asked: Sequence[str], compartment: Compartment | None) -> list[str]:
    if len(asked) > 1:
        raise MalformedSearch("_type may be given once only.")
    held = _held(compartment)
    if not asked:
        if compartment is None:
            raise TooCostly("_type: name the types to search, e.g. _type=Patient,Observation.")
        return sorted(held)
    types = list(dict.fromkeys(one for one in asked[0].split(",") if one))
    if not types or not held.issuperset(types):
        where = f"the types of a {compartment.kind}'s compartment" if compartment else "resource types of R4"
        raise MalformedSearch(f"_type: {where} are needed, separated by commas.")
    return types


def _held(compartment: Compartment | None) -> frozenset[str]:
    every = RESOURCE_TYPES - KEPT_APART
    if compartment is None:
        return frozenset(every)
    kind = compartment.kind
    return frozenset(one for one in every if one == kind or compartment_parameters(kind, one))


def _common(
    types: Sequence[str], pairs: Sequence[tuple[str, str]], strict: bool, base_url: str
) -> tuple[list[tuple[str, str]], list[Ignored]]:
    """The pairs that every type understands, and what is said of the others. Raises UnsupportedSearch when strict."""
    used: list[tuple[str, str]] = []
    ignored: list[Ignored] = []
    for pair in pairs:
        try:
            for kind in types:
                parse_search(kind, [pair], strict=True, base_url=base_url)
        except UnsupportedSearch:
            if strict:
                raise
            ignored.append(Ignored(pair[0][:64], "not every type that is searched has it"))
        else:
            used.append(pair)
    return used, ignored


def _with_ignored(query: SearchQuery, ignored: Sequence[Ignored]) -> SearchQuery:
    return replace(query, ignored=(*query.ignored, *ignored))


def _link(compartment: Compartment | None, asked: Sequence[str], first: SearchQuery) -> str:
    """What the ``self`` link says below the base."""
    address = f"/{compartment.owner}/*" if compartment else ""
    query = first.self_link("").partition("?")[2]
    named = [f"_type={quote(asked[0], safe=',')}"] if asked else []
    parts = [*named, *([query] if query else [])]
    return address + (f"?{'&'.join(parts)}" if parts else "")
