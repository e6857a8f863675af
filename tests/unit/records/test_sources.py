"""A source is registered once, changed in place, and left alone once it answered for another patient."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.db import Database
from app.errors import BusinessRule
from app.records.sources import KnownPatients, Source, SourceRegister, checked_url
from app.vocabulary import OdsCode, PersonKey

RX2, RX3 = OdsCode("RX2"), OdsCode("RX3")
BASE = "https://rx2.example/fhir"
PERSON = PersonKey(7)


@pytest.fixture
def register(database: Database) -> SourceRegister:
    return SourceRegister(database)


async def test_a_source_is_registered_with_its_address_tidied(register: SourceRegister) -> None:
    await register.add(
        RX2,
        BASE + "/",
        kind="candour",
        name=" A\ttrust\n ",
        token_url="https://rx2.example/token",
        client_id="n",
    )
    assert await register.active() == (
        Source(RX2, "A trust", "candour", BASE, "https://rx2.example/token", "n", quarantined=False),
    )


async def test_registering_twice_is_registering_once(register: SourceRegister) -> None:
    await register.add(RX2, BASE, kind="fhir")
    await register.add(RX2, BASE, kind="fhir")
    assert [one.ods_code for one in await register.active()] == [RX2]


async def test_registering_again_changes_what_is_said_and_nothing_else(register: SourceRegister) -> None:
    await register.add(RX2, BASE, kind="fhir", name="Old")
    await register.quarantine(RX2)
    await register.add(RX2, BASE, kind="fhir", name="New")
    (source,) = await register.active()
    assert source.name == "New" and source.quarantined


async def test_sources_come_in_the_order_of_their_codes(register: SourceRegister) -> None:
    await register.add(RX3, "https://rx3.example/fhir", kind="fhir")
    await register.add(RX2, BASE, kind="fhir")
    assert [one.ods_code for one in await register.active()] == [RX2, RX3]


async def test_one_server_is_not_registered_under_two_codes(register: SourceRegister) -> None:
    await register.add(RX2, BASE, kind="fhir")
    with pytest.raises(BusinessRule, match="RX2"):
        await register.add(RX3, BASE + "/", kind="fhir")
    assert [one.ods_code for one in await register.active()] == [RX2]


async def test_an_unknown_kind_is_refused(register: SourceRegister) -> None:
    with pytest.raises(BusinessRule, match="candour or fhir"):
        await register.add(RX2, BASE, kind="hl7v2")


async def test_a_quarantine_lasts_until_it_is_cleared(register: SourceRegister) -> None:
    await register.add(RX2, BASE, kind="fhir")
    await register.quarantine(RX2)
    await register.quarantine(RX2)
    assert [one.quarantined for one in await register.active()] == [True]
    await register.clear(RX2)
    assert [one.quarantined for one in await register.active()] == [False]


async def test_the_first_instant_of_a_quarantine_is_kept(
    register: SourceRegister, database: Database
) -> None:
    await register.add(RX2, BASE, kind="fhir")
    await register.quarantine(RX2)
    first = await database.pool.fetchval("SELECT quarantined_at FROM source")
    await register.quarantine(RX2)
    assert await database.pool.fetchval("SELECT quarantined_at FROM source") == first


async def test_clearing_what_is_not_registered_is_said(register: SourceRegister) -> None:
    with pytest.raises(BusinessRule, match="RX2"):
        await register.clear(RX2)


async def test_a_persons_ids_are_remembered_by_source(register: SourceRegister) -> None:
    await register.add(RX2, BASE, kind="fhir")
    await register.remember_patient(RX2, PERSON, ["p2"], {"p1", "p2"})
    await register.remember_patient(RX2, PERSON, ["p1"], {"p1", "p3"})
    assert await register.patient_ids(PERSON) == {RX2: KnownPatients(("p1",), frozenset({"p1", "p3"}))}
    assert await register.patient_ids(PersonKey(8)) == {}


async def test_ids_are_forgotten_when_the_source_moves(register: SourceRegister) -> None:
    await register.add(RX2, BASE, kind="fhir")
    await register.remember_patient(RX2, PERSON, ["p1"], {"p1"})
    await register.add(RX2, BASE, kind="candour")
    assert RX2 in await register.patient_ids(PERSON)
    await register.add(RX2, "https://elsewhere.example/fhir", kind="candour")
    assert await register.patient_ids(PERSON) == {}


async def test_ids_are_forgotten_when_a_quarantine_ends(register: SourceRegister) -> None:
    await register.add(RX2, BASE, kind="fhir")
    await register.remember_patient(RX2, PERSON, ["p1"], {"p1"})
    await register.clear(RX2)
    assert await register.patient_ids(PERSON) == {}


@pytest.mark.parametrize(
    "url",
    [
        "",
        "rx2.example/fhir",
        "ftp://rx2.example/fhir",
        "file:///etc/passwd",
        "https:///fhir",
        "https://user:secret@rx2.example/fhir",
        "https://user@rx2.example/fhir",
        "https://rx2.example/fhir#part",
        "https://rx2.example/fhir#",
        "https://rx2.example/fhir?tenant=1",
        "https://rx2.example:port/fhir",
        "https://rx2.example:0/fhir",
        "https://rx2.example:99999/fhir",
        "https://[::1/fhir",
        "https://rx2.example\\@evil.example/fhir",
        "https://rx2.example/fhir\r\nHost: evil.example",
        "https://rx2.example/a b",
        "https://rx2.exämple/fhir",
    ],
)
async def test_an_address_that_cannot_be_asked_safely_is_refused(register: SourceRegister, url: str) -> None:
    with pytest.raises(BusinessRule, match="without credentials"):
        await register.add(RX2, url, kind="fhir")
    with pytest.raises(BusinessRule, match="without credentials"):
        await register.add(RX2, BASE, kind="candour", token_url=url or "x")
    assert await register.active() == ()


@given(st.text())
def test_an_address_is_taken_as_it_is_or_refused(text: str) -> None:
    try:
        assert checked_url(text) == text
    except BusinessRule:
        return
    assert text.startswith(("http://", "https://")) and text.isascii() and "@" not in text.split("/")[2]
