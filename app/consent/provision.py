"""The values of a normalised Consent: what remains of it once every word has been understood (R4 Consent)."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Effect(StrEnum):
    PERMIT = "permit"
    DENY = "deny"

    @property
    def opposite(self) -> "Effect":
        return Effect.DENY if self is Effect.PERMIT else Effect.PERMIT


class ActorKind(StrEnum):
    """What an actor of a provision is; it decides whether a caller can be told from them."""

    ORGANISATION = "organisation"
    PERSON = "person"
    ROLE = "role"
    RELATED = "related"
    """The patient, or somebody close to them."""
    CLIENT = "client"
    OTHER = "other"
    """A group, a care team, or what cannot be told."""


@dataclass(frozen=True, slots=True)
class Period:
    """[start, end) in UTC; None is open, never both."""

    start: datetime | None
    end: datetime | None

    def contains(self, at: datetime) -> bool:
        return (self.start is None or self.start <= at) and (self.end is None or at < self.end)


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody a rule speaks of. ``systems`` are those of the identifiers that are known of them."""

    kind: ActorKind
    keys: frozenset[int]
    systems: frozenset[str]


@dataclass(frozen=True, slots=True)
class Actors:
    any_of: tuple[Actor, ...]
    unknown: bool
    """An actor is named in a way, or in a role, that is not understood."""


@dataclass(frozen=True, slots=True)
class Purposes:
    """Codes of ActReason; of other systems as ``system|code``, which no caller here can have."""

    codes: frozenset[str]
    unknown: bool


@dataclass(frozen=True, slots=True)
class Actions:
    codes: frozenset[str]
    unknown: bool


@dataclass(frozen=True, slots=True)
class Labels:
    levels: frozenset[int]
    sensitivities: frozenset[str]
    unknown: bool


@dataclass(frozen=True, slots=True)
class Classes:
    """Resource types, and every other class (profile, document type, MIME type) as ``(system, code)``."""

    types: frozenset[str]
    kinds: frozenset[tuple[str, str]]
    unknown: bool


@dataclass(frozen=True, slots=True)
class Codes:
    keys: frozenset[int]
    unknown: bool


@dataclass(frozen=True, slots=True)
class Instance:
    """A resource named by the patient, and how far the rule reaches from it (consent-data-meaning)."""

    itself: frozenset[str]
    """``Type/id``."""
    dependents: frozenset[str]
    """References whose referrers are meant."""
    authors: frozenset[str]
    """References, and identifiers as ``system|value``, of authors whose works are meant."""


@dataclass(frozen=True, slots=True)
class Instances:
    any_of: tuple[Instance, ...]
    unknown: bool


@dataclass(frozen=True, slots=True)
class Provision:
    """One rule. An element that is None does not constrain it."""

    effect: Effect
    path: str
    """FHIRPath in the Consent, e.g. ``Consent.provision.provision[1]``."""
    period: Period | None = None
    actors: Actors | None = None
    purposes: Purposes | None = None
    actions: Actions | None = None
    labels: Labels | None = None
    classes: Classes | None = None
    codes: Codes | None = None
    data_period: Period | None = None
    instances: Instances | None = None
    exceptions: "tuple[Provision, ...]" = ()

    def walk(self) -> "Iterator[Provision]":
        """Itself and every rule below it."""
        yield self
        for one in self.exceptions:
            yield from one.walk()


PRIVACY = "patient-privacy"
"""The scope of Consent that this service enforces."""

ACTIVE = "active"

DELETED = "deleted"
"""Status of a directive whose Consent was deleted; not one of R4's."""


@dataclass(frozen=True, slots=True)
class Directive:
    """One version of a Consent, normalised."""

    consent_id: str
    version: int
    status: str
    scope: str
    slot: str
    """(patient, controlling organisation, policy, scope, grantees) as a digest: in a slot, the newest counts."""
    recorded_at: datetime
    """When the choice was made: Consent.dateTime, its first instant; else when it was kept."""
    server_time: datetime
    """When this version was kept."""
    rule: Provision

    @property
    def reference(self) -> str:
        return f"Consent/{self.consent_id}/_history/{self.version}"

    @property
    def order(self) -> tuple[datetime, datetime, str, int]:
        """Recency in a slot; the same wherever and in whatever sequence versions arrive."""
        return self.recorded_at, self.server_time, self.consent_id, self.version
