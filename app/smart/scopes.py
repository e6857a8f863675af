"""SMART scopes for FHIR resources: their grammar, and what they permit (SMART App Launch 2.2, "Scopes")."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from app.fhir.definitions import RESOURCE_TYPES

LETTERS = "cruds"
"""Create, read, update, delete, search, in the order in which a scope must name them."""

NAMED_ONLY = frozenset({"AuditEvent", "Consent"})
"""``*`` does not include these: who saw what, and who may, must be asked for by name."""

_VERSION_1 = {"read": "rs", "write": "cud", "*": "cruds"}
_TOKEN = re.compile(r"(patient|user|system)/([A-Za-z]+|\*)\.([a-z]+|\*)(?:\?(.+))?")
# No modifier (``:``), no chain (``.``); an underscore only as in ``_id``; values are RFC 6749's characters.
_FILTER = re.compile(r"(_?[A-Za-z][A-Za-z0-9-]*)=([\x21\x23-\x25\x27-\x5b\x5d-\x7e]+)")
_NOT_A_FILTER = frozenset({"_has", "_include", "_revinclude", "_filter"})
_LONGEST = 1024


@dataclass(frozen=True, slots=True)
class Scope:
    """One parsed scope. Version 1's ``.read`` has become ``.rs``; ``filters`` keep the order they came in."""

    context: str
    resource_type: str
    """An R4 type, or ``*``."""
    letters: frozenset[str]
    filters: tuple[tuple[str, str], ...] = ()

    def render(self) -> str:
        """The scope in version 2's form."""
        letters = "".join(letter for letter in LETTERS if letter in self.letters)
        filters = "&".join(f"{name}={value}" for name, value in self.filters)
        return f"{self.context}/{self.resource_type}.{letters}" + (f"?{filters}" if filters else "")

    def reaches(self, resource_type: str) -> bool:
        if self.resource_type == "*":
            return resource_type not in NAMED_ONLY
        return self.resource_type == resource_type


@lru_cache(maxsize=4096)
def parse_scope(text: str) -> Scope | None:
    """The scope that the whole of ``text`` spells, or None; cut to a valid beginning it would be wider."""
    found = _TOKEN.fullmatch(text) if len(text) <= _LONGEST else None
    if found is None:
        return None
    context, resource_type, access, query = found.groups()
    letters, filters = _letters(access), _filters(query)
    if resource_type != "*" and resource_type not in RESOURCE_TYPES:
        return None
    if letters is None or filters is None:
        return None
    return Scope(context, resource_type, letters, filters)


def permits(scopes: Sequence[str], resource_type: str, letter: str) -> bool:
    """Whether a token with these scopes may do ``letter`` to the type.

    Only unfiltered ``system/`` scopes count: for any other there is no patient, user or filter applied here.
    """
    return _permits(tuple(scopes), resource_type, letter)


def suffices(resource_type: str, letter: str) -> str:
    """A scope that would permit it, as a 403 names it. Reading and searching are asked for together."""
    return f"system/{resource_type}.{'rs' if letter in 'rs' else letter}"


def covers(registered: Iterable[Scope], asked: Scope) -> bool:
    """Whether everything that ``asked`` permits is permitted by ``registered`` together."""
    letters: set[str] = set()
    for scope in registered:
        if scope.context == asked.context and not scope.filters and _includes(scope, asked.resource_type):
            letters |= scope.letters
    return asked.letters <= letters


def _includes(scope: Scope, resource_type: str) -> bool:
    return scope.resource_type == "*" if resource_type == "*" else scope.reaches(resource_type)


@lru_cache(maxsize=16384)
def _permits(scopes: tuple[str, ...], resource_type: str, letter: str) -> bool:
    parsed = (parse_scope(text) for text in scopes)
    return any(
        scope.context == "system"
        and not scope.filters
        and letter in scope.letters
        and scope.reaches(resource_type)
        for scope in parsed
        if scope is not None
    )


def _letters(access: str) -> frozenset[str] | None:
    letters = _VERSION_1.get(access, access)
    in_order = "".join(letter for letter in LETTERS if letter in letters)
    return frozenset(letters) if letters == in_order else None


def _filters(query: str | None) -> tuple[tuple[str, str], ...] | None:
    if query is None:
        return ()
    pairs = []
    for pair in query.split("&"):
        found = _FILTER.fullmatch(pair)
        if found is None or found[1] in _NOT_A_FILTER:
            return None
        pairs.append((found[1], found[2]))
    return tuple(pairs)
