"""One decision, two evaluators and an oracle: memory, PostgreSQL and a literal interpreter agree on everything."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime

import pytest
import pytest_asyncio
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.consent.decision import Decision, decide, live
from app.consent.predicate import (
    FALSE,
    TRUE,
    CustodianIn,
    Empty,
    IdIn,
    LevelBetween,
    Meets,
    Overlaps,
    Predicate,
    Sensitive,
    TypeIn,
    Undated,
    Within,
    any_of,
    negated,
)
from app.consent.predicate import test_of as compiled_in_memory
from app.consent.provision import Directive, Effect, Provision
from app.consent.residual import compile_residual
from app.db import Database, Statement
from app.fhir.facets import Facets
from app.fhir.keys import key64
from app.records.tables import resource
from app.vocabulary import Caller
from tests.properties import interpreter
from tests.properties.consents import (
    AUTHOR_KEYS,
    CODE_KEYS,
    DAYS,
    KIND_KEYS,
    POLICY,
    callers,
    deep_registers,
    instants,
    keys_of,
    population,
    provisions,
    registers,
    registers_of,
)

POPULATION = population(240, seed=20261124)
SPANS = [(None, DAYS[2]), (DAYS[2], None), (DAYS[1], DAYS[3]), (DAYS[0], DAYS[5])]

_KEEP = """
    INSERT INTO resource (patient_key, resource_type, id, custodian, version, last_updated, content, also_patients,
        confidentiality, sensitivity, codes, kinds, authors, edges, relevant_from, relevant_until)
    VALUES (1, $1, $2, $3, 1, now(), '{}', '{}', $4, $5, $6, $7, $8, $9, $10, $11)
"""


@pytest_asyncio.fixture(loop_scope="session")
async def kept(owner: Database) -> AsyncIterator[Database]:
    """A database that holds the whole population."""
    rows = [
        (
            *(one.resource_type, one.id, one.custodian, one.confidentiality, sorted(one.sensitivity)),
            *(list(column) for column in (one.codes, one.kinds, one.authors, one.edges)),
            *(one.relevant_from, one.relevant_until),
        )
        for one in POPULATION
    ]
    async with owner.transaction() as connection:
        await connection.executemany(_KEEP, rows)
    yield owner


def decided(register: Sequence[Directive], caller: Caller, at: datetime, member: bool = False) -> Decision:
    keys = keys_of(caller, member=member)
    return decide(register, caller, at, POLICY, actor_keys=keys, epoch=1)


def oracle(register: list[Directive], caller: Caller, at: datetime, member: bool, one: Facets) -> bool:
    return interpreter.released(register, caller, at, POLICY, keys_of(caller, member=member), one)


async def selected(database: Database, predicate: Predicate) -> set[str]:
    columns = {column.name: column for column in resource.c}
    statement = Statement(sa.select(resource.c.id).where(compile_residual(predicate, columns)))
    return {row["id"] for row in await database.fetch(statement)}


CONDITIONS: list[Predicate] = [
    TRUE,
    FALSE,
    TypeIn(frozenset({"Observation", "Condition"})),
    IdIn(POPULATION[3].resource_type, frozenset({"3", "4"})),
    CustodianIn(frozenset({"RX1"})),
    LevelBetween(0, 0),
    LevelBetween(1, 4),
    Sensitive(frozenset({"PSY", "UNKNOWN"})),
    *(Overlaps("codes", frozenset({key})) for key in CODE_KEYS),
    *(Overlaps("kinds", frozenset({key})) for key in KIND_KEYS),
    *(Overlaps("authors", frozenset({key})) for key in AUTHOR_KEYS),
    Overlaps("edges", frozenset({key64("ref", "Encounter/e1")})),
    *(Empty(column) for column in ("codes", "kinds", "authors", "edges")),
    Undated(),
    *(Within(start, end) for start, end in SPANS),
    *(any_of(Meets((span,))) for span in SPANS),
    any_of(*(Meets((span,)) for span in ((DAYS[0], DAYS[1]), (DAYS[3], DAYS[4]), (DAYS[4], None)))),
]


@pytest.mark.parametrize("negate", [False, True])
async def test_every_condition_and_its_opposite_mean_the_same_in_sql(kept: Database, negate: bool) -> None:
    """Above all where a column is NULL: there, NOT must not lose a row."""
    for condition in CONDITIONS:
        predicate = negated(condition) if negate else condition
        holds = compiled_in_memory(predicate)
        assert await selected(kept, predicate) == {one.id for one in POPULATION if holds(one)}, predicate


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.one_of(registers, deep_registers), callers, instants, st.booleans())
async def test_memory_sql_and_the_literal_model_release_the_same(
    kept: Database, register: list[Directive], caller: Caller, at: datetime, member: bool
) -> None:
    decision = decided(register, caller, at, member)
    in_memory = {one.id for one in POPULATION if decision.releases(one)}
    assert in_memory == {one.id for one in POPULATION if oracle(register, caller, at, member, one)}
    assert in_memory == await selected(kept, decision.residual)
    assert decision.permitted or not in_memory


@settings(max_examples=60, deadline=None)
@given(registers, provisions(Effect.DENY, 1), callers.filter(lambda one: one.emergency is None), instants)
def test_a_further_denial_never_releases_more(
    register: list[Directive], denial: Provision, caller: Caller, at: datetime
) -> None:
    extra = Directive("c9", 1, "active", "patient-privacy", "s9", DAYS[0], DAYS[0], denial)
    before, after = decided(register, caller, at), decided([*register, extra], caller, at)
    assert not any(after.releases(one) and not before.releases(one) for one in POPULATION[:80])


@settings(max_examples=60, deadline=None)
@given(registers, callers, instants, st.randoms())
def test_the_sequence_in_which_directives_arrive_changes_nothing(
    register: list[Directive], caller: Caller, at: datetime, chance: object
) -> None:
    shuffled = list(register)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis' random
    one, other = decided(register, caller, at), decided(shuffled, caller, at)
    assert [x.reference for x in live(register)] == [x.reference for x in live(shuffled)]
    assert [one.releases(x) for x in POPULATION[:60]] == [other.releases(x) for x in POPULATION[:60]]


@settings(max_examples=60, deadline=None)
@given(registers, callers, instants)
def test_a_decision_holds_until_it_says_that_it_may_change(
    register: list[Directive], caller: Caller, at: datetime
) -> None:
    decision = decided(register, caller, at)
    later = [moment for moment in DAYS if moment > at]
    for moment in later:
        if decision.next_change_at is None or moment < decision.next_change_at:
            again = decided(register, caller, moment)
            assert [again.releases(one) for one in POPULATION[:60]] == [
                decision.releases(one) for one in POPULATION[:60]
            ]


@settings(max_examples=60, deadline=None)
@given(registers_of(depth=1, size=6))
def test_an_ended_consent_does_not_bring_back_its_predecessor(
    register: list[Directive],
) -> None:
    for ended in live(register):
        withdrawn = replace(ended, version=ended.version + 1, status="inactive")
        assert {one.reference for one in live([*register, withdrawn])} == {
            one.reference for one in live(register) if one is not ended
        }


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from([(a, b) for a in (None, *DAYS) for b in (*DAYS, None) if not (a and b) or a < b])
    )
)
def test_periods_looked_at_together_mean_what_each_means(
    spans: list[tuple[datetime | None, datetime | None]],
) -> None:
    together = compiled_in_memory(any_of(*(Meets((span,)) for span in spans)))
    each = [compiled_in_memory(Meets((span,))) for span in spans]
    assert all(together(one) == any(holds(one) for holds in each) for one in POPULATION[:80])
