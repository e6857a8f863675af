"""A source is asked for one person, and believed only when all of its answer is about that person."""

import asyncio
import gzip
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.db import Database
from app.fhir.compartments import in_patient_compartment
from app.fhir.definitions import RESOURCE_TYPES
from app.fhir.parameters import parameters_of
from app.records.answers import ignored_parameters, within
from app.records.calls import PATIENT_PARAMETERS
from app.records.remote import RemoteAnswer, RemoteQuestion, Remotes
from app.records.sources import KnownPatients, Source, SourceRegister
from app.records.unanswered import (
    Down,
    IdentityUncertain,
    NoRecord,
    NotSupported,
    NotUnderstood,
    Refused,
    Throttled,
    TimedOut,
    Unanswered,
    WrongPatient,
)
from app.vocabulary import Caller, OdsCode
from tests.unit.records.hospital import (
    CALLER,
    NUMBER,
    OTHER_NUMBER,
    QUESTION,
    Asked,
    Hospital,
    Sent,
    a_hospital,
    linking,
    observation,
    patient,
    saying,
    searchset,
)

RX2 = OdsCode("RX2")
EVERYTHING = replace(QUESTION, resource_type=None)


class Asking:
    """A question to one hospital, through everything that production uses."""

    def __init__(self, database: Database) -> None:
        self.register = SourceRegister(database)
        self.attested: list[tuple[Source, Caller]] = []
        self.remotes = Remotes(self.register, self.assertion)

    def assertion(self, source: Source, caller: Caller) -> str:
        self.attested.append((source, caller))
        return f"assertion-{len(self.attested)}"

    async def add(self, hospital: Hospital, *, kind: str = "fhir", token: bool = False) -> Source:
        token_url = f"{hospital.root}/oauth/token" if token else None
        await self.register.add(RX2, hospital.base_url, kind=kind, token_url=token_url, client_id="node-1")
        return (await self.register.active())[0]

    async def ask(
        self,
        hospital: Hospital,
        question: RemoteQuestion = QUESTION,
        *,
        kind: str = "fhir",
        token: bool = False,
    ) -> RemoteAnswer:
        source = await self.add(hospital, kind=kind, token=token)
        known = await self.register.patient_ids(question.identity.person)
        return await self.remotes.to(source).ask(replace(question, known=known))


@pytest.fixture
async def asking(sources_database: Database) -> AsyncIterator[Asking]:
    await sources_database.pool.execute("DELETE FROM source")
    made = Asking(sources_database)
    yield made
    await made.remotes.close()


def ids(answer: RemoteAnswer) -> list[str]:
    return [record.id for record in answer.records]


# What is asked.


async def test_the_person_is_looked_up_by_number_and_asked_for_by_id(asking: Asking) -> None:
    async with a_hospital() as hospital:
        answer = await asking.ask(hospital, replace(QUESTION, pairs=(("code", "http://loinc.org|718-7"),)))
    look_up, search = hospital.asked
    assert (look_up.method, look_up.path) == ("GET", "/fhir/Patient")
    assert look_up.pairs == [("identifier", f"https://fhir.nhs.uk/Id/nhs-number|{NUMBER.digits}")]
    assert search.path == "/fhir/Observation"
    assert search.pairs == [("patient", "Patient/p1"), ("code", "http://loinc.org|718-7"), ("_count", "500")]
    assert ids(answer) == ["o1", "o2"] and not answer.gap


async def test_another_node_is_asked_by_post_so_that_no_address_holds_the_number(asking: Asking) -> None:
    async with a_hospital() as hospital:
        await asking.ask(hospital, kind="candour")
    assert (hospital.asked[0].method, hospital.asked[0].path) == ("POST", "/fhir/Patient/_search")
    assert all(NUMBER.digits not in one.target for one in hospital.asked)


async def test_both_ends_are_joined_by_trace_and_request(asking: Asking) -> None:
    async with a_hospital() as hospital:
        await asking.ask(hospital)
    spans = [one.headers["traceparent"].split("-") for one in hospital.asked]
    assert {(span[0], span[1], span[3]) for span in spans} == {("00", QUESTION.trace_id, "01")}
    assert len({span[2] for span in spans}) == 2
    assert {one.headers["x-request-id"] for one in hospital.asked} == {"request-1"}
    assert {one.headers["accept"] for one in hospital.asked} == {"application/fhir+json"}
    assert {one.headers["prefer"] for one in hospital.asked} == {"handling=strict"}


async def test_a_request_id_that_no_header_can_hold_stays_here(asking: Asking) -> None:
    async with a_hospital() as hospital:
        await asking.ask(hospital, replace(QUESTION, request_id="a\r\nX-Evil: 1"))
    assert all("x-request-id" not in one.headers and "x-evil" not in one.headers for one in hospital.asked)


async def test_how_the_answer_is_to_look_is_not_passed_on(asking: Asking) -> None:
    pairs = (
        ("_count", "3"),
        ("_sort", "-date"),
        ("_elements", "code"),
        ("_summary", "count"),
        ("status", "final"),
    )
    async with a_hospital() as hospital:
        await asking.ask(hospital, replace(QUESTION, pairs=pairs))
    assert hospital.asked[1].pairs == [("patient", "Patient/p1"), ("status", "final"), ("_count", "500")]


async def test_everything_is_asked_for_with_the_operation(asking: Asking) -> None:
    practitioner = '{"resourceType":"Practitioner","id":"dr"}'
    async with a_hospital(records=[observation("o1"), practitioner]) as hospital:
        answer = await asking.ask(hospital, EVERYTHING)
    assert hospital.asked[1].path == "/fhir/Patient/p1/$everything"
    assert [record.reference for record in answer.records] == [
        "Patient/p1",
        "Observation/o1",
        "Practitioner/dr",
    ]


def test_every_type_that_patients_have_is_asked_by_a_parameter_it_has() -> None:
    for resource_type in filter(in_patient_compartment, RESOURCE_TYPES):
        name = PATIENT_PARAMETERS.get(resource_type, "patient")
        assert name == "_id" or name in parameters_of(resource_type), resource_type


async def test_patients_are_asked_for_by_their_ids(asking: Asking) -> None:
    async with a_hospital() as hospital:
        hospital.instead["/fhir/Patient"] = saying(searchset([json.dumps(patient("p1"))]))
        answer = await asking.ask(hospital, replace(QUESTION, resource_type="Patient"))
    assert hospital.asked[1].pairs == [("_id", "p1"), ("_count", "500")]
    assert ids(answer) == ["p1"]


# What is kept.


async def test_the_text_is_kept_byte_for_byte(asking: Asking) -> None:
    text = (
        '{ "resourceType" : "Observation","id":"o1","status":"final",\n "code":{"text":"\\u00dcber\\/Ü"},'
        '"subject":{"reference":"Patient\\/p1"},"valueQuantity":{"value":1.50e+00,"unit":"g/L"}  }'
    )
    async with a_hospital(records=[text]) as hospital:
        answer = await asking.ask(hospital)
    assert [record.content for record in answer.records] == [text]


async def test_a_record_says_whose_it_is_and_which_version(asking: Asking) -> None:
    async with a_hospital(records=[observation("o1")]) as hospital:
        (record,) = (await asking.ask(hospital)).records
    assert (record.custodian, record.resource_type, record.id, record.version) == (
        RX2,
        "Observation",
        "o1",
        "3",
    )
    assert record.last_updated == "2026-11-02T10:00:00.123Z"
    assert record.full_url == f"{hospital.base_url}/Observation/o1"
    assert record.body["status"] == "final"


async def test_a_version_or_instant_that_is_none_is_left_empty(asking: Asking) -> None:
    text = observation("o1").replace('"3"', '"a b"').replace("10:00:00.123Z", "10:00:00")
    async with a_hospital(records=[text]) as hospital:
        (record,) = (await asking.ask(hospital)).records
    assert (record.version, record.last_updated) == ("", "")


async def test_included_resources_are_not_matches_of_a_search(asking: Asking) -> None:
    async with a_hospital() as hospital:
        included = '{"resource":{"resourceType":"Practitioner","id":"dr"},"search":{"mode":"include"}}'
        hospital.instead["/fhir/Observation"] = saying(searchset([observation("o1")], more=included))
        answer = await asking.ask(hospital)
    assert ids(answer) == ["o1"] and not answer.gap


async def test_included_resources_are_part_of_everything(asking: Asking) -> None:
    async with a_hospital() as hospital:
        body = searchset([observation("o1")], mode="include")
        hospital.instead["/fhir/Patient/p1/$everything"] = saying(body)
        assert ids(await asking.ask(hospital, EVERYTHING)) == ["o1"]


async def test_a_resource_that_is_not_of_r4s_structure_is_left_out_and_missed(asking: Asking) -> None:
    broken = observation("o2").replace('{"text":"Hb"}', '"Hb"')
    async with a_hospital(records=[observation("o1"), broken, observation("../o3")]) as hospital:
        answer = await asking.ask(hospital)
    assert ids(answer) == ["o1"] and answer.gap


async def test_a_resource_with_more_faults_than_are_told_is_left_out(asking: Asking) -> None:
    faults = '"extension":[' + ",".join(['{"url":"x","valueDecimal":"1"}'] * 200) + "],"
    broken = observation("o2").replace('"status"', faults + '"status"')
    async with a_hospital(records=[observation("o1"), broken]) as hospital:
        answer = await asking.ask(hospital)
    assert ids(answer) == ["o1"] and answer.gap


async def test_a_resource_that_breaks_another_rule_of_r4_is_still_the_custodians_record(
    asking: Asking,
) -> None:
    async with a_hospital(records=[observation("o1").replace('"final"', '"finished"')]) as hospital:
        answer = await asking.ask(hospital)
    assert ids(answer) == ["o1"] and not answer.gap


@pytest.mark.parametrize(
    ("issue", "gap"),
    [
        ({"severity": "warning", "code": "timeout"}, True),
        ({"severity": "information", "code": "informational"}, False),
    ],
)
async def test_an_outcome_beside_the_matches_tells_whether_it_is_all(
    asking: Asking, issue: dict[str, Any], gap: bool
) -> None:
    outcome = json.dumps({"resourceType": "OperationOutcome", "issue": [issue]})
    async with a_hospital() as hospital:
        more = f'{{"resource":{outcome},"search":{{"mode":"outcome"}}}}'
        hospital.instead["/fhir/Observation"] = saying(searchset([observation("o1")], more=more))
        answer = await asking.ask(hospital)
    assert ids(answer) == ["o1"] and answer.gap is gap


# Whose it is.


@pytest.mark.parametrize(
    "text",
    [
        observation("o9", "Patient/p2"),
        observation("o9", "https://elsewhere.example/fhir/Patient/p1"),
        observation("o9", "urn:uuid:0af76519-16cd-43dd-8448-eb211c80319c"),
        observation("o9").replace('"reference":"Patient/p1"', '"identifier":{"value":"1"},"type":"Patient"'),
        observation("o9").replace(',"subject":{"reference":"Patient/p1"}', ""),
        observation("o9").replace('"status"', '"performer":[{"reference":"Patient/p2"}],"status"'),
        observation("o9").replace(
            '"status"', '"performer":[{"reference":"https://elsewhere.example/Patient/p1"}],"status"'
        ),
    ],
    ids=["another", "another base", "a urn", "by identifier", "nobody", "two patients", "one of two unclear"],
)
async def test_one_resource_of_somebody_else_spoils_the_whole_answer(asking: Asking, text: str) -> None:
    async with a_hospital(records=[observation("o1"), text]) as hospital:
        with pytest.raises(WrongPatient):
            await asking.ask(hospital)


@pytest.mark.parametrize("subject", ["Patient/p2", "https://elsewhere.example/fhir/Patient/p1", "urn:uuid:1"])
async def test_one_resource_of_somebody_else_spoils_everything(asking: Asking, subject: str) -> None:
    async with a_hospital(records=[observation("o1"), observation("o9", subject)]) as hospital:
        with pytest.raises(WrongPatient):
            await asking.ask(hospital, EVERYTHING)


async def test_what_could_be_a_patients_and_is_nobodys_is_left_out_of_everything_and_missed(
    asking: Asking,
) -> None:
    nobodys = '{"resourceType":"List","id":"l1","status":"current","mode":"working"}'
    async with a_hospital(records=[nobodys, '{"resourceType":"Device","id":"pump"}']) as hospital:
        answer = await asking.ask(hospital, EVERYTHING)
    assert ids(answer) == ["p1", "pump"] and answer.gap


@pytest.mark.parametrize(
    ("context", "shown"),
    [
        ("Patient/p1", True),
        ("Patient/p2", False),
        ("DocumentReference/d1", False),
        ("https://elsewhere.example/fhir/Patient/p1", False),
        ("urn:uuid:1", False),
        (None, False),
    ],
)
async def test_bytes_come_from_a_source_only_if_they_say_to_be_the_persons(
    asking: Asking, context: str | None, shown: bool
) -> None:
    binary = {"resourceType": "Binary", "id": "b1", "contentType": "application/pdf"}
    if context is not None:
        binary |= {"securityContext": {"reference": context}}  # type: ignore[dict-item]
    async with a_hospital(records=[json.dumps(binary)]) as hospital:
        answer = await asking.ask(hospital, EVERYTHING)
    assert ids(answer) == (["p1", "b1"] if shown else ["p1"])
    assert answer.gap is not shown


async def test_an_absolute_reference_to_the_sources_own_patient_is_the_person(asking: Asking) -> None:
    async with a_hospital() as hospital:
        hospital.records = [observation("o1", f"{hospital.base_url}/Patient/p1")]
        assert ids(await asking.ask(hospital)) == ["o1"]


async def test_a_server_that_ignores_the_number_is_not_believed(asking: Asking) -> None:
    async with a_hospital() as hospital:
        every = [json.dumps(patient("p1")), json.dumps(patient("p2", OTHER_NUMBER))]
        hospital.instead["/fhir/Patient"] = saying(searchset(every))
        with pytest.raises(WrongPatient):
            await asking.ask(hospital)
    assert "/fhir/Observation" not in hospital.paths()


async def test_nobody_with_the_number_is_no_record(asking: Asking) -> None:
    async with a_hospital(patients=[]) as hospital:
        with pytest.raises(NoRecord):
            await asking.ask(hospital)
    assert hospital.paths() == ["/fhir/Patient"]


async def test_a_number_that_the_source_has_not_verified_is_uncertain(asking: Asking) -> None:
    status = {
        "url": "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-NHSNumberVerificationStatus",
        "valueCodeableConcept": {"coding": [{"code": "02"}]},
    }
    unverified = patient("p1")
    unverified["identifier"][0]["extension"] = [status]
    async with a_hospital(patients=[unverified]) as hospital:
        with pytest.raises(IdentityUncertain) as raised:
            await asking.ask(hospital)
    assert not isinstance(raised.value, WrongPatient)


async def test_a_number_of_old_is_uncertain(asking: Asking) -> None:
    superseded = patient("p1")
    superseded["identifier"][0]["use"] = "old"
    async with a_hospital(patients=[superseded]) as hospital:
        with pytest.raises(IdentityUncertain) as raised:
            await asking.ask(hospital)
    assert not isinstance(raised.value, WrongPatient)


@pytest.mark.parametrize(("born", "certain"), [("1970-01-01", True), (None, True), ("1970-10-01", False)])
async def test_another_date_of_birth_makes_a_number_uncertain(
    asking: Asking, born: str | None, certain: bool
) -> None:
    known = patient("p1") | ({"birthDate": born} if born else {})
    async with a_hospital(patients=[known]) as hospital:
        question = replace(QUESTION, birth_date="1970-01-01")
        if certain:
            assert ids(await asking.ask(hospital, question)) == ["o1", "o2"]
        else:
            with pytest.raises(IdentityUncertain):
                await asking.ask(hospital, question)


async def test_each_patient_with_the_number_is_asked_for_and_nothing_comes_twice(asking: Asking) -> None:
    both = [patient("p1"), patient("p2")]
    async with a_hospital(
        patients=both, records=[observation("o1"), observation("o2", "Patient/p2")]
    ) as hospital:
        answer = await asking.ask(hospital)
    assert [one.pairs[0][1] for one in hospital.asked[1:]] == ["Patient/p1", "Patient/p2"]
    assert ids(answer) == ["o1", "o2"]


async def test_a_node_is_asked_once_for_patients_that_it_has_linked(asking: Asking) -> None:
    link = [{"other": {"reference": "Patient/p2"}, "type": "seealso"}]
    both = [patient("p1", link=link), patient("p2")]
    async with a_hospital(
        patients=both, records=[observation("o1"), observation("o2", "Patient/p2")]
    ) as hospital:
        answer = await asking.ask(hospital, kind="candour")
    assert [one.pairs[0][1] for one in hospital.asked[1:]] == ["Patient/p1"]
    assert ids(answer) == ["o1", "o2"]


async def test_records_of_a_patient_whom_a_node_does_not_show_are_left_out_and_no_accusation(
    asking: Asking,
) -> None:
    async with a_hospital(records=[observation("o1"), observation("o2", "Patient/p2")]) as hospital:
        hospital.instead["/fhir/Patient/p2"] = saying("", 404)
        answer = await asking.ask(hospital, kind="candour")
    assert ids(answer) == ["o1"] and answer.gap


async def test_records_of_another_patient_whom_a_node_does_show_are_an_accusation(asking: Asking) -> None:
    async with a_hospital(records=[observation("o1"), observation("o2", "Patient/p2")]) as hospital:
        hospital.instead["/fhir/Patient/p2"] = saying(json.dumps(patient("p2", OTHER_NUMBER)))
        with pytest.raises(WrongPatient):
            await asking.ask(hospital, kind="candour")


async def test_only_a_node_may_answer_for_a_patient_it_does_not_show(asking: Asking) -> None:
    async with a_hospital(records=[observation("o1"), observation("o2", "Patient/p2")]) as hospital:
        hospital.instead["/fhir/Patient/p2"] = saying("", 404)
        with pytest.raises(WrongPatient):
            await asking.ask(hospital, kind="fhir")
    assert "/fhir/Patient/p2" not in hospital.paths()


# What is remembered.


async def test_a_remembered_patient_is_asked_for_beside_the_look_up(asking: Asking) -> None:
    searched = asyncio.Event()

    async def waits_for_the_search(asked: Asked, writer: asyncio.StreamWriter) -> Sent:
        await searched.wait()
        return Sent(searchset([json.dumps(patient("p1"))]))

    async def searches(asked: Asked, writer: asyncio.StreamWriter) -> Sent:
        searched.set()
        return Sent(searchset([observation("o1")]))

    async with a_hospital() as hospital:
        await asking.ask(hospital)
        hospital.instead = {"/fhir/Patient": waits_for_the_search, "/fhir/Observation": searches}
        assert ids(await asyncio.wait_for(asking.ask(hospital), 5)) == ["o1"]


async def test_a_number_that_was_corrected_at_the_source_shows_nobody_elses_record(asking: Asking) -> None:
    async with a_hospital() as hospital:
        await asking.ask(hospital)
        # p1 turns out to be somebody else; the person is p3.
        hospital.patients = [patient("p1", OTHER_NUMBER), patient("p3")]

        async def by_patient(asked: Asked, writer: asyncio.StreamWriter) -> Sent:
            reference = asked.pairs[0][1]
            return Sent(searchset([observation("of-" + reference[-2:], reference)]))

        hospital.instead["/fhir/Observation"] = by_patient
        assert ids(await asking.ask(hospital)) == ["of-p3"]
    known = await asking.register.patient_ids(QUESTION.identity.person)
    assert known == {RX2: KnownPatients(("p3",), frozenset({"p3"}))}


async def test_a_person_who_is_gone_from_a_source_is_forgotten_there(asking: Asking) -> None:
    async with a_hospital() as hospital:
        await asking.ask(hospital)
        hospital.patients = []
        with pytest.raises(NoRecord):
            await asking.ask(hospital)
        with pytest.raises(NoRecord):
            await asking.ask(hospital, replace(QUESTION, request_id="last"))
    assert [one.path for one in hospital.asked if one.headers["x-request-id"] == "last"] == ["/fhir/Patient"]


async def test_a_patient_added_between_look_up_and_search_is_no_accusation(asking: Asking) -> None:
    async with a_hospital() as hospital:

        async def grows(asked: Asked, writer: asyncio.StreamWriter) -> Sent:
            hospital.patients = [patient("p1"), patient("p2")]
            return Sent(searchset([observation("o1"), observation("o2", "Patient/p2")]))

        hospital.instead["/fhir/Observation"] = grows
        assert ids(await asking.ask(hospital)) == ["o1", "o2"]


# Pages.


async def test_pages_are_followed_to_the_end(asking: Asking) -> None:
    async with a_hospital() as hospital:
        body = searchset([observation("o1")], link=linking(next=f"{hospital.base_url}/_page?_cursor=2"))
        hospital.instead["/fhir/Observation"] = saying(body)
        hospital.instead["/fhir/_page"] = saying(searchset([observation("o2")]))
        answer = await asking.ask(hospital)
    assert ids(answer) == ["o1", "o2"] and not answer.gap
    assert hospital.asked[-1].target == "/fhir/_page?_cursor=2"


@pytest.mark.parametrize(
    "next_page",
    [
        "{other}/fhir/Observation?page=2",
        "{root}/admin",
        "{base}/../admin",
        "{base}/%2e%2e/admin",
        "{root}/fhir-of-others/Observation",
        "//evil.example/fhir/Observation",
        "{base}/Observation?patient=Patient/p1&_count=500",
    ],
)
async def test_a_next_page_elsewhere_is_a_gap_and_never_asked(asking: Asking, next_page: str) -> None:
    async with a_hospital() as hospital, a_hospital() as other:
        url = next_page.format(other=other.root, root=hospital.root, base=hospital.base_url)
        hospital.instead["/fhir/Observation"] = saying(searchset([observation("o1")], link=linking(next=url)))
        answer = await asking.ask(hospital)
    assert ids(answer) == ["o1"] and answer.gap
    assert other.asked == []
    assert set(hospital.paths()) <= {"/fhir/Patient", "/fhir/Observation"} and len(hospital.asked) <= 3


async def test_a_page_that_fails_leaves_the_ones_before_it(asking: Asking) -> None:
    async with a_hospital() as hospital:
        body = searchset([observation("o1")], link=linking(next=f"{hospital.base_url}/_page"))
        hospital.instead |= {"/fhir/Observation": saying(body), "/fhir/_page": saying("", 500)}
        answer = await asking.ask(hospital)
    assert ids(answer) == ["o1"] and answer.gap


async def test_pages_without_end_are_cut_off(asking: Asking) -> None:
    async with a_hospital() as hospital:

        async def another(asked: Asked, writer: asyncio.StreamWriter) -> Sent:
            place = len(hospital.asked)
            following = f"{hospital.base_url}/Observation?page={place}"
            return Sent(searchset([observation(f"o{place}")], link=linking(next=following)))

        hospital.instead["/fhir/Observation"] = another
        answer = await asking.ask(hospital)
    assert answer.gap and len(answer.records) == 64


async def test_more_than_two_thousand_entries_are_cut_off(asking: Asking) -> None:
    async with a_hospital(records=[observation(f"o{n}") for n in range(2_001)]) as hospital:
        answer = await asking.ask(hospital)
    assert len(answer.records) == 2_000 and answer.gap


async def test_no_further_page_is_asked_for_once_there_are_two_thousand(asking: Asking) -> None:
    async with a_hospital() as hospital:
        full = [observation(f"o{n}") for n in range(2_000)]
        body = searchset(full, link=linking(next=f"{hospital.base_url}/_page"))
        hospital.instead["/fhir/Observation"] = saying(body)
        answer = await asking.ask(hospital)
    assert len(answer.records) == 2_000 and answer.gap
    assert "/fhir/_page" not in hospital.paths()


@given(st.text(), st.sampled_from(["https://h.example/fhir", "http://h.example:8080/r4/fhir"]))
@example("https://h.example:443/fhir/x", "https://h.example/fhir")
@example("https://h.example@evil.example/fhir", "https://h.example/fhir")
@example("\\\\evil.example\\fhir", "https://h.example/fhir")
@example("?page=2", "https://h.example/fhir")
@example("//[::1", "https://h.example/fhir")
def test_a_link_stays_with_the_source_or_is_none(link: str, base: str) -> None:
    target = within(base, f"{base}/Observation", link)
    assert target is None or target.replace(":443", "").startswith(base)


@pytest.mark.parametrize(
    "link", ["{base}?_getpages=1", "?page=2", "/fhir/_page?_cursor=a%7Cb", "_page", "{base}/x#y"]
)
def test_an_honest_link_is_followed(link: str) -> None:
    base = "https://h.example/fhir"
    assert within(base, f"{base}/Observation", link.format(base=base)) is not None


# Bounds.


async def test_a_compressed_answer_is_read(asking: Asking) -> None:
    async with a_hospital() as hospital:
        body = gzip.compress(searchset([observation("o1")]).encode())
        hospital.instead["/fhir/Observation"] = saying(body, Content_Encoding="gzip")
        assert ids(await asking.ask(hospital)) == ["o1"]
    assert {one.headers["accept-encoding"] for one in hospital.asked} == {"gzip"}


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b" " * (16 * 1024 * 1024 + 1), ""),
        (gzip.compress(b" " * 64 * 1024 * 1024), "gzip"),
        (gzip.compress(b" " * 4 * 1024 * 1024), "gzip"),
    ],
    ids=["huge", "huge when decompressed", "a bomb of a few bytes"],
)
async def test_a_body_beyond_bounds_is_cut_off_and_missed(asking: Asking, body: bytes, encoding: str) -> None:
    async with a_hospital() as hospital:
        hospital.instead["/fhir/Observation"] = saying(body, Content_Encoding=encoding)
        assert await asking.ask(hospital) == RemoteAnswer((), gap=True)


async def test_a_large_answer_is_read_beside_the_loop(asking: Asking) -> None:
    async with a_hospital(records=[observation(f"o{n}") for n in range(1_500)]) as hospital:
        answer = await asking.ask(hospital)
    assert len(answer.records) == 1_500 and not answer.gap


# Failures.


async def drips(asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


async def never(asked: Asked, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


def raw(octets: bytes) -> Any:
    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(octets)
        await writer.drain()

    return answer


OTHER_TYPE = '{"resourceType":"Condition","id":"c1","subject":{"reference":"Patient/p1"}}'

FAULTS: list[tuple[str, Any, type[Unanswered]]] = [
    ("never answers", never, TimedOut),
    ("drips", drips, TimedOut),
    ("500", saying("", 500), Down),
    ("502", saying("<html>", 502), Down),
    ("503", saying("", 503), Down),
    ("503 with Retry-After", saying("", 503, Retry_After="2"), Throttled),
    ("429", saying("", 429), Throttled),
    ("401", saying("", 401), Refused),
    ("403", saying("", 403), Refused),
    ("400", saying("", 400), NotUnderstood),
    ("404", saying("", 404), NotSupported),
    ("a login page", saying("<html>Please log in</html>"), Down),
    ("JSON of something else", saying('{"status":"UP"}'), Down),
    ("a Bundle of another kind", saying('{"resourceType":"Bundle","type":"message"}'), Down),
    ("an outcome", saying('{"resourceType":"OperationOutcome","issue":[]}'), Down),
    ("entry is no array", saying('{"resourceType":"Bundle","type":"searchset","entry":{}}'), Down),
    ("a member twice", saying('{"resourceType":"Bundle","type":"searchset","type":"searchset"}'), Down),
    ("deep", saying("[" * 50_000), Down),
    ("nothing at all", saying(""), Down),
    ("not UTF-8", saying(b'{"resourceType":"Bundle","type":"searchset","id":"\xff"}'), Down),
    ("another type", saying(searchset([OTHER_TYPE])), Down),
    ("no HTTP", raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), Down),
    ("hangs up", raw(b""), Down),
    ("half a body", raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"), Down),
    ("broken gzip", saying(b"\x1f\x8bno", Content_Encoding="gzip"), Down),
    ("half a gzip", saying(gzip.compress(searchset([]).encode())[:-4], Content_Encoding="gzip"), Down),
    ("an encoding not asked for", saying(b"{}", Content_Encoding="br"), Down),
]


@pytest.mark.parametrize(("fault", "expected"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS])
async def test_each_fault_of_a_search_has_its_name(
    asking: Asking, fault: Any, expected: type[Unanswered]
) -> None:
    async with a_hospital() as hospital:
        hospital.instead["/fhir/Observation"] = fault
        question = replace(QUESTION, deadline=asyncio.get_running_loop().time() + 1)
        with pytest.raises(Unanswered) as raised:
            await asking.ask(hospital, question)
    assert type(raised.value) is expected


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(asking: Asking, status: int) -> None:
    async with a_hospital() as hospital, a_hospital() as other:
        hospital.instead["*"] = saying("", status, Location=f"{other.base_url}/Patient")
        with pytest.raises(Down):
            await asking.ask(hospital)
    assert other.asked == []


@pytest.mark.parametrize(("kind", "expected"), [("fhir", NotSupported), ("candour", NoRecord)])
async def test_everything_not_found_means_one_thing_at_a_node_and_another_elsewhere(
    asking: Asking, kind: str, expected: type[Unanswered]
) -> None:
    async with a_hospital() as hospital:
        hospital.instead["/fhir/Patient/p1/$everything"] = saying("", 404)
        with pytest.raises(expected):
            await asking.ask(hospital, EVERYTHING, kind=kind)


async def test_a_look_up_that_fails_is_never_no_record(asking: Asking) -> None:
    async with a_hospital() as hospital:
        for status in (400, 404, 405, 410, 422):
            hospital.instead["/fhir/Patient"] = saying("", status)
            with pytest.raises(Down):
                await asking.ask(hospital)


async def test_an_address_where_nobody_listens_is_down_at_once(asking: Asking) -> None:
    async with a_hospital() as hospital:
        pass
    with pytest.raises(Down):
        await asyncio.wait_for(asking.ask(hospital), 2)


async def test_a_source_that_ignored_a_parameter_is_not_used(asking: Asking) -> None:
    async with a_hospital() as hospital:
        used = linking(self=f"{hospital.base_url}/Observation?patient=Patient/p1&_count=500")
        hospital.instead["/fhir/Observation"] = saying(searchset([observation("o1")], link=used))
        with pytest.raises(NotUnderstood):
            await asking.ask(hospital, replace(QUESTION, pairs=(("code", "718-7"),)))


@pytest.mark.parametrize(
    ("self_url", "ignored"),
    [
        (None, False),
        ("https://h.example/fhir/Observation", False),
        ("https://h.example/fhir/Observation?patient=p1&code=718-7", False),
        ("https://h.example/fhir/Observation?code:in=x", False),
        ("https://[::1/?patient=p1&code=1", False),
        ("https://h.example/fhir/Observation?patient=p1", True),
        ("?subject=p1#code=1", True),
    ],
)
def test_the_self_link_tells_what_was_used(self_url: str | None, ignored: bool) -> None:
    assert ignored_parameters(self_url, ["code"]) is ignored


# Tokens and what must not leak.


def tokens(*bearers: str, **members: Any) -> Any:
    left = list(bearers)

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> Sent:
        return Sent(
            json.dumps({"access_token": left.pop(0), "token_type": "Bearer", "expires_in": 300} | members)
        )

    return answer


async def test_a_token_carries_the_caller_and_serves_until_it_ends(asking: Asking) -> None:
    async with a_hospital() as hospital:
        hospital.instead["/oauth/token"] = tokens("first", "second")
        await asking.ask(hospital, token=True)
        await asking.ask(hospital, replace(QUESTION, caller=replace(CALLER, token_id="t2")), token=True)
    assert [one.headers.get("authorization") for one in hospital.asked] == [None, *["Bearer first"] * 4]
    form = dict(hospital.asked[0].pairs)
    assert form == {
        "grant_type": "client_credentials",
        "scope": "system/*.rs",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": "assertion-1",
    }
    ((source, caller),) = asking.attested
    assert (source.client_id, caller) == ("node-1", CALLER)


@pytest.mark.parametrize(
    "change",
    [
        {"organisation": OdsCode("RX9")},
        {"subject": "dr-2"},
        {"client_id": "other-system"},
        {"purpose": "CAREMGT"},
        {"roles": ("R8001",)},
        {"practitioner": "gmc|1"},
        {"name": "Dr Two"},
    ],
)
async def test_one_callers_token_never_serves_another(asking: Asking, change: dict[str, Any]) -> None:
    async with a_hospital() as hospital:
        hospital.instead["/oauth/token"] = tokens("first", "second")
        await asking.ask(hospital, token=True)
        await asking.ask(hospital, replace(QUESTION, caller=replace(CALLER, **change)), token=True)
    assert {one.headers.get("authorization") for one in hospital.asked} == {
        None,
        "Bearer first",
        "Bearer second",
    }


async def test_a_token_close_to_its_end_is_not_used_again(asking: Asking) -> None:
    async with a_hospital() as hospital:
        hospital.instead["/oauth/token"] = tokens("one", "two", "three", "four", expires_in=30)
        await asking.ask(hospital, token=True)
    assert hospital.paths().count("/oauth/token") == 3


async def test_a_refused_token_is_replaced_once(asking: Asking) -> None:
    async with a_hospital() as hospital:

        async def only_second(asked: Asked, writer: asyncio.StreamWriter) -> Sent:
            fresh = asked.headers["authorization"] == "Bearer second"
            return Sent(searchset([observation("o1")])) if fresh else Sent(status=401)

        hospital.instead |= {"/oauth/token": tokens("first", "second"), "/fhir/Observation": only_second}
        assert ids(await asking.ask(hospital, token=True)) == ["o1"]


async def test_a_source_that_refuses_every_token_refuses(asking: Asking) -> None:
    async with a_hospital() as hospital:
        hospital.instead |= {"/oauth/token": tokens("first", "second"), "/fhir/Patient": saying("", 401)}
        with pytest.raises(Refused):
            await asking.ask(hospital, token=True)
    assert len(hospital.asked) == 4


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (saying('{"error":"invalid_client"}', 400), Refused),
        (saying('{"error":"invalid_client"}', 401), Refused),
        (saying("", 404), Down),
        (saying("", 500), Down),
        (saying("", 503, Retry_After="1"), Throttled),
        (saying("<html>"), Down),
        (saying("[]"), Down),
        (saying("{}"), Down),
        (saying('{"access_token":"a b","token_type":"Bearer"}'), Down),
        (saying('{"access_token":"a\\r\\nX: y","token_type":"Bearer"}'), Down),
        (saying('{"access_token":"abc","token_type":"mac"}'), Down),
        (saying(b" " * 100_000), Down),
    ],
)
async def test_each_fault_of_a_token_endpoint_has_its_name(
    asking: Asking, fault: Any, expected: type[Unanswered]
) -> None:
    async with a_hospital() as hospital:
        hospital.instead["/oauth/token"] = fault
        with pytest.raises(expected):
            await asking.ask(hospital, token=True)
    assert set(hospital.paths()) == {"/oauth/token"}


async def test_one_callers_cookie_never_goes_out_with_anothers_question(asking: Asking) -> None:
    async with a_hospital() as hospital:
        body = searchset([json.dumps(patient("p1"))])
        hospital.instead["/fhir/Patient"] = saying(body, Set_Cookie="session=abc; Path=/")
        await asking.ask(hospital)
    assert all("cookie" not in one.headers for one in hospital.asked)


async def test_no_log_line_and_no_error_holds_the_number(
    asking: Asking, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with a_hospital() as hospital:
        await asking.ask(hospital)
        hospital.instead["*"] = raw(b"")
        with pytest.raises(Down) as raised:
            await asking.ask(hospital)
    assert NUMBER.digits not in caplog.text and NUMBER.digits not in str(raised.value)


async def test_the_environments_proxy_is_not_asked(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_hospital() as hospital, a_hospital() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.root)
        await asking.ask(hospital)
    assert proxy.asked == []


@asynccontextmanager
async def late_listener(seconds: float) -> AsyncIterator[tuple[Hospital, asyncio.Task[None]]]:
    """An address where nobody listens until a while has passed."""
    async with a_hospital() as hospital:
        port = int(hospital.base_url.split(":")[2].split("/")[0])

    async def open_later() -> None:
        await asyncio.sleep(seconds)
        server = await asyncio.start_server(hospital.serve, "127.0.0.1", port)
        async with server:
            await asyncio.sleep(5)

    task = asyncio.create_task(open_later())
    try:
        yield hospital, task
    finally:
        task.cancel()


async def test_a_source_that_comes_back_is_asked_over_the_same_client(asking: Asking) -> None:
    async with late_listener(0.05) as (hospital, _):
        with pytest.raises(Down):
            await asking.ask(hospital)
        await asyncio.sleep(0.2)
        assert ids(await asking.ask(hospital)) == ["o1", "o2"]
