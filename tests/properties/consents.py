"""Random directives, callers and facets over a universe so small that they often meet."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from app.consent.decision import actor_keys_of
from app.consent.policy import Default, Policy
from app.consent.provision import (
    Actions,
    Actor,
    ActorKind,
    Actors,
    Classes,
    Codes,
    Directive,
    Effect,
    Instance,
    Instances,
    Labels,
    Period,
    Provision,
    Purposes,
)
from app.fhir.authors import UNKNOWN_AUTHOR, lacking
from app.fhir.facets import Facets, bare_code_key, code_keys, inner_kind_key, kind_key
from app.fhir.keys import key64
from app.fhir.names import identifier_key
from app.fhir.systems import MIME_TYPES, RESOURCE_TYPES
from app.vocabulary import ODS_SYSTEM, Caller, EmergencyReason, OdsCode, PurposeOfUse

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = [BEGINNING + timedelta(days=days) for days in range(6)]
SDS = "https://fhir.nhs.uk/Id/sds-user-id"
GMC = "https://fhir.hl7.org.uk/Id/gmc-number"
LOINC = "http://loinc.org"
KINDS = [(LOINC, "34133-9"), (MIME_TYPES, "application/pdf")]
TYPES = ["Observation", "Condition", "DocumentReference"]
REFERENCES = ["Encounter/e1", "Observation/0", "Condition/1"]
CODE_KEYS = [*code_keys(LOINC, "a"), *code_keys(LOINC, "b"), bare_code_key("a")]
KIND_KEYS = [
    *(kind_key(*kind) for kind in KINDS),
    *(inner_kind_key(*kind) for kind in KINDS),
    *(inner_kind_key(RESOURCE_TYPES, name) for name in TYPES),
]
AUTHORS = ["Practitioner/p1", f"{SDS}|1", f"{ODS_SYSTEM}|RX1"]
AUTHOR_KEYS = [
    key64("ref", "Practitioner/p1"),
    key64("ref", "Practitioner/p2"),
    identifier_key(SDS, "1"),
    identifier_key(ODS_SYSTEM, "RX1"),
    UNKNOWN_AUTHOR,
    lacking("person", "identifier"),
    lacking("person", "reference"),
    lacking("organisation", "identifier"),
]

POLICY = Policy(
    "https://policy.example/tests",
    "1",
    {
        PurposeOfUse.TREAT: Default(4, frozenset({"psychiatrist"})),
        PurposeOfUse.ETREAT: Default(4),
        PurposeOfUse.HOPERAT: Default(3, types=frozenset({"Observation"})),
        PurposeOfUse.HRESCH: Default(0),
    },
    never=frozenset({"SDV"}),
)


def maybe(strategy: st.SearchStrategy) -> st.SearchStrategy:
    """Most elements of most rules are absent."""
    return st.one_of(st.none(), st.none(), strategy)


def some(values: list[Any], *, least: int = 0) -> st.SearchStrategy:
    return st.frozensets(st.sampled_from(values), min_size=least, max_size=3)


rarely = st.sampled_from([False] * 7 + [True])
bounds = st.one_of(st.none(), st.sampled_from(DAYS))
periods = st.tuples(bounds, bounds).filter(lambda p: p != (None, None)).map(lambda p: Period(*p))

ACTORS = [
    Actor(ActorKind.ORGANISATION, frozenset({identifier_key(ODS_SYSTEM, "RX1")}), frozenset({ODS_SYSTEM})),
    Actor(ActorKind.ORGANISATION, frozenset({identifier_key(ODS_SYSTEM, "RX2")}), frozenset({ODS_SYSTEM})),
    Actor(ActorKind.ORGANISATION, frozenset({key64("ref", "Organization/RX1")}), frozenset()),
    Actor(ActorKind.PERSON, frozenset({identifier_key(SDS, "1")}), frozenset({SDS})),
    Actor(ActorKind.PERSON, frozenset({identifier_key(GMC, "9")}), frozenset({GMC})),
    Actor(ActorKind.PERSON, frozenset({key64("ref", "Practitioner/p1")}), frozenset()),
    Actor(ActorKind.ROLE, frozenset({key64("role", "psychiatrist")}), frozenset()),
    Actor(ActorKind.RELATED, frozenset({key64("ref", "RelatedPerson/r1")}), frozenset()),
    Actor(ActorKind.OTHER, frozenset({key64("ref", "Group/g1")}), frozenset()),
]
PURPOSES = ["TREAT", "ETREAT", "BTG", "HOPERAT", "CAREMGT", "HRESCH", "CLINTRCH", "PATRQT", "FAMRQT"]

actors = st.builds(Actors, st.lists(st.sampled_from(ACTORS), min_size=1, max_size=2).map(tuple), rarely)
instances = st.builds(
    Instances,
    st.lists(
        st.builds(Instance, some(REFERENCES[1:]), some(REFERENCES), some(AUTHORS)), min_size=1, max_size=2
    ).map(tuple),
    rarely,
)


def provisions(effect: Effect, depth: int) -> st.SearchStrategy:
    children = st.just(())
    if depth > 1:
        child = st.sampled_from([effect, effect.opposite, effect.opposite]).flatmap(
            lambda own: provisions(own, depth - 1)
        )
        children = st.one_of(
            st.just(()), st.tuples(child), st.tuples(child, child) if depth > 2 else st.tuples(child)
        )
    return st.builds(
        Provision,
        st.just(effect),
        st.just("Consent.provision"),
        period=maybe(periods),
        actors=maybe(actors),
        purposes=maybe(st.builds(Purposes, some(PURPOSES, least=1), rarely)),
        actions=maybe(st.builds(Actions, some(["access", "use", "collect"], least=1), rarely)),
        labels=maybe(
            st.builds(Labels, some([2, 4, 5, 6]), some(["PSY", "ETH", "SDV"]), rarely).filter(
                lambda one: bool(one.levels or one.sensitivities or one.unknown)
            )
        ),
        classes=maybe(st.builds(Classes, some(TYPES), some(KINDS), rarely)),
        codes=maybe(st.builds(Codes, some(CODE_KEYS, least=1), rarely)),
        data_period=maybe(periods),
        instances=maybe(instances),
        exceptions=children,
    )


def registers_of(depth: int, size: int) -> st.SearchStrategy:
    """Several versions of three Consents in three slots, with provisions nested ``depth`` deep."""
    directives = st.builds(
        Directive,
        consent_id=st.sampled_from(["c1", "c2", "c3"]),
        version=st.integers(1, 3),
        status=st.sampled_from(["active", "active", "active", "inactive"]),
        scope=st.sampled_from(["patient-privacy"] * 5 + ["research"]),
        slot=st.sampled_from(["s1", "s2", "s3"]),
        recorded_at=st.sampled_from(DAYS),
        server_time=st.sampled_from(DAYS),
        rule=st.sampled_from(Effect).flatmap(lambda effect: provisions(effect, depth)),
    )
    return st.lists(directives, max_size=size, unique_by=lambda one: (one.consent_id, one.version))


registers = registers_of(depth=2, size=4)
deep_registers = registers_of(depth=4, size=3)

emergencies = st.one_of(
    st.none(), st.none(), st.just(EmergencyReason("system|1", "unconscious", "found in the street"))
)

callers = st.builds(
    Caller,
    subject=st.just("client"),
    client_id=st.just("client"),
    organisation=st.sampled_from([OdsCode("RX1"), OdsCode("RX2")]),
    purpose=st.sampled_from(
        [PurposeOfUse.TREAT] * 4
        + [PurposeOfUse(one) for one in ("ETREAT", "BTG", "HOPERAT", "CAREMGT", "HRESCH", "PATRQT")]
    ),
    scopes=st.just(("system/*.rs",)),
    token_id=st.just("t"),
    expires_at=st.just(DAYS[-1]),
    roles=st.sampled_from([(), ("psychiatrist",), ("nurse",)]),
    practitioner=st.sampled_from(["", f"{SDS}|1", f"{SDS}|2", f"{GMC}|9"]),
    emergency=emergencies,
)
"""Emergencies come with fitting and unfitting purposes."""

instants = st.sampled_from(DAYS + [day + timedelta(hours=7) for day in DAYS])


def keys_of(caller: Caller, *, member: bool) -> frozenset[int]:
    return actor_keys_of(caller) | ({key64("ref", "Group/g1")} if member else set())


def population(size: int, seed: int) -> list[Facets]:
    """Facets as unlike as the universe allows; the same for the same seed."""
    rng = random.Random(seed)

    def few(values: list[Any]) -> tuple[Any, ...]:
        return tuple(rng.sample(values, rng.choice([0, 0, 1, 1, 2])))

    return [
        Facets(
            resource_type=rng.choice(TYPES),
            id=str(number),
            custodian=OdsCode(rng.choice(["RX1", "RX2"])),
            confidentiality=rng.choice([0, 2, 4, 4, 4, 4, 5, 6]),
            sensitivity=frozenset(few(["PSY", "ETH", "SDV", "UNKNOWN"]) if rng.random() < 0.4 else ()),
            codes=few(CODE_KEYS),
            kinds=few(KIND_KEYS),
            authors=few(AUTHOR_KEYS),
            edges=few([key64("ref", one) for one in REFERENCES]),
            **relevant_interval(rng),
        )
        for number in range(size)
    ]


def relevant_interval(rng: random.Random) -> dict[str, Any]:
    """Undated, open at either end, or closed."""
    first, last = sorted(rng.sample(DAYS, 2))
    return {
        "relevant_from": rng.choice([None, first, first]),
        "relevant_until": rng.choice([None, last, last]),
    }
