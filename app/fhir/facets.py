"""What a decision looks at in a resource: its facets, computed once, when it is written (R4 Consent)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from app.fhir.authors import authors_of
from app.fhir.keys import key64
from app.fhir.names import local_reference
from app.fhir.relevance import relevant_interval
from app.fhir.sensitivity import LEVELS, MARKS, SENSITIVITIES, UNKNOWN, UNLABELLED, with_wider
from app.fhir.systems import (
    ACT_CODE,
    ACT_REASON,
    CONFIDENTIALITY,
    MIME_TYPES,
    RESOURCE_TYPES,
    URIS,
    canonical_system,
)
from app.vocabulary import OdsCode

_DOCUMENT_TYPES: Final[Mapping[str, tuple[str, ...]]] = {
    "Composition": ("type", "category"),
    "DiagnosticReport": ("code", "category"),
    "DocumentManifest": ("type",),
    "DocumentReference": ("type", "category"),
}

# A Quantity has a code as well, of its unit.
_NOT_OF_A_CODING: Final = ("value", "unit", "comparator")

_HARMLESS_LABELS: Final = (
    ACT_REASON,
    "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "https://fhir.nhs.uk/England/CodeSystem/England-NHSIdentityProofingLevel",
)
"""Systems whose labels say for what, how sure or by what proof, not how sensitive."""


@dataclass(slots=True)
class Facets:
    """Everything of one resource version that any rule may ask about. Keys are ``app.fhir.keys.key64``.

    Not changed after it was made. (Not frozen: a page makes hundreds, and a frozen one takes three times as long.)
    """

    resource_type: str
    id: str
    custodian: OdsCode
    confidentiality: int = UNLABELLED
    """0 unlabelled, 1 U, 2 L, 3 M, 4 N, 5 R, 6 V: the highest anywhere in it."""
    sensitivity: frozenset[str] = frozenset()
    """Codes of ActCode with everything they fall under; UNKNOWN for a label that is not understood."""
    codes: Sequence[int] = ()
    """('code', system, code) and ('code', '', code) of every Coding anywhere in it, labels apart; of one without
    a system ('code', 'no system', code)."""
    kinds: Sequence[int] = ()
    """('kind', system, code) of its type, profiles, document types and MIME types; ('kind inside', …) of those of
    resources inside it."""
    authors: Sequence[int] = ()
    """('ref', Type/id) and ('id', system, value) of its authors."""
    edges: Sequence[int] = ()
    """('ref', …) of every reference out of it; Type/id for those of the same base."""
    relevant_from: datetime | None = None
    relevant_until: datetime | None = None
    """[from, until); None is open, both None is undated."""
    also_patients: tuple[int, ...] = ()


@dataclass(slots=True)
class _Walk:
    """What one pass over the tree has found."""

    base: str
    root: Mapping[str, Any]
    confidentiality: int = UNLABELLED
    sensitivity: set[str] = field(default_factory=set)
    codes: set[int] = field(default_factory=set)
    kinds: set[int] = field(default_factory=set)
    edges: set[int] = field(default_factory=set)

    def over(self) -> None:
        stack: list[Any] = [self.root]
        while stack:
            node = stack.pop()
            if isinstance(node, list):
                stack.extend(node)
            elif isinstance(node, dict):
                self._node(node, stack)

    def _node(self, node: dict[str, Any], stack: list[Any]) -> None:
        for name, value in node.items():
            if isinstance(value, str):
                if name == "code":
                    self._coding(node, value)
                elif name == "reference":
                    self._edge(value)
                elif name == "contentType":
                    self.kinds.add(kind_key(MIME_TYPES, value.partition(";")[0].strip().lower()))
                elif name == "resourceType":
                    self._resource(node, value)
                elif name == "url" and value.endswith("inline-sec-label"):
                    self.label(node.get("valueCoding"))
            elif isinstance(value, dict):
                stack.append(self._meta(node, value) if name == "meta" else value)
            elif isinstance(value, list):
                stack.append(value)

    def _coding(self, node: Mapping[str, Any], code: str) -> None:
        if not any(name in node for name in _NOT_OF_A_CODING):
            system = node.get("system")
            if isinstance(system, str) and system:
                self.codes.update(code_keys(system, code))
            else:
                self.codes.update((*code_keys("", code), bare_code_key(code)))

    def _edge(self, reference: str) -> None:
        if target := local_reference(reference, self.base):
            self.edges.add(key64("ref", target))

    def _meta(self, node: Mapping[str, Any], meta: dict[str, Any]) -> dict[str, Any]:
        """Labels and profiles are taken here; the rest is walked on."""
        for coding in _listed(meta.get("security")):
            self.label(coding)
        for profile in _listed(meta.get("profile")):
            if isinstance(profile, str):
                self._kind(node, URIS, profile.partition("|")[0])
        return {name: value for name, value in meta.items() if name != "security"}

    def _resource(self, node: Mapping[str, Any], resource_type: str) -> None:
        """Of the resource itself and of each one inside it: a container is as sensitive as what it holds."""
        self._kind(node, RESOURCE_TYPES, resource_type)
        for name in _DOCUMENT_TYPES.get(resource_type, ()):
            for coding in _codings(node.get(name)):
                if isinstance(code := coding.get("code"), str):
                    self._kind(node, str(coding.get("system", "")), code)
        if resource_type == "DocumentReference":
            for coding in _codings(node.get("securityLabel")):
                self.label(coding)
        if resource_type == "Composition" and "confidentiality" in node:
            self.label({"system": CONFIDENTIALITY, "code": node["confidentiality"]})

    def _kind(self, node: Mapping[str, Any], system: str, code: str) -> None:
        self.kinds.add(kind_key(system, code) if node is self.root else inner_kind_key(system, code))

    def label(self, coding: Any) -> None:
        """One security label raises the confidentiality, adds a sensitivity, is harmless, or is unknown."""
        if not isinstance(coding, dict):
            return
        system = canonical_system(str(coding.get("system", "")))
        code = coding.get("code")
        if system == CONFIDENTIALITY and code in LEVELS:
            self.confidentiality = max(self.confidentiality, LEVELS[code])
        elif system == ACT_CODE and code in SENSITIVITIES:
            self.sensitivity |= with_wider(code)
        elif not (system in _HARMLESS_LABELS or (system == ACT_CODE and code in MARKS)):
            self.sensitivity.add(UNKNOWN)


def facets_of(resource: dict[str, Any], *, custodian: OdsCode, base_url: str) -> Facets:
    """The facets of a parsed resource. ``base_url`` is the FHIR base it was kept under."""
    walk = _Walk(base_url.rstrip("/") + "/" if base_url else "", resource)
    walk.over()
    relevant_from, relevant_until = relevant_interval(resource)
    return Facets(
        resource_type=str(resource.get("resourceType", "")),
        id=str(resource.get("id", "")),
        custodian=custodian,
        confidentiality=walk.confidentiality,
        sensitivity=frozenset(walk.sensitivity),
        codes=tuple(walk.codes),
        kinds=tuple(walk.kinds),
        authors=tuple(authors_of(resource, walk.base)),
        edges=tuple(walk.edges),
        relevant_from=relevant_from,
        relevant_until=relevant_until,
    )


def code_keys(system: str, code: str) -> tuple[int, ...]:
    """By system and code, and by code alone; the system under its one name."""
    alone = key64("code", "", code)
    return (alone,) if not system else (key64("code", canonical_system(system), code), alone)


def bare_code_key(code: str) -> int:
    """Of a code that stands without its system: it may be of the one that a denial means."""
    return key64("code", "no system", code)


def kind_key(system: str, code: str) -> int:
    return key64("kind", canonical_system(system), code)


def inner_kind_key(system: str, code: str) -> int:
    """Of a resource inside another one: a denial reaches the container, a permission does not."""
    return key64("kind inside", canonical_system(system), code)


def _codings(concepts: Any) -> Iterable[Mapping[str, Any]]:
    for concept in concepts if isinstance(concepts, list) else [concepts]:
        if isinstance(concept, dict):
            yield from (coding for coding in _listed(concept.get("coding")) if isinstance(coding, dict))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
