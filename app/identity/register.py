"""Which person a local Patient is: one human across custodians by verified NHS number, otherwise by themselves."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg

from app.vocabulary import LocalPatient, NhsNumber, OdsCode, PatientKey, PersonKey

_VERIFICATION = (
    "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-NHSNumberVerificationStatus",
    "https://fhir.nhs.uk/R4/StructureDefinition/Extension-UKCore-NHSNumberVerificationStatus",
)
_VERIFIED = ("01", "number-present-and-verified")


@dataclass(frozen=True, slots=True)
class Registered:
    """A local Patient and the person it belongs to."""

    patient: LocalPatient
    person: PersonKey
    nhs_number: NhsNumber | None
    consent_epoch: int


async def patients(
    connection: asyncpg.Connection, ids: Iterable[str], custodian: OdsCode
) -> dict[str, Registered]:
    """The local Patients of these ids. Unknown ones are registered as ``custodian``'s, to be described later."""
    wanted = sorted(set(ids))
    found = await _find(connection, wanted)
    for id in wanted:
        if id not in found:
            await connection.execute(_REGISTER, id, custodian)
    missing = [id for id in wanted if id not in found]
    return found | await _find(connection, missing) if missing else found


async def identify(
    connection: asyncpg.Connection, registered: Registered, number: NhsNumber | None, birth_date: str | None
) -> PersonKey:
    """Joins a local Patient to the person with this verified NHS number; gives the person it belongs to now.

    The number alone does not join people whose dates of birth differ: then the Patient stays by itself, because a
    wrong join would show one person's record to another.
    """
    own = await connection.fetchrow(
        "SELECT nhs_number, birth_date FROM person WHERE person_key = $1", registered.person
    )
    digits = number.digits if number else None
    if own is not None and own["nhs_number"] == digits:
        return registered.person
    target = await _person_for(connection, digits, birth_date)
    await connection.execute(
        "UPDATE patient SET person_key = $1 WHERE patient_key = $2", target, registered.patient.key
    )
    await bump_epoch(connection, [registered.person, target])
    return target


async def by_key(connection: asyncpg.Connection, key: PatientKey) -> Registered | None:
    """The local Patient with this key, None for what is in no patient's compartment."""
    row = await connection.fetchrow(f"{_SELECT} WHERE patient_key = $1", key)
    return _registered(row) if row else None


async def by_keys(connection: asyncpg.Connection, keys: Iterable[PatientKey]) -> dict[PatientKey, Registered]:
    """The local Patients with these keys."""
    rows = await connection.fetch(f"{_SELECT} WHERE patient_key = ANY($1)", sorted(keys))
    found = [_registered(row) for row in rows]
    return {one.patient.key: one for one in found}


async def bump_epoch(connection: asyncpg.Connection, persons: Iterable[int]) -> None:
    """Voids every cached decision about these persons, in every process, from this commit on."""
    await connection.execute(
        "UPDATE person SET consent_epoch = consent_epoch + 1 WHERE person_key = ANY($1)", sorted(set(persons))
    )


async def by_nhs_number(connection: asyncpg.Connection, number: NhsNumber, custodian: OdsCode) -> str | None:
    """The id of the custodian's own Patient for this person, if there is exactly one."""
    rows = await connection.fetch(
        "SELECT patient_id FROM patient JOIN person USING (person_key) WHERE nhs_number = $1 AND custodian = $2",
        number.digits,
        custodian,
    )
    return str(rows[0]["patient_id"]) if len(rows) == 1 else None


def verified_nhs_number(patient: Mapping[str, Any], system: str) -> NhsNumber | None:
    """The Patient's NHS number when its check digit is right and no status says that it was not verified."""
    for identifier in patient.get("identifier", ()):
        if identifier.get("system") == system and identifier.get("use") != "old" and _is_verified(identifier):
            try:
                return NhsNumber.parse(str(identifier.get("value", "")))
            except ValueError:
                continue
    return None


def _is_verified(identifier: Mapping[str, Any]) -> bool:
    for extension in identifier.get("extension", ()):
        if extension.get("url") in _VERIFICATION:
            codings = extension.get("valueCodeableConcept", {}).get("coding", ())
            return any(coding.get("code") in _VERIFIED for coding in codings)
    return True


_REGISTER = """
    WITH new_person AS (INSERT INTO person DEFAULT VALUES RETURNING person_key)
    INSERT INTO patient (patient_id, person_key, custodian)
    SELECT $1, person_key, $2 FROM new_person
    ON CONFLICT (patient_id) DO NOTHING
"""


_SELECT = """
    SELECT patient_key, patient_id, person_key, custodian, nhs_number, consent_epoch
    FROM patient JOIN person USING (person_key)
"""


async def _find(connection: asyncpg.Connection, ids: list[str]) -> dict[str, Registered]:
    rows = await connection.fetch(f"{_SELECT} WHERE patient_id = ANY($1)", ids)
    return {row["patient_id"]: _registered(row) for row in rows}


def _registered(row: asyncpg.Record) -> Registered:
    return Registered(
        LocalPatient(PatientKey(row["patient_key"]), row["patient_id"], OdsCode(row["custodian"])),
        PersonKey(row["person_key"]),
        NhsNumber(row["nhs_number"]) if row["nhs_number"] else None,
        row["consent_epoch"],
    )


async def _person_for(
    connection: asyncpg.Connection, digits: str | None, birth_date: str | None
) -> PersonKey:
    if digits is not None:
        known = await connection.fetchrow(
            """
            INSERT INTO person (nhs_number, birth_date) VALUES ($1, $2)
            ON CONFLICT (nhs_number) DO UPDATE SET birth_date = coalesce(person.birth_date, excluded.birth_date)
            RETURNING person_key, birth_date
            """,
            digits,
            birth_date,
        )
        if birth_date is None or known["birth_date"] is None or known["birth_date"] == birth_date:
            return PersonKey(known["person_key"])
    return PersonKey(await connection.fetchval("INSERT INTO person DEFAULT VALUES RETURNING person_key"))
