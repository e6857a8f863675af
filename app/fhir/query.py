"""A search as R4 writes it, parsed once into a SearchQuery (R4 search). Pure: nothing is looked up.

Supported: token, reference, date, string, number, quantity, URI and composite parameters with the modifiers
``:missing``, ``:not``, ``:text``, ``:of-type``, ``:in`` and ``:not-in`` (value sets on board), ``:above`` and
``:below`` (URIs, and codes on board), ``:identifier``, ``:[Type]``, ``:exact`` and ``:contains``; ``_id``,
``_lastUpdated``, ``_tag``, ``_profile``, ``_security``, ``_source``, ``_list``; chains
(``subject.name``, ``subject:Patient.name``) and ``_has``, also of each other; ``_include`` and ``_revinclude`` with
``:iterate`` and ``*``;
``_filter``; ``_count``, ``_sort``, ``_summary``, ``_elements`` and ``_total``.

What is not supported is refused by name (strict) or named in ``ignored`` (lenient); a supported parameter with a value
that cannot be read is refused in both.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal, NamedTuple, get_args
from urllib.parse import quote, urlencode

from app.errors import MalformedSearch, TooCostly, UnknownType, UnsupportedSearch
from app.fhir import criteria
from app.fhir.compartments import compartment_parameters
from app.fhir.composites import CompositePlan, composite_plan
from app.fhir.criteria import (
    EVERYTHING,
    NOTHING,
    AnyCriterion,
    ChainCriterion,
    CompositeCriterion,
    Criterion,
    DateAlternative,
    DateCriterion,
    EveryCriterion,
    HasCriterion,
    HierarchyCriterion,
    IdCriterion,
    LastUpdatedCriterion,
    ListCriterion,
    MissingCriterion,
    NotCriterion,
    NotSupported,
    ReferenceCriterion,
    StringCriterion,
    StringModifier,
    TokenCriterion,
    UriCriterion,
)
from app.fhir.definitions import RESOURCE_TYPES
from app.fhir.fhirpath import Selector, selectors
from app.fhir.filter_syntax import conjuncts, read_filter
from app.fhir.filtering import criterion_of
from app.fhir.includes import Include, read_include
from app.fhir.parameters import SearchParameter, parameter, parameters_of
from app.fhir.sorting import SORTABLE_TYPES, SortKey
from app.fhir.subset import Subset, read_subset

__all__ = [
    "DEFAULT_COUNT",
    "MOST_COUNT",
    "SUPPORTED_TYPES",
    "Criterion",
    "DateAlternative",
    "DateCriterion",
    "IdCriterion",
    "Ignored",
    "LastUpdatedCriterion",
    "ReferenceCriterion",
    "SearchQuery",
    "SortKey",
    "StringCriterion",
    "TokenCriterion",
    "UriCriterion",
    "is_supported",
    "parse_search",
]

DEFAULT_COUNT = 20
MOST_COUNT = 1_000
"""A larger ``_count`` is answered with pages of this size, as R4 allows."""

Total = Literal["none", "estimate", "accurate"]

SUPPORTED_TYPES = frozenset(
    {"token", "reference", "date", "string", "uri", "number", "quantity", "composite", "special"}
)

_MOST_PAIRS = 100
_MOST_KEYS = 1_000
"""Alternatives of all criteria together, so that a statement's parameters stay within PostgreSQL's."""

KEPT_APART = frozenset({"AuditEvent"})
"""Types that are no records and searched by a patient alone; no chain or include reaches them."""

_MOST_SORT_KEYS = 8
_MOST_HOPS = 5
"""References that one chain may go over: each is a search of its own."""

_PRESENTATION = ("_format", "_pretty")
_CONTROLS = frozenset({"_count", "_sort", "_summary", "_elements", "_total", "_contained", *_PRESENTATION})
_INCLUDES = ("_include", "_revinclude")

# Modifiers that R4 defines, by the parameter types that they stand for (R4 search, 3.1.1.4.5).
_MODIFIERS: Mapping[str, frozenset[str]] = {
    "missing": frozenset({"token", "reference", "date", "string", "uri", "number", "quantity", "special"}),
    "exact": frozenset({"string"}),
    "contains": frozenset({"string"}),
    "text": frozenset({"token"}),
    "not": frozenset({"token"}),
    "in": frozenset({"token"}),
    "not-in": frozenset({"token"}),
    "of-type": frozenset({"token"}),
    "above": frozenset({"token", "reference", "uri"}),
    "below": frozenset({"token", "reference", "uri"}),
    "identifier": frozenset({"reference"}),
}
_SUPPORTED_MODIFIERS = {
    ("string", "exact"),
    ("string", "contains"),
    ("reference", "identifier"),
    ("token", "not"),
    ("token", "text"),
    ("token", "of-type"),
    ("token", "in"),
    ("token", "not-in"),
    ("token", "above"),
    ("token", "below"),
    ("uri", "above"),
    ("uri", "below"),
    *((kind, "missing") for kind in SUPPORTED_TYPES - {"composite"}),
}


class Ignored(NamedTuple):
    """A parameter that does not count, as it was named, and why; both are safe to show."""

    name: str
    reason: str


class Compartment(NamedTuple):
    """One of R4's compartments: a Patient's, an Encounter's, a Practitioner's, a RelatedPerson's or a Device's."""

    kind: str
    id: str

    @property
    def owner(self) -> str:
        return f"{self.kind}/{self.id}"


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """What is asked, and what of the question was used."""

    resource_type: str
    criteria: tuple[Criterion, ...]
    sort: tuple[SortKey, ...]
    count: int
    """Matches a page, 0 to MOST_COUNT; 0 asks for the total alone."""
    used_pairs: tuple[tuple[str, str], ...]
    """For the ``self`` link: everything that was used, repeated parameters in their order."""
    ignored: tuple[Ignored, ...]
    base_url: str
    patient_scope: str | None
    """The one Patient of ours that every match must belong to, because a parameter that means just that names it."""
    scope_criteria: tuple[Criterion, ...]
    """The criteria that name ``patient_scope``."""
    criterion_pairs: tuple[tuple[str, str], ...]
    """How each of ``criteria`` was asked, in their order."""
    subset: Subset | None = None
    """The part of each match that is wanted; None: all of it."""
    total: Total | None = None
    """What ``_total`` asks for; None: whatever costs nothing."""
    includes: tuple[Include, ...] = ()
    compartment: Compartment | None = None
    """Whose compartment every match must be in (R4 search, "Searching by compartment")."""

    @property
    def pairs_without_patient(self) -> tuple[tuple[str, str], ...]:
        """How the criteria were asked that do not name ``patient_scope``."""
        every = zip(self.criteria, self.criterion_pairs, strict=True)
        return tuple(pair for criterion, pair in every if criterion not in self.scope_criteria)

    @property
    def chain_to_patient(self) -> ChainCriterion | None:
        """A chain that says whose records are asked for, e.g. ``patient.identifier``, when nothing else does."""
        naming = _scope_parameters(self.resource_type) if self.patient_scope is None else frozenset()
        chains = (one for one in self.criteria if isinstance(one, ChainCriterion) and one.param in naming)
        return next(chains, None)

    def bound_to(self, chain: ChainCriterion, patient_ids: Sequence[str]) -> "SearchQuery":
        """The same question when ``chain`` has turned out to mean these Patients, who are one person."""
        named = criteria.referring_to(chain.param, [f"Patient/{id}" for id in patient_ids])
        found = tuple(named if one is chain else one for one in self.criteria)
        return replace(self, criteria=found, patient_scope=patient_ids[0], scope_criteria=(named,))

    @property
    def is_looked_up(self) -> bool:
        """Whether a criterion depends on other resources, so that it must be resolved before it is asked."""
        return any(map(criteria.is_looked_up, self.criteria))

    @property
    def is_open(self) -> bool:
        """Whether a criterion must be settled before the store is asked, by other resources or by what is read."""
        return any(map(criteria.is_open, self.criteria))

    @property
    def types_looked_at(self) -> frozenset[str]:
        """Every type that a chain, ``_has`` or ``_list`` reads, and so needs to be permitted."""
        return frozenset(one for criterion in self.criteria for one in _types_looked_at(criterion))

    @property
    def sort_keys(self) -> tuple[SortKey, ...]:
        """What the answer is put in order by: the latest first unless something else is asked for."""
        return self.sort or (SortKey("_lastUpdated", True),)

    @property
    def is_sorted_by_index(self) -> bool:
        """Whether the store can put the answer in order without reading what is in it."""
        match self.sort:
            case ():
                return True
            case (SortKey("_id", descending),):
                return not descending
            case (SortKey(code, _),):
                return code == "_lastUpdated" or parameters_of(self.resource_type)[code].type == "date"
        return False

    def self_link(self, base_url: str) -> str:
        """``Bundle.link`` with relation ``self``."""
        address = f"{self.compartment.owner}/{self.resource_type}" if self.compartment else self.resource_type
        return f"{base_url}/{address}{_written(self.used_pairs)}"

    def saved(self) -> dict[str, Any]:
        """As JSON, for a page link; ``restore`` gives the same query back."""
        return {
            "type": self.resource_type,
            "pairs": [list(pair) for pair in self.used_pairs],
            "ignored": [list(one) for one in self.ignored],
            "count": self.count,
            "base": self.base_url,
            "compartment": list(self.compartment) if self.compartment else None,
        }

    @classmethod
    def restore(cls, saved: Mapping[str, Any]) -> "SearchQuery":
        pairs = [(name, value) for name, value in saved["pairs"]]
        query = parse_search(
            saved["type"],
            pairs,
            strict=True,
            base_url=saved["base"],
            default_count=saved["count"],
            compartment=Compartment(*saved["compartment"]) if saved["compartment"] else None,
        )
        return replace(query, ignored=tuple(Ignored(*one) for one in saved["ignored"]))


def parse_search(
    resource_type: str,
    pairs: Sequence[tuple[str, str]],
    *,
    strict: bool,
    base_url: str = "",
    default_count: int = DEFAULT_COUNT,
    compartment: Compartment | None = None,
) -> SearchQuery:
    """The query of decoded (name, value) pairs, in their order.

    ``base_url`` (no trailing slash) is how our own records may be named absolutely. Raises UnknownType,
    MalformedSearch, TooCostly and, when strict, UnsupportedSearch.
    """
    if resource_type not in RESOURCE_TYPES:
        raise UnknownType
    if len(pairs) > _MOST_PAIRS:
        raise TooCostly(f"At most {_MOST_PAIRS} parameters can be asked at once.")
    reading = _Reading(resource_type, strict, base_url, default_count)
    if compartment is not None:
        reading.enter(compartment)
    for name, value in pairs:
        reading.take(name, value)
    return reading.query()


def _written(pairs: Sequence[tuple[str, str]]) -> str:
    text = urlencode(pairs, quote_via=quote, safe="/:,")
    return f"?{text}" if text else ""


def is_supported(one: SearchParameter) -> bool:
    """Whether searches by this parameter are answered."""
    return one.code in _READ or (one.type in SUPPORTED_TYPES and bool(one.expression))


@dataclass(slots=True)
class _Reading:
    """A query half read."""

    resource_type: str
    strict: bool
    base_url: str
    count: int
    criteria: list[tuple[Criterion, tuple[str, str]]] = field(default_factory=list)
    hops: int = 0
    compartment: Compartment | None = None
    sort: tuple[SortKey, ...] = ()
    includes: list[Include] = field(default_factory=list)
    summary: str | None = None
    elements: str | None = None
    total: Total | None = None
    used: list[tuple[str, str]] = field(default_factory=list)
    ignored: list[Ignored] = field(default_factory=list)
    scoping: list[tuple[Criterion, frozenset[str] | None]] = field(default_factory=list)
    """Criteria that say whose record it is, with the Patients named; None when that cannot be told."""

    def enter(self, compartment: Compartment) -> None:
        """Raises MalformedSearch for a type that the compartment does not hold."""
        params = compartment_parameters(compartment.kind, self.resource_type)
        criterion: Criterion
        if compartment.kind == self.resource_type:
            criterion = IdCriterion((compartment.id,))
        elif params:
            criterion = criteria.in_compartment(params, compartment.owner)
        else:
            raise MalformedSearch(f"{self.resource_type} is in no compartment of a {compartment.kind}.")
        self.compartment = compartment
        self.criteria.append((criterion, ("", "")))
        if compartment.kind == "Patient":
            self.scoping.append((criterion, frozenset({compartment.id})))

    def take(self, name: str, value: str) -> None:
        _readable(name, value)
        if not value.strip(","):
            self.ignored.append(Ignored(_shown(name), "it has no value"))
        elif name in _CONTROLS:
            self._control(name, value)
        else:
            try:
                self._used(name, value)
            except NotSupported as error:
                self._unsupported(name, str(error))

    def _used(self, name: str, value: str) -> None:
        if name.partition(":")[0] in _INCLUDES:
            self._include(name, value)
        elif name == "_filter":
            self._filter(value)
        else:
            self.criteria.append((self.criterion(name, value), (name, value)))
        self.used.append((name, value))

    def criterion(self, name: str, value: str) -> Criterion:
        """What the parameter asks. Raises NotSupported and MalformedSearch."""
        if name.startswith("_has:"):
            return self._has(name, value)
        if "." in name:
            return self._chain(name, value)
        return self.plain(name, [one for one in criteria.split(value, ",") if one])

    def plain(self, name: str, alternatives: Sequence[str]) -> Criterion:
        """What a parameter of the type itself asks. Raises NotSupported and MalformedSearch."""
        self.check(name)
        if name == "_list":
            return _list(alternatives)
        return self._criterion(name, alternatives)

    def check(self, name: str) -> None:
        """Raises NotSupported for what is not answered, MalformedSearch for a modifier that never fits its type."""
        if name != "_list" and (refusal := _refusal(self.resource_type, name)) is not None:
            raise NotSupported(refusal)

    def _filter(self, value: str) -> None:
        """What must all be so are criteria of their own: one that names the patient says whose records are meant."""
        parts = list(conjuncts(read_filter(value)))
        asides = [self._aside() for _ in parts]
        found = [criterion_of(part, aside) for part, aside in zip(parts, asides, strict=True)]
        for part, aside, criterion in zip(parts, asides, found, strict=True):
            self.criteria.append((criterion, ("_filter", value[part.start : part.end])))
            if isinstance(criterion, ReferenceCriterion):
                self.scoping += aside.scoping

    def _aside(self) -> "_Reading":
        """The same type, for criteria that are not, or not alone, the query's own."""
        return _Reading(self.resource_type, True, self.base_url, self.count, hops=self.hops)

    def _chain(self, name: str, value: str) -> ChainCriterion:
        """``param.inner`` or ``param:Type.inner`` (R4 search, 3.1.1.4.12 "Chained parameters")."""
        head, _, inner = name.partition(".")
        return self.chained(head, lambda target: target.criterion(inner, value))

    def chained(self, head: str, inner: "Callable[[_Reading], Criterion]") -> ChainCriterion:
        """``inner`` of what ``param`` or ``param:Type`` refers to. Raises NotSupported and TooCostly."""
        code, _, kind = head.partition(":")
        targets: list[tuple[str, Criterion]] = []
        refusal = "the chain is of no type that the parameter refers to"
        for target in self._chained_types(code, kind):
            try:
                targets.append((target, inner(self._onward(target))))
            except NotSupported as error:
                refusal = str(error)
        if not targets:
            raise NotSupported(refusal)
        return ChainCriterion(code, tuple(targets))

    def _chained_types(self, code: str, kind: str) -> Sequence[str]:
        found = parameter(self.resource_type, code)
        if found is None or found.type != "reference" or not is_supported(found):
            raise NotSupported(f"{_shown(code)} is no reference of {self.resource_type} that is known here")
        if kind and kind not in RESOURCE_TYPES:
            raise NotSupported("what stands between : and . is a resource type")
        return [one for one in _target_types(self.resource_type, code) if kind in ("", one)]

    def _has(self, name: str, value: str) -> HasCriterion:
        """``_has:Type:param:inner`` (R4 search, 3.1.1.4.13 "Reverse Chaining")."""
        match name.split(":", 3)[1:]:
            case [kind, code, inner] if kind in RESOURCE_TYPES and inner:
                if self.resource_type not in self._onward(kind)._chained_types(code, ""):
                    raise NotSupported(f"{kind}.{_shown(code)} does not refer to {self.resource_type}")
                return HasCriterion(kind, code, self._onward(kind).criterion(inner, value))
        raise MalformedSearch(f"{_shown(name)}: a reverse chain is written _has:Type:reference:parameter.")

    def _onward(self, resource_type: str) -> "_Reading":
        """One reference further."""
        if self.hops >= _MOST_HOPS:
            raise TooCostly(f"A chain goes over at most {_MOST_HOPS} references.")
        if resource_type in KEPT_APART:
            raise NotSupported(f"{resource_type} is searched by itself alone")
        return _Reading(resource_type, True, self.base_url, self.count, hops=self.hops + 1)

    def _include(self, name: str, value: str) -> None:
        found = read_include(name, value)
        if found.source in KEPT_APART:
            raise NotSupported(f"{found.source} is searched by itself alone")
        if found.parameter != "*":
            kind = parameter(found.source, found.parameter)
            if kind is None or kind.type != "reference" or not is_supported(kind):
                raise NotSupported(
                    f"{_shown(found.parameter)} is no reference of {found.source} that is known here"
                )
        self.includes.append(found)

    def _unsupported(self, name: str, reason: str) -> None:
        if self.strict:
            raise UnsupportedSearch(f"{_shown(name)}: {reason}.")
        self.ignored.append(Ignored(_shown(name), reason))

    def _control(self, name: str, value: str) -> None:
        if any(name == used for used, _ in self.used):
            raise MalformedSearch(f"{name} may be given once only.")
        if name == "_count":
            self.count = _count(value)
            value = str(self.count)
        elif name == "_sort":
            try:
                self.sort = _sort(self.resource_type, value)
            except NotSupported as error:
                return self._unsupported(name, str(error))
        elif name == "_total":
            self.total = _total(value)
        elif name == "_contained" and value != "false":
            return self._unsupported(
                name, "contained resources are found with what contains them, never alone"
            )
        elif name == "_summary":
            self.summary = value
        elif name == "_elements":
            self.elements = value
        self.used.append((name, value))
        return None

    def _criterion(self, name: str, alternatives: Sequence[str]) -> Criterion:
        code, _, modifier = name.partition(":")
        found = parameters_of(self.resource_type)[code]
        if modifier == "missing":
            missing = criteria.missing(code, alternatives)
            return missing if code not in _COLUMNS else NOTHING if missing.missing else EVERYTHING
        if code in _READ:
            return criteria.in_words(code, alternatives)
        if code == "_id":
            return _ids(modifier, [criteria.unescape(name, one) for one in alternatives])
        if code == "_lastUpdated":
            return LastUpdatedCriterion(criteria.dates(name, alternatives))
        if found.usage == "phonetic":
            return criteria.sounding(code, alternatives)
        if found.type == "composite":
            return self._composite(code, alternatives)
        return self._value(found.type, code, modifier, alternatives)

    def _value(self, kind: str, code: str, modifier: str, alternatives: Sequence[str]) -> Criterion:
        match kind, modifier:
            case "date", _:
                return DateCriterion(code, criteria.dates(code, alternatives))
            case "number", _:
                return criteria.number(code, alternatives)
            case "quantity", _:
                return criteria.quantity(code, alternatives)
            case "string", _:
                return criteria.string(code, _string_modifier(modifier), alternatives)
            case "special", _:
                return criteria.near(code, alternatives)
            case "uri", "above":
                return criteria.uri_above(code, alternatives)
            case "uri", "below":
                return criteria.uri_below(code, alternatives)
            case "uri", _:
                return criteria.uri(code, alternatives)
            case "token", "not":
                return NotCriterion(criteria.token(code, alternatives))
            case "token", "text":
                return criteria.string(code + ":text", "", alternatives)
            case "token", "in":
                return criteria.token_in(code, alternatives)
            case "token", "not-in":
                return NotCriterion(criteria.token_in(code, alternatives))
            case "token", "above" | "below":
                return criteria.token_kinds(code, modifier, alternatives)
            case "token", "of-type":
                return criteria.of_type(code, alternatives)
            case "token", _:
                return criteria.token(code, alternatives)
            case "reference", "above" | "below":
                return criteria.hierarchy(code, modifier, alternatives, self._targets(code), self.base_url)
            case _, "identifier":
                return criteria.token(f"{code}:identifier", alternatives)
            case _:
                return self._reference(code, modifier, alternatives)

    def _composite(self, code: str, alternatives: Sequence[str]) -> CompositeCriterion:
        plan = composite_plan(self.resource_type, code)
        parts = [self._parts(code, plan, one) for one in alternatives]
        kinds = [component.type for component in plan.components]
        own = [component.code for component in plan.components]
        try:
            whole = [
                self._components(plan.as_conjunction, kinds, one) for one in parts if plan.as_conjunction
            ]
            elements = [self._components(own, kinds, one) for one in parts if plan.by_element]
        except MalformedSearch as error:
            raise MalformedSearch(f"{code}: {error}") from error
        return CompositeCriterion(code, tuple(whole), tuple(elements))

    def _parts(self, code: str, plan: CompositePlan, text: str) -> list[str]:
        parts = criteria.split(text, "$")
        if len(parts) != len(plan.components) or not all(parts):
            wanted = "$".join(component.code for component in plan.components)
            raise MalformedSearch(f"{code}: a composite is written {wanted}.")
        return parts

    def _components(
        self, codes: Sequence[str], kinds: Sequence[str], parts: Sequence[str]
    ) -> tuple[Criterion, ...]:
        return tuple(
            self._value(kind, code, "", [part]) for code, kind, part in zip(codes, kinds, parts, strict=True)
        )

    def _reference(self, code: str, modifier: str, alternatives: Sequence[str]) -> ReferenceCriterion:
        types = self._targets(code)
        known = code in parameters_of(self.resource_type)
        canonical = not modifier and known and _holds_uris(self.resource_type, code)
        criterion = criteria.reference(
            code, alternatives, types, self.base_url, only=modifier, canonical=canonical
        )
        if code in _scope_parameters(self.resource_type) and modifier in ("", "Patient"):
            meant = criteria.patients_meant(criterion, (modifier,) if modifier else types, self.base_url)
            self.scoping.append((criterion, meant))
        return criterion

    def _targets(self, code: str) -> tuple[str, ...]:
        """A composite's component may be called as no parameter of the type is: any type then."""
        if code in parameters_of(self.resource_type):
            return _target_types(self.resource_type, code)
        return tuple(sorted(RESOURCE_TYPES))

    def _scope(self) -> tuple[str | None, tuple[Criterion, ...]]:
        """The one Patient named and the criteria that name them, unless another may be meant as well."""
        named = [patients for _, patients in self.scoping if patients != frozenset()]
        if not named or named[0] is None or len(named[0]) != 1 or any(one != named[0] for one in named):
            return None, ()
        return next(iter(named[0])), tuple(one for one, patients in self.scoping if patients == named[0])

    def query(self) -> SearchQuery:
        if sum(_size(criterion) for criterion, _ in self.criteria) > _MOST_KEYS:
            raise TooCostly(f"At most {_MOST_KEYS} alternatives can be asked at once.")
        patient, scoping = self._scope()
        subset = read_subset(self.summary, self.elements)
        return SearchQuery(
            resource_type=self.resource_type,
            criteria=tuple(criterion for criterion, _ in self.criteria),
            sort=self.sort,
            count=0 if self.summary == "count" else self.count,
            subset=subset,
            total=self.total,
            includes=tuple(self.includes),
            compartment=self.compartment,
            used_pairs=tuple(self.used),
            ignored=tuple(self.ignored),
            base_url=self.base_url,
            patient_scope=patient,
            scope_criteria=scoping,
            criterion_pairs=tuple(pair for _, pair in self.criteria),
        )


def _readable(name: str, value: str) -> None:
    """Raises MalformedSearch for what no text of FHIR can hold, and neither PostgreSQL nor UTF-8."""
    for text in (name, value):
        if any((ord(one) < 32 and one not in "\t\n\r") or 0xD800 <= ord(one) <= 0xDFFF for one in text):
            raise MalformedSearch("A search parameter holds a character that is no text.")


def _shown(name: str) -> str:
    """A name that the caller chose, fit for an error text and for the log."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in name[:64])


def _refusal(resource_type: str, name: str) -> str | None:
    """Why a parameter cannot be answered, or None. Raises MalformedSearch for a modifier that never fits its type."""
    code, colon, modifier = name.partition(":")
    found = parameter(resource_type, code)
    if found is None:
        return f"it is not a search parameter of {resource_type} that is known here"
    if code in _READ:
        return "the modifier is not supported" if colon else None
    if found.type == "reference" and modifier in ("above", "below"):
        known = criteria.HIERARCHIES.keys() & set(_target_types(resource_type, code))
        return None if known else "nothing that it refers to is known to be a part of another"
    if colon and (reason := _modifier_refusal(found, code, modifier)) is not None:
        return reason
    if is_supported(found):
        return None
    return "it names no value of a resource"


def _modifier_refusal(found: SearchParameter, code: str, modifier: str) -> str | None:
    if modifier in RESOURCE_TYPES:
        if found.type == "reference":
            return None
    elif modifier not in _MODIFIERS:
        return "the modifier is not known"
    elif found.usage == "phonetic":
        return None if modifier == "missing" else "the modifier is not supported"
    elif found.type in _MODIFIERS[modifier]:
        return None if (found.type, modifier) in _SUPPORTED_MODIFIERS else "the modifier is not supported"
    raise MalformedSearch(f"{code}: the modifier :{modifier} does not apply to a {found.type} parameter.")


def _string_modifier(modifier: str) -> StringModifier:
    return next(known for known in get_args(StringModifier) if known == modifier)


def _count(value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 9):
        raise MalformedSearch("_count: a whole number, 0 or more, is needed.")
    return min(int(value), MOST_COUNT)


def _total(value: str) -> Total:
    match value:
        case "none" | "estimate" | "accurate":
            return value
    raise MalformedSearch("_total: none, estimate or accurate.")


def _sort(resource_type: str, value: str) -> tuple[SortKey, ...]:
    keys = tuple(SortKey(one.removeprefix("-"), one.startswith("-")) for one in value.split(",") if one)
    for key in keys:
        found = parameter(resource_type, key.parameter)
        if (
            found is None
            or found.type not in SORTABLE_TYPES
            or found.usage == "phonetic"
            or not found.expression
            or not (is_supported(found) or found.code in _COLUMNS)
        ):
            raise NotSupported(f"{_shown(key.parameter)} cannot be sorted by")
    if len(keys) > _MOST_SORT_KEYS:
        raise TooCostly(f"At most {_MOST_SORT_KEYS} keys can be sorted by.")
    return keys


_READ = ("_text", "_content")
"""Parameters about the words of a resource, which is read for them."""
_COLUMNS = ("_id", "_lastUpdated")
"""Parameters that every record has a value for, in a column of its own."""


def _ids(modifier: str, ids: Sequence[str]) -> Criterion:
    match modifier:
        case "":
            return IdCriterion(tuple(ids))
        case "not":
            return NotCriterion(IdCriterion(tuple(ids)))
    raise NotSupported("the modifier is not supported")


def _list(alternatives: Sequence[str]) -> ListCriterion:
    ids = tuple(criteria.unescape("_list", one) for one in alternatives)
    if not all(re.fullmatch(r"[A-Za-z0-9.-]{1,64}", one, re.ASCII) for one in ids):
        raise NotSupported("only a List that is kept here can be named, by its id")
    return ListCriterion(ids)


def _types_looked_at(criterion: Criterion) -> set[str]:
    match criterion:
        case ChainCriterion(targets=targets):
            return {one for kind, inner in targets for one in (kind, *_types_looked_at(inner))}
        case HasCriterion(resource_type, _, inner):
            return {resource_type, *_types_looked_at(inner)}
        case ListCriterion():
            return {"List"}
        case HierarchyCriterion(references=references):
            return {one.partition("/")[0] for one in references}
    return {one for part in criteria.parts_of(criterion) for one in _types_looked_at(part)}


def _size(criterion: Criterion) -> int:
    match criterion:
        case TokenCriterion(keys=keys) | ReferenceCriterion(keys=keys) | UriCriterion(keys=keys):
            return len(keys)
        case IdCriterion(ids):
            return len(ids)
        case NotCriterion() | EveryCriterion() | AnyCriterion():
            return sum(map(_size, criteria.parts_of(criterion)))
        case MissingCriterion():
            return 1
        case ChainCriterion(targets=targets):
            return sum(_size(inner) for _, inner in targets)
        case HasCriterion(criterion=inner):
            return _size(inner)
        case ListCriterion(ids):
            return len(ids)
        case HierarchyCriterion(references=references):
            return len(references)
        case CompositeCriterion(in_whole=whole, in_elements=elements):
            return sum(_size(part) for parts in (*whole, *elements) for part in parts)
        case _:
            return len(criterion.alternatives)


# What a reference parameter may point to, and whether it says whose record a resource is.


def _selectors(resource_type: str, code: str) -> tuple[Selector, ...]:
    return selectors(parameters_of(resource_type)[code].expression, resource_type)


@cache
def _target_types(resource_type: str, code: str) -> tuple[str, ...]:
    """Types that the parameter and the element it finds both allow; ``patient`` says by its name what it means."""
    if code == "patient":
        return ("Patient",)
    said = parameters_of(resource_type)[code].targets or tuple(sorted(RESOURCE_TYPES))
    found = _selectors(resource_type, code)
    if any(not one.targets for one in found):
        return said
    allowed = {target for one in found for target in one.targets}
    return tuple(target for target in said if target in allowed)


@cache
def _holds_uris(resource_type: str, code: str) -> bool:
    return any(one.type in ("canonical", "uri") for one in _selectors(resource_type, code))


@cache
def _scope_parameters(resource_type: str) -> frozenset[str]:
    """Parameters that mean what ``patient`` means for the type, by the elements they look at.

    They put a resource into the Patient's compartment, and any source understands ``patient`` in their place; where
    R4 has no ``patient`` (AdverseEvent, Group, Schedule, SupplyRequest) the one that the compartment nominates.
    """
    nominated = compartment_parameters("Patient", resource_type)
    if not nominated or resource_type == "Patient":
        return frozenset()
    codes = parameters_of(resource_type)
    membership = {path for code in nominated for path in _paths(resource_type, code)}
    meant = _paths(resource_type, "patient" if "patient" in codes else nominated[0])
    if not meant <= membership:
        return frozenset()
    return frozenset(
        code
        for code, one in codes.items()
        if one.type == "reference"
        and _paths(resource_type, code) == meant
        and "Patient" in _target_types(resource_type, code)
    )


def _paths(resource_type: str, code: str) -> set[tuple[str, ...]]:
    return {one.path for one in _selectors(resource_type, code)}
