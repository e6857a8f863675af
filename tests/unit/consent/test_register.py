"""The register, on PostgreSQL, as the application's role."""

from dataclasses import replace
from datetime import UTC, datetime

import asyncpg
import pytest

from app.consent.decision import live
from app.consent.provision import Directive, Effect, Provision
from app.consent.register import ConsentRegister, DirectiveCache
from app.db import Database
from app.errors import Conflict
from app.vocabulary import PatientKey, PersonKey

AT = datetime(2026, 11, 24, tzinfo=UTC)
PERMIT = Directive(
    "c", 1, "active", "patient-privacy", "s", AT, AT, Provision(Effect.PERMIT, "Consent.provision")
)


async def a_person(database: Database, *patients: str) -> tuple[PersonKey, list[PatientKey]]:
    async with database.transaction() as connection:
        person = await connection.fetchval("INSERT INTO person DEFAULT VALUES RETURNING person_key")
        keys = [
            await connection.fetchval(
                "INSERT INTO patient (patient_id, person_key, custodian) VALUES ($1, $2, 'RX1') RETURNING patient_key",
                patient,
                person,
            )
            for patient in patients
        ]
    return PersonKey(person), [PatientKey(key) for key in keys]


async def register(database: Database, patient: PatientKey, person: PersonKey, directive: Directive) -> None:
    async with database.transaction() as connection:
        await ConsentRegister(database).register(
            connection, patient, person, directive.consent_id, directive.version, directive
        )


async def epoch(database: Database, person: PersonKey) -> int:
    async with database.connection() as connection:
        found = await connection.fetchval("SELECT consent_epoch FROM person WHERE person_key = $1", person)
    return int(found)


async def test_what_is_registered_is_found_by_the_person(database: Database) -> None:
    person, [first, second] = await a_person(database, "a", "b")
    other, [stranger] = await a_person(database, "c")
    await register(database, first, person, PERMIT)
    await register(database, second, person, replace(PERMIT, consent_id="d"))
    await register(database, stranger, other, replace(PERMIT, consent_id="e"))
    found = await ConsentRegister(database).directives(person)
    assert found == [PERMIT, replace(PERMIT, consent_id="d")]


async def test_every_registration_moves_the_epoch_on(database: Database) -> None:
    person, [patient] = await a_person(database, "a")
    before = await epoch(database, person)
    await register(database, patient, person, PERMIT)
    assert await epoch(database, person) == before + 1


async def test_neither_is_kept_when_the_transaction_is_not(database: Database) -> None:
    person, [patient] = await a_person(database, "a")
    before = await epoch(database, person)
    async with database.connection() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await ConsentRegister(database).register(connection, patient, person, "c", 1, PERMIT)
        await transaction.rollback()
    assert await ConsentRegister(database).directives(person) == []
    assert await epoch(database, person) == before


async def test_a_deleted_consent_has_no_effect_and_leaves_its_slot_ended(database: Database) -> None:
    person, [patient] = await a_person(database, "a")
    older = replace(PERMIT, consent_id="older", recorded_at=datetime(2025, 1, 1, tzinfo=UTC))
    await register(database, patient, person, older)
    await register(database, patient, person, PERMIT)
    async with database.transaction() as connection:
        await ConsentRegister(database).register(connection, patient, person, "c", 2, None)
    found = await ConsentRegister(database).directives(person)
    assert [(one.consent_id, one.version, one.status) for one in found] == [
        ("c", 1, "active"),
        ("c", 2, "deleted"),
        ("older", 1, "active"),
    ]
    assert live(found) == ()


async def test_a_version_is_registered_once(database: Database) -> None:
    person, [patient] = await a_person(database, "a")
    await register(database, patient, person, PERMIT)
    with pytest.raises(Conflict):
        await register(database, patient, person, PERMIT)


async def test_what_cannot_be_read_denies_everything(database: Database, owner: Database) -> None:
    person, [patient] = await a_person(database, "a")
    await register(database, patient, person, PERMIT)
    async with owner.transaction() as connection:
        await connection.execute("UPDATE directive SET body = 'torn'")
    [found] = await ConsentRegister(database).directives(person)
    assert found.rule == Provision(Effect.DENY, "Consent.provision")
    assert live([found]) == (found,)


@pytest.mark.parametrize("statement", ["UPDATE directive SET status = 'active'", "DELETE FROM directive"])
async def test_the_application_cannot_change_what_was_decided(database: Database, statement: str) -> None:
    async with database.connection() as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)


async def test_a_cache_reads_again_under_another_epoch(database: Database) -> None:
    person, [patient] = await a_person(database, "a")
    cache = DirectiveCache(ConsentRegister(database), keep=2)
    before = await epoch(database, person)
    assert await cache.directives(person, before) == []
    await register(database, patient, person, PERMIT)
    assert await cache.directives(person, before) == []
    assert await cache.directives(person, await epoch(database, person)) == [PERMIT]
