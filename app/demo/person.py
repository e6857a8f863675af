"""One person of the demonstration, as values, before anything is written about them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import StrEnum
from uuid import uuid5

from app.demo.catalogue import Code
from app.demo.organisations import NAMESPACE
from app.demo.problems import Problem
from app.vocabulary import NhsNumber, OdsCode

YEAR = timedelta(days=365.25)


class Smoking(StrEnum):
    NEVER = "never"
    FORMER = "former"
    CURRENT = "current"


class ChoiceKind(StrEnum):
    """What a person can have decided about their record; ``consents`` gives each its FHIR form."""

    PSYCHIATRY_ONLY_TO_MENTAL_HEALTH = "psychiatry-only-to-mental-health"
    NOT_TO_ONE_TRUST = "not-to-one-trust"
    RESEARCH = "research"
    EMERGENCIES_ONLY = "emergencies-only"
    NOT_TO_ONE_TRUST_FOR_A_TIME = "not-to-one-trust-for-a-time"


@dataclass(frozen=True, slots=True)
class Choice:
    """A decision of the person. ``organisation`` and ``until`` are given where the kind needs them."""

    kind: ChoiceKind
    made: date
    organisation: OdsCode | None = None
    until: date | None = None


@dataclass(frozen=True, slots=True)
class Address:
    line: str
    town: str
    postcode: str


@dataclass(frozen=True, slots=True)
class Illness:
    """A problem that one person has. ``kept_by`` are the custodians that know of it."""

    problem: Problem
    since: date
    kept_by: tuple[OdsCode, ...]


@dataclass(frozen=True, slots=True)
class PrivateProcedure:
    """Something done once, at one trust, that the person may not want known elsewhere."""

    code: Code
    day: date
    kept_by: OdsCode
    specialty: str
    sensitivity: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DemoPerson:
    """Everything true of a person on ``as_of``; each custodian writes down its part of it."""

    seed: int
    nhs_number: NhsNumber
    title: str
    given: str
    family: str
    gender: str
    born: date
    as_of: date
    ethnicity: Code
    address: Address
    former_address: Address
    phone: str
    practice: OdsCode
    trusts: tuple[OdsCode, ...]
    height: float
    """Centimetres, full-grown; a child's is found from its age."""
    weight: float
    """Kilograms, full-grown."""
    smoking: Smoking = Smoking.NEVER
    died: date | None = None
    illnesses: tuple[Illness, ...] = ()
    allergies: tuple[str, ...] = ()
    allergy_unknown_to: OdsCode | None = None
    """A custodian that has recorded "no known allergy" although another recorded one."""
    misspelt_at: OdsCode | None = None
    move_unknown_to: OdsCode | None = None
    procedures: tuple[PrivateProcedure, ...] = ()
    choices: tuple[Choice, ...] = ()
    levels: Mapping[str, float] = field(default_factory=dict)
    """Where in its range, 0 to 1, the person's own usual value of a measure lies."""

    @property
    def custodians(self) -> tuple[OdsCode, ...]:
        return (self.practice, *self.trusts)

    @property
    def last_day(self) -> date:
        """The last day on which anything can have happened to the person."""
        return self.died or self.as_of

    def age(self, on: date | None = None) -> int:
        """Completed years on a day, by default on the last one."""
        day = on or self.last_day
        return day.year - self.born.year - ((day.month, day.day) < (self.born.month, self.born.day))

    def illnesses_known_to(self, ods: OdsCode) -> tuple[Illness, ...]:
        return tuple(illness for illness in self.illnesses if ods in illness.kept_by)

    def patient_id(self, ods: OdsCode) -> str:
        """The id of the Patient that ``ods`` keeps for this person."""
        return patient_id(ods, self.nhs_number.digits)


def patient_id(ods: str, nhs_number: str) -> str:
    """The id of a custodian's Patient: the same in every load, whatever the seed."""
    return str(uuid5(NAMESPACE, f"Patient/{ods}/{nhs_number}"))
