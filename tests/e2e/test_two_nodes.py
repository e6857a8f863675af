"""Two nodes, a plain FHIR server and a trust that is down, over real sockets: the main job, and its accidents.

The tests run in their order: the last ones take node B away.
"""

import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from app.db import Database
from app.records.sources import SourceRegister
from app.smart.clients import Client, ClientRegister
from app.vocabulary import OdsCode, PurposeOfUse
from tests.e2e.plain_fhir import PlainFhir, a_plain_server
from tests.processes import EVERYTHING, Home, Running, System, a_home, free_port
from tests.world import MARGARET, NHS, a_consent, a_patient, an_observation, denied_to

RX1, RX2, RX3 = System("rx1", "RX1"), System("rx2", "RX2"), System("rx3", "RX3")
PLAIN, BEYOND, DOWN = OdsCode("RX8"), OdsCode("RX9"), OdsCode("RZ9")
DEADLINE = 2.0
OWN = {"RX1": "fresh", "RX2": "fresh"}


@dataclass
class Country:
    """Node A keeps RX1 and RX2; node B keeps RX3; RX8 is plain FHIR; RX9 is known to B alone; RZ9 is down."""

    a: Home
    b: Home
    service_a: Running
    service_b: Running
    plain: PlainFhir
    beyond: PlainFhir
    http: httpx.Client

    def ask(self, home: Home, who: System, path: str, **headers: str) -> httpx.Response:
        return self.http.get(f"{home.base}/{path}", headers={**who.bearer(home), **headers})

    def observations(self, who: System = RX1) -> "Answer":
        started = time.monotonic()
        answer = self.ask(self.a, who, "Observation?patient=p1")
        assert answer.status_code == 200, answer.text
        return Answer(answer.text, answer.json(), time.monotonic() - started)


@dataclass(frozen=True)
class Answer:
    text: str
    bundle: dict[str, Any]
    seconds: float

    @property
    def matches(self) -> set[str]:
        found = [one["fullUrl"] for one in self.bundle["entry"] if one["search"]["mode"] == "match"]
        return {one.rpartition("/")[2] for one in found}

    @property
    def lines(self) -> dict[str, str]:
        """Source state by ODS code."""
        [outcome] = [one["resource"] for one in self.bundle["entry"] if one["search"]["mode"] == "outcome"]
        return {
            issue["extension"][0]["extension"][0]["valueIdentifier"]["value"]: issue["details"]["coding"][0][
                "code"
            ]
            for issue in outcome["issue"]
        }


@pytest.fixture(scope="module")
def country(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Country]:
    a = a_home(
        tmp_path_factory,
        "a",
        CANDOUR_CUSTODIANS="RX1,RX2",
        CANDOUR_NODE_NAME="a.example",
        CANDOUR_FEDERATION_DEADLINE_SECONDS=str(DEADLINE),
    )
    b = a_home(tmp_path_factory, "b", CANDOUR_CUSTODIANS="RX3", CANDOUR_NODE_NAME="b.example")
    hospital = a_plain_server([a_patient("x1")], [an_observation("x1", value="6.30", id="x-o1")])
    other = a_plain_server([a_patient("y1")], [an_observation("y1", id="y-o1")])
    with (
        hospital as plain,
        other as beyond,
        a.serving() as service_a,
        b.serving() as service_b,
        httpx.Client(timeout=20) as http,
    ):
        made = Country(a, b, service_a, service_b, plain, beyond, http)
        _introduce(made)
        _fill(made)
        yield made


def _introduce(country: Country) -> None:
    """As `candour client add` and `candour source add` would; A's keys come from where A publishes them."""
    a, b = country.a, country.b
    keys = country.http.get(f"{a.root}/.well-known/jwks.json").json()
    node = Client(
        "a.example",
        "node A",
        "node",
        OdsCode("RX1"),
        keys,
        EVERYTHING,
        tuple(PurposeOfUse),
        "",
        emergency=True,
        speaks_for=(OdsCode("RX2"),),
    )

    async def at_a(database: Database) -> None:
        sources = SourceRegister(database)
        await sources.add(
            OdsCode("RX3"), b.base, kind="candour", token_url=b.token_url, client_id="a.example"
        )
        await sources.add(PLAIN, country.plain.base, kind="fhir")
        await sources.add(DOWN, f"http://127.0.0.1:{free_port()}/fhir", kind="fhir")

    async def at_b(database: Database) -> None:
        await ClientRegister(database).add(node)
        await SourceRegister(database).add(BEYOND, country.beyond.base, kind="fhir")

    a.register(RX1.registration(), RX2.registration())
    b.register(RX3.registration())
    a.as_owner(at_a)
    b.as_owner(at_b)


def _fill(country: Country) -> None:
    for home, who, patient, observations in (
        (country.a, RX1, "p1", ("o1", "o2")),
        (country.a, RX2, "p2", ("o3",)),
        (country.b, RX3, "p3", ("o4",)),
    ):
        bearer = who.bearer(home)
        made = country.http.put(f"{home.base}/Patient/{patient}", json=a_patient(patient), headers=bearer)
        assert made.status_code == 201, made.text
        for id in observations:
            text = an_observation(patient, value="1.50", id=id)
            headers = {**bearer, "Content-Type": "application/fhir+json"}
            kept = country.http.put(f"{home.base}/Observation/{id}", content=text, headers=headers)
            assert kept.status_code == 201, kept.text


EVERY = {"o1", "o2", "o3", "o4", "x-o1"}


def test_one_question_is_answered_from_every_source_with_a_line_each(country: Country) -> None:
    answer = country.observations()
    assert answer.lines == {**OWN, "RX3": "fresh", "RX8": "fresh", "RZ9": "down"}
    assert answer.matches == EVERY
    assert "total" not in answer.bundle, "a source is missing, so nobody knows how many there are"
    assert answer.text.count('"value":1.50') == 4 and '"value":6.30' in answer.text
    assert answer.seconds < DEADLINE


def test_both_nodes_record_the_question_under_one_trace_id(country: Country) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    asked = country.ask(
        country.a, RX1, "Observation?patient=p1", traceparent=f"00-{trace}-00f067aa0ba902b7-01"
    )
    assert asked.status_code == 200
    at_a = [event for event in country.a.events() if trace in str(event)]
    at_b = [event for event in country.b.events() if trace in str(event)]
    assert len(at_a) == 1, "one entry per patient and question"
    assert at_b and {event["outcome"] for event in at_b} == {"0"}
    assert all("RX1 Trust" in str(event) and "a.example" in str(event) for event in at_b), (
        "whose question it was"
    )


def test_everything_comes_from_every_node(country: Country) -> None:
    answer = country.ask(country.a, RX1, "Patient/p1/$everything").json()
    found = {
        f"{one['resource']['resourceType']}/{one['resource']['id']}"
        for one in answer["entry"]
        if one["search"]["mode"] != "outcome"
    }
    assert {"Patient/p1", "Patient/p2", "Patient/p3", "Observation/o1", "Observation/o4"} <= found
    assert "total" not in answer


def test_what_another_node_adds_to_its_records_is_an_include_here_too(country: Country) -> None:
    bearer = RX3.bearer(country.b)
    doctor = {"resourceType": "Practitioner", "id": "b-doc", "name": [{"family": "Doc"}]}
    flag = {
        "resourceType": "Flag",
        "id": "b-flag",
        "status": "active",
        "code": {"text": "x"},
        "subject": {"reference": "Patient/p3"},
        "author": {"reference": "Practitioner/b-doc"},
    }
    for one in (doctor, flag):
        address = f"{country.b.base}/{one['resourceType']}/{one['id']}"
        assert country.http.put(address, json=one, headers=bearer).status_code == 201
    whole = country.ask(country.a, RX1, "Patient/p1/$everything").json()
    modes = {one["fullUrl"]: one["search"]["mode"] for one in whole["entry"] if "fullUrl" in one}
    assert modes[f"{country.b.base}/Practitioner/b-doc"] == "include"
    assert modes[f"{country.b.base}/Flag/b-flag"] == "match"
    pages = country.ask(country.a, RX1, "Patient/p1/$everything?_count=3").json()
    seen = [one for one in pages["entry"] if "fullUrl" in one]
    while following := [one["url"] for one in pages["link"] if one["relation"] == "next"]:
        pages = country.ask(country.a, RX1, following[0].split("/fhir/")[1]).json()
        seen += [one for one in pages["entry"] if "fullUrl" in one]
    assert seen == [one for one in whole["entry"] if "fullUrl" in one]


def test_the_last_of_each_code_is_found_among_those_of_every_node(country: Country) -> None:
    asked = country.ask(country.a, RX1, "Observation/$lastn?patient=p1&code=8867-4")
    answer = Answer(asked.text, asked.json(), 0)
    assert answer.matches == EVERY, "they are all of one time"
    assert answer.lines == {**OWN, "RX3": "fresh", "RX8": "fresh", "RZ9": "down"}
    assert "total" not in answer.bundle


def test_a_question_that_was_passed_on_is_not_passed_on_again(country: Country) -> None:
    country.beyond.asked.clear()
    assert "RX9" not in country.observations().lines
    assert country.beyond.asked == []
    direct = country.ask(country.b, RX3, "Observation?patient=p3").json()
    assert country.beyond.asked != []
    assert Answer("", direct, 0).lines == {"RX3": "fresh", "RX9": "fresh"}


def test_consent_closes_the_record_and_an_emergency_opens_it_again(country: Country) -> None:
    bearer = RX1.bearer(country.a)
    consent = {**a_consent("p1", **denied_to("RX2")), "id": "c1"}
    made = country.http.put(f"{country.a.base}/Consent/c1", json=consent, headers=bearer)
    assert made.status_code == 201, made.text
    closed = country.observations(RX2)
    assert (closed.matches, closed.bundle["total"]) == (set(), 0)
    assert set(closed.lines.values()) == {"no-record"}
    emergency = RX2.bearer(
        country.a,
        purpose_of_use="ETREAT",
        emergency_reason_code="ETREAT",
        emergency_reason_text="Unconscious in A&E",
        patient=f"{NHS}|{MARGARET}",
    )
    opened = country.http.get(f"{country.a.base}/Observation?patient=p1", headers=emergency)
    assert Answer("", opened.json(), 0).matches == EVERY
    for home in (country.a, country.b):
        told = [event for event in home.events() if "Unconscious in A&E" in str(event)]
        assert told and "ETREAT" in str(told[-1]["purposeOfEvent"])
    withdrawn = country.http.put(
        f"{country.a.base}/Consent/c1", json={**consent, "status": "inactive"}, headers=bearer
    )
    assert withdrawn.status_code == 200
    assert country.observations(RX2).matches == EVERY


def _encounter_and_condition(country: Country, home: Home, who: System, name: str, kind: str) -> None:
    patient = "p1" if home is country.a else "p3"
    subject = {"subject": {"reference": f"Patient/{patient}"}}
    act = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": kind}
    for one in (
        {
            "resourceType": "Encounter",
            "id": f"{name}-e",
            "status": "finished",
            "class": act,
            **subject,
        },
        {
            "resourceType": "Condition",
            "id": f"{name}-c",
            "code": {"coding": [{"system": "urn:c", "code": name}]},
            "encounter": {"reference": f"Encounter/{name}-e"},
            **subject,
        },
    ):
        url = f"{home.base}/{one['resourceType']}/{one['id']}"
        made = country.http.put(url, json=one, headers=who.bearer(home))
        assert made.status_code == 201, made.text


def test_a_chain_goes_to_every_node_and_finds_nothing_by_what_is_withheld(country: Country) -> None:
    _encounter_and_condition(country, country.a, RX1, "here", "AMB")
    _encounter_and_condition(country, country.b, RX3, "there", "AMB")
    _encounter_and_condition(country, country.b, RX3, "secret", "EMER")

    def asked(question: str) -> Answer:
        answer = country.ask(country.a, RX2, question, Prefer="handling=strict")
        assert answer.status_code == 200, answer.text
        return Answer(answer.text, answer.json(), 0)

    for question, expected in {
        "Condition?patient=p1&encounter.class=AMB": {"here-c", "there-c"},
        "Condition?patient=p1&encounter.class=EMER": {"secret-c"},
        "Condition?patient=p1&encounter.class=AMB&code=there": {"there-c"},
        "Condition?patient=p1&encounter.class=IMP": set(),
        "Encounter?patient=p1&_has:Condition:encounter:code=there,here": {"here-e", "there-e"},
        "Patient/p1/Condition?encounter.class=EMER": {"secret-c"},
        "Condition?patient=p1&_filter=code eq there or code eq here": {"here-c", "there-c"},
        "Condition?_filter=patient re Patient/p1 and not(code eq here)&code=here,there": {"there-c"},
    }.items():
        answer = asked(question)
        assert answer.matches == expected, question
        assert answer.lines["RX3"] == "fresh" and answer.lines["RZ9"] == "down"
    several = asked("Condition?patient=p1&encounter.diagnosis.code=x")
    assert several.lines["RX3"] == "not-supported" and "total" not in several.bundle

    for question in (
        "not(encounter.class eq AMB)",
        "encounter.class eq AMB",
        "code eq x or encounter.class eq y",
    ):
        filtered = asked(f"Condition?patient=p1&_filter={question}")
        assert filtered.lines["RX3"] == "not-supported" and "total" not in filtered.bundle

    # A consent that only node A knows of closes what node B would show.
    deny = {"type": "deny", "class": [{"system": "http://hl7.org/fhir/resource-types", "code": "Encounter"}]}
    consent = {**a_consent("p1", type="permit", provision=[deny]), "id": "c2"}
    bearer = RX1.bearer(country.a)
    made = country.http.put(f"{country.a.base}/Consent/c2", json=consent, headers=bearer)
    assert made.status_code == 201, made.text
    try:
        assert asked("Condition?patient=p1&code=secret").matches == {"secret-c"}
        closed = asked("Condition?patient=p1&encounter.class=EMER")
        never = asked("Condition?patient=p1&encounter.class=IMP")
        assert closed.matches == never.matches == set()
        assert closed.lines == never.lines
    finally:
        country.http.put(
            f"{country.a.base}/Consent/c2", json={**consent, "status": "inactive"}, headers=bearer
        )


def test_a_source_that_answers_for_another_patient_is_left_out_until_a_person_clears_it(
    country: Country,
) -> None:
    kept, country.plain.records = country.plain.records, [an_observation("x2", value="77.125", id="x-o2")]
    answer = country.observations()
    assert answer.lines["RX8"] == "identity-uncertain"
    assert answer.matches == EVERY - {"x-o1"} and "77.125" not in answer.text
    country.plain.records = kept
    country.plain.asked.clear()
    assert country.observations().lines["RX8"] == "identity-uncertain"
    assert country.plain.asked == [], "a quarantined source is not asked"
    assert "quarantined" in country.a.candour("source", "list").stdout
    assert country.a.candour("source", "clear", "RX8").returncode == 0
    assert country.observations().matches == EVERY


def test_a_node_that_hangs_has_timed_out_within_the_deadline(country: Country) -> None:
    country.service_b.process.send_signal(signal.SIGSTOP)
    try:
        answer = country.observations()
    finally:
        country.service_b.process.send_signal(signal.SIGCONT)
    assert answer.lines["RX3"] == "timed-out"
    assert answer.matches == EVERY - {"o4"}
    assert "total" not in answer.bundle
    assert DEADLINE <= answer.seconds < DEADLINE + 1
    assert country.observations().lines["RX3"] == "fresh"


def test_a_node_that_is_killed_midway_costs_its_records_and_no_more(country: Country) -> None:
    seen = []
    for number in range(8):
        if number == 3:
            country.service_b.process.kill()
        answer = country.observations()
        seen.append(answer.lines["RX3"])
        assert answer.seconds < DEADLINE + 1
        assert answer.matches == (EVERY if seen[-1] == "fresh" else EVERY - {"o4"})
        assert "total" not in answer.bundle
    assert seen[:3] == ["fresh"] * 3
    assert set(seen[3:]) <= {"down", "timed-out"}


def test_neither_log_names_the_patient_and_both_audit_logs_are_whole(country: Country) -> None:
    for service in (country.service_a, country.service_b):
        assert MARGARET not in service.told and "Traceback" not in service.told
    for home in (country.a, country.b):
        verified = home.candour("verify")
        assert verified.returncode == 0, verified.stderr
