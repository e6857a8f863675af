"""Chains, ``_has``, ``_list``, ``_include`` and ``_revinclude`` (R4 search, 3.1.1.4.12, 3.1.1.4.13, 3.1.1.5.4)."""

import json
import re
from typing import Any

import pytest

from tests.world import DAVID, MARGARET, NHS, World, a_consent, a_patient

Who = dict[str, str]

A, B = "http://loinc.org|8867-4", "http://loinc.org|718-7"


def _ref(text: str) -> dict[str, str]:
    return {"reference": text}


def _code(text: str) -> dict[str, Any]:
    system, code = text.split("|")
    return {"coding": [{"system": system, "code": code}]}


def _clinical(kind: str, id: str, **more: Any) -> dict[str, Any]:
    return {"resourceType": kind, "id": id, "subject": _ref("Patient/p1"), **more}


def _observation(id: str, code: str, **more: Any) -> dict[str, Any]:
    return _clinical("Observation", id, status="final", code=_code(code), **more)


def _encounter(id: str, kind: str, doctor: str, **more: Any) -> dict[str, Any]:
    return _clinical(
        "Encounter",
        id,
        status="finished",
        **{"class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": kind}},
        participant=[{"individual": _ref(f"Practitioner/{doctor}")}],
        serviceProvider=_ref("Organization/org1"),
        **more,
    )


RECORD: list[dict[str, Any]] = [
    {"resourceType": "Organization", "id": "org1", "name": "Northgate", "partOf": _ref("Organization/org2")},
    {"resourceType": "Organization", "id": "org2", "name": "Northern Region"},
    {"resourceType": "Practitioner", "id": "dr1", "name": [{"family": "Howe"}]},
    {"resourceType": "Practitioner", "id": "dr2", "name": [{"family": "Iyer"}]},
    _encounter("e1", "AMB", "dr1"),
    _encounter("e2", "IMP", "dr2", partOf=_ref("Encounter/e1")),
    _observation("o1", A, encounter=_ref("Encounter/e1"), performer=[_ref("Practitioner/dr1")]),
    _observation("o2", B, encounter=_ref("Encounter/e2")),
    _observation("o3", A, hasMember=[_ref("Observation/o2")]),
    _clinical("DiagnosticReport", "d1", status="final", code=_code(B), result=[_ref("Observation/o2")]),
    _clinical("Condition", "c1", encounter=_ref("Encounter/e2"), code=_code("http://snomed.info/sct|1")),
    {
        "resourceType": "List",
        "id": "l1",
        "status": "current",
        "mode": "working",
        "subject": _ref("Patient/p1"),
        "entry": [{"item": _ref("Observation/o1")}, {"item": _ref("Condition/c1")}],
    },
]


async def keep(world: World, who: Who, resources: list[dict[str, Any]]) -> None:
    entries = [
        {"resource": one, "request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"}}
        for one in resources
    ]
    answer = await world.post(
        "", json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries}), who
    )
    assert answer.status_code == 200, answer.text


async def record(world: World, who: Who) -> None:
    await world.patient(who, "p1")
    await keep(world, who, RECORD)


async def ids(world: World, who: Who, question: str, mode: str = "match") -> str:
    answer = await world.get(question, who, Prefer="handling=strict")
    assert answer.status_code == 200, f"{question}: {answer.text}"
    found = [one["resource"]["id"] for one in answer.json().get("entry", []) if one["search"]["mode"] == mode]
    return " ".join(sorted(found))


async def of_either(world: World, who: Who, question: str) -> str:
    """The ids found, which must be the same bound to the patient and not."""
    kind, _, query = question.partition("?")
    bound = await ids(world, who, f"{kind}?{'_id' if kind == 'Patient' else 'patient'}=p1&{query}")
    assert await ids(world, who, question) == bound, question
    return bound


async def test_a_chain_finds_what_refers_to_a_resource_that_meets_the_criterion(
    world: World, rx1: Who
) -> None:
    await record(world, rx1)
    for question, expected in {
        "Observation?encounter.class=AMB": "o1",
        "Observation?encounter.class=AMB,IMP": "o1 o2",
        "Observation?encounter.class:not=AMB": "o2",
        "Observation?encounter:Encounter.class=IMP": "o2",
        "Observation?performer:Practitioner.family=howe": "o1",
        "Observation?performer.family=howe": "o1",
        "Observation?performer.name=iyer": "",
        "Encounter?practitioner.family:exact=Iyer": "e2",
        "Encounter?service-provider.name=northgate": "e1 e2",
        "Encounter?service-provider.partof.name=northern": "e1 e2",
        "Observation?encounter.service-provider.partof.name:contains=region": "o1 o2",
        "Observation?encounter.part-of.practitioner.family=howe": "o2",
        "Observation?encounter.class=AMB&encounter.practitioner.family=iyer": "",
        "Observation?has-member.code=718-7": "o3",
        "Observation?has-member.encounter.class=IMP": "o3",
        "Condition?encounter.class=AMB": "",
        "Observation?subject:Patient.gender=female": "o1 o2 o3",
        "Observation?subject.birthdate=1948": "o1 o2 o3",
        "Observation?subject:Patient.gender=male": "",
        "Observation?encounter._id=e1,e2": "o1 o2",
    }.items():
        assert await of_either(world, rx1, question) == expected, question


async def test_a_reverse_chain_finds_what_a_matching_resource_refers_to(world: World, rx1: Who) -> None:
    await record(world, rx1)
    for question, expected in {
        "Encounter?_has:Observation:encounter:code=8867-4": "e1",
        f"Encounter?_has:Observation:encounter:code={B}": "e2",
        "Encounter?_has:Observation:encounter:code=x": "",
        "Encounter?_has:Condition:encounter:code=1&_has:Observation:encounter:code=718-7": "e2",
        "Encounter?_has:Condition:encounter:code=1&_has:Observation:encounter:code=8867-4": "",
        "Observation?_has:DiagnosticReport:result:code=718-7": "o2",
        "Encounter?_has:Observation:encounter:_has:DiagnosticReport:result:code=718-7": "e2",
        "Encounter?_has:Observation:encounter:performer.family=howe": "e1",
        "Observation?encounter._has:Condition:encounter:code=1": "o2",
        "Patient?_has:Observation:patient:code=718-7": "p1",
        "Patient?_has:Observation:patient:code=x": "",
        "Observation?_list=l1": "o1",
        "Condition?_list=l1": "c1",
        "Observation?_list=nothing": "",
    }.items():
        assert await of_either(world, rx1, question) == expected, question
    assert await ids(world, rx1, "Practitioner?_has:Encounter:practitioner:class=IMP") == "dr2"
    assert await ids(world, rx1, "Organization?_has:Organization:partof:name=northgate") == "org2"


async def test_a_chain_to_the_patients_identifier_is_a_question_about_that_person(
    world: World, rx1: Who, rx2: Who
) -> None:
    await record(world, rx1)
    await world.patient(rx2, "other", DAVID, birthDate="1950-01-01")
    answer = await world.get(f"Observation?patient.identifier={NHS}|{MARGARET}&code={A}", rx1)
    told = answer.json()
    assert told["total"] == 2
    [outcome] = [one["resource"] for one in told["entry"] if one["search"]["mode"] == "outcome"]
    assert outcome["issue"][0]["details"]["coding"][0]["code"] == "fresh"
    event = (await world.audit())[-1]
    assert "Patient/p1" in json.dumps(event)
    for unknown in (f"{NHS}|9990000042", "x|y"):
        assert (await world.get(f"Observation?subject:Patient.identifier={unknown}", rx1)).json()[
            "total"
        ] == 0


async def test_a_chain_that_means_several_people_finds_the_records_of_each(world: World, rx1: Who) -> None:
    await record(world, rx1)
    await world.patient(rx1, "p2", DAVID, birthDate="1950-01-01")
    other = {**_observation("o9", A), "subject": _ref("Patient/p2")}
    await keep(world, rx1, [other])
    assert await ids(world, rx1, "Observation?patient.family=okafor&code=8867-4") == "o1 o3 o9"
    assert await ids(world, rx1, "Observation?patient.birthdate=1950&code=8867-4") == "o9"


async def test_a_chain_needs_a_scope_for_every_type_it_reads(world: World, rx1: Who) -> None:
    await record(world, rx1)
    narrow = await world.bearer("rx1", scope="system/Observation.rs")
    for question in (
        "Observation?patient=p1&encounter.class=AMB",
        "Observation?patient=p1&_has:DiagnosticReport:result:code=x",
        "Observation?patient=p1&_list=l1",
        "Observation?encounter.service-provider.name=x",
    ):
        answer = await world.get(question, narrow)
        assert answer.status_code == 403, question
        assert answer.json()["issue"][0]["code"] == "forbidden"


@pytest.mark.parametrize(
    ("question", "status"),
    [
        ("Observation?encounter.nope=x", 400),
        ("Observation?nope.class=x", 400),
        ("Observation?code.text=x", 400),
        ("Observation?encounter:Patient.class=x", 400),
        ("Observation?encounter.=x", 400),
        ("Observation?.class=x", 400),
        ("Patient?_has:Observation=x", 400),
        ("Patient?_has:Nothing:patient:code=x", 400),
        ("Patient?_has:Observation:patient:=x", 400),
        ("Patient?_has:Observation:encounter:code=x", 400),
        ("Patient?_has=x", 400),
        ("Patient?_has:AuditEvent:patient:action=R", 400),
        ("Patient?_revinclude=AuditEvent:patient", 400),
        ("Observation?_list=$current-problems", 400),
        ("Observation?_include=Observation", 400),
        ("Observation?_include=Observation:nope", 400),
        ("Observation?_include:recurse=Observation:encounter", 400),
        ("Observation?_include=Observation:code", 400),
        ("Observation?_revinclude=Nothing:target", 400),
        ("Observation?" + "has-member." * 6 + "code=x", 422),
        ("Observation?encounter.class=a|b|c", 400),
    ],
)
async def test_a_chain_that_cannot_be_read_is_refused_with_a_sentence(
    world: World, rx1: Who, question: str, status: int
) -> None:
    answer = await world.get(question, rx1, Prefer="handling=strict")
    assert answer.status_code == status, answer.text
    assert len(answer.json()["issue"][0]["details"]["text"].split()) > 4


async def test_included_resources_go_along_once_and_are_no_matches(world: World, rx1: Who) -> None:
    await record(world, rx1)
    for question, expected in {
        "Observation?patient=p1&_include=Observation:encounter": "e1 e2",
        "Observation?patient=p1&code=8867-4&_include=Observation:encounter": "e1",
        "Observation?patient=p1&code=8867-4&_include=Observation:encounter:Practitioner": "",
        "Observation?patient=p1&_include=Observation:patient": "p1",
        "Observation?patient=p1&code=8867-4&_include=*": "dr1 e1 o2 p1",
        "Observation?patient=p1&code=8867-4&_include=Observation:*": "dr1 e1 o2 p1",
        "Observation?code=718-7&_include=Observation:encounter&_include=Encounter:practitioner": "e2",
        "Observation?code=718-7&_include=Observation:encounter&_include:iterate=Encounter:practitioner": (
            "dr2 e2"
        ),
        "Observation?code=718-7&_include=Observation:encounter&_include:iterate=Encounter:part-of": "e1 e2",
        "Encounter?patient=p1&_include=Encounter:service-provider&_include:iterate=Organization:partof": (
            "org1 org2"
        ),
        "Encounter?patient=p1&_include=Encounter:part-of": "",
        "Encounter?_id=e2&_include:iterate=Encounter:part-of": "e1",
        "Encounter?patient=p1&_revinclude=Condition:encounter": "c1",
        "Encounter?patient=p1&_revinclude=Observation:encounter&_revinclude=Condition:encounter": "c1 o1 o2",
        "Encounter?_id=e2&_revinclude=Observation:encounter&_revinclude:iterate=DiagnosticReport:result": (
            "d1 o2"
        ),
        "Observation?_id=o2&_revinclude=*": "d1 o3",
        "Organization?_id=org2&_revinclude=Organization:partof": "org1",
        "Organization?_id=org2&_revinclude:iterate=Encounter:service-provider"
        "&_revinclude=Organization:partof": "e1 e2 org1",
        "Patient?_id=p1&_revinclude=Condition:patient": "c1",
        "Patient?_id=p1&_revinclude=Condition:subject:Group": "",
    }.items():
        assert await ids(world, rx1, question, "include") == expected, question


async def test_the_total_and_the_pages_are_of_matches_alone(world: World, rx1: Who) -> None:
    await record(world, rx1)
    first = (
        await world.get("Observation?patient=p1&_include=Observation:encounter&_count=2&_sort=_id", rx1)
    ).json()
    modes = [(one["resource"]["id"], one["search"]["mode"]) for one in first["entry"][:4]]
    assert first["total"] == 3
    assert modes[:2] == [("o1", "match"), ("o2", "match")]
    assert sorted(modes[2:4]) == [("e1", "include"), ("e2", "include")]
    following = next(one["url"] for one in first["link"] if one["relation"] == "next")
    second = (await world.get(following.split("/fhir/")[1], rx1)).json()
    assert [one["resource"]["id"] for one in second["entry"] if one["search"]["mode"] != "outcome"] == ["o3"]


async def test_what_is_included_is_recorded_with_whom_it_is_about(world: World, rx1: Who) -> None:
    await record(world, rx1)
    await world.get("Observation?code=718-7&_include=Observation:encounter", rx1)
    event = json.dumps((await world.audit())[-1])
    assert "Encounter/e2/_history/1" in event and "Observation/o2/_history/1" in event


async def test_what_no_scope_reaches_is_not_included(world: World, rx1: Who) -> None:
    await record(world, rx1)
    narrow = await world.bearer("rx1", scope="system/Observation.rs system/Encounter.rs")
    question = "Observation?patient=p1&_include=*&_revinclude=*"
    assert await ids(world, narrow, question, "include") == "e1 e2"


# What is hidden.


HIDDEN = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "PSY"}


def _hidden(one: dict[str, Any]) -> dict[str, Any]:
    return {**one, "meta": {"security": [HIDDEN]}}


SECRETS = [
    _hidden(_encounter("x1", "EMER", "dr2", partOf=_ref("Encounter/e1"))),
    _hidden(_observation("x2", B, encounter=_ref("Encounter/e1"), hasMember=[_ref("Observation/o1")])),
    _hidden(
        _clinical("DiagnosticReport", "x3", status="final", code=_code(A), result=[_ref("Observation/o1")])
    ),
    _hidden(
        _clinical("Condition", "x4", encounter=_ref("Encounter/e1"), code=_code("http://snomed.info/sct|2"))
    ),
    _hidden(
        {
            "resourceType": "List",
            "id": "x5",
            "status": "current",
            "mode": "working",
            "subject": _ref("Patient/p1"),
            "entry": [{"item": _ref("Observation/o3")}],
        }
    ),
]
POINTING = [
    _observation("o4", A, encounter=_ref("Encounter/x1"), hasMember=[_ref("Observation/x2")]),
    _clinical("DiagnosticReport", "d2", status="final", code=_code(A), result=[_ref("Observation/x2")]),
]

QUESTIONS = [
    "Observation?{p}encounter.class=EMER",
    "Observation?{p}encounter.class:not=AMB",
    "Observation?{p}encounter.practitioner.family=iyer",
    "Observation?{p}encounter.part-of.class=AMB",
    "Observation?{p}has-member.code=718-7",
    "Observation?{p}encounter._id=x1",
    "Encounter?{p}_has:Observation:encounter:code=718-7",
    "Encounter?{p}_has:Condition:encounter:code=2",
    "Observation?{p}_has:DiagnosticReport:result:code=8867-4",
    "Observation?{p}_has:DiagnosticReport:result:code:not=1",
    "Observation?{p}_list=x5",
    "Observation?{p}_include=Observation:encounter&_include:iterate=Encounter:*",
    "Observation?{p}_include=*",
    "Observation?{p}_revinclude=*",
    "Encounter?{p}_revinclude=Observation:encounter&_revinclude=Condition:encounter",
    "Encounter?{p}_revinclude=*&_revinclude:iterate=*",
    "DiagnosticReport?{p}_include=DiagnosticReport:result&_include:iterate=Observation:*",
    "Practitioner?_has:Encounter:practitioner:class=EMER",
    "Practitioner?_has:Encounter:practitioner:_has:Observation:encounter:code=8867-4",
    "Practitioner?_revinclude=Encounter:practitioner",
    "Organization?_revinclude=Encounter:service-provider",
    "Patient?_has:Condition:patient:code=2",
    "Patient?_id=p1&_has:Condition:patient:code=2",
    "Patient?_revinclude=Condition:patient",
    "Observation?{p}_sort=encounter,-code&_count=2",
    "Observation?{p}_sort=-date&_count=1&_include=*",
    "Condition?{p}_total=accurate",
    "Encounter?{p}_summary=count",
]


def _plain(text: str) -> str:
    """An answer without its instants and sealed links."""
    text = re.sub(r"_cursor=[A-Za-z0-9_-]+", "_cursor=", text)
    return re.sub(r"\d{4}-\d\d-\d\dT[0-9:.]+(Z|\+00:00)", "now", text)


async def test_what_is_withheld_shows_in_no_chain_include_sort_or_page(
    world: World, rx1: Who, rx2: Who
) -> None:
    await record(world, rx1)
    await keep(world, rx1, POINTING)
    deny = {"type": "deny", "securityLabel": [HIDDEN]}
    made = await world.post("Consent", a_consent("p1", type="permit", provision=[deny]), rx1)
    assert made.status_code == 201
    asked = [
        one.format(p=scope) for one in QUESTIONS for scope in ("patient=p1&", "") if "{p}" in one or scope
    ]
    before = {one: await _all_pages(world, rx2, one) for one in asked}
    await keep(world, rx1, SECRETS)
    for question, expected in before.items():
        assert await _all_pages(world, rx2, question) == expected, question
    lifted = a_consent("p1", type="permit") | {"dateTime": "2026-02-01"}
    assert (await world.post("Consent", lifted, rx1)).status_code == 201
    shown = [question for question in asked if await _all_pages(world, rx2, question) != before[question]]
    unchanged = set(asked) - set(shown)
    assert unchanged <= {one for one in asked if "_id=x1" in one and "patient=" not in one}, unchanged


async def _all_pages(world: World, who: Who, question: str) -> list[str]:
    pages, path = [], question
    while path:
        answer = await world.get(path, who)
        assert answer.status_code == 200, f"{question}: {answer.text}"
        pages.append(_plain(answer.text))
        links = [one["url"] for one in answer.json()["link"] if one["relation"] == "next"]
        path = links[0].split("/fhir/")[1] if links else ""
    return pages


async def test_a_patient_who_is_closed_to_the_caller_is_found_by_no_chain(
    world: World, rx1: Who, rx2: Who
) -> None:
    await record(world, rx1)
    await world.put("Patient/p3", a_patient("p3", DAVID, birthDate="1950-01-01"), rx1)
    await keep(world, rx1, [{**_observation("o9", A), "subject": _ref("Patient/p3")}])
    denied = a_consent("p3", type="deny")
    assert (await world.post("Consent", denied, rx1)).status_code == 201
    for question in (
        f"Observation?patient.identifier={NHS}|{DAVID}",
        "Observation?patient.birthdate=1950",
        "Patient?_has:Observation:patient:_id=o9",
    ):
        unknown = question.replace(DAVID, "9990000042").replace("1950", "1901").replace("o9", "o10")
        told, never = await world.get(question, rx2), await world.get(unknown, rx2)
        assert told.status_code == never.status_code == 200
        assert told.json().get("total") == 0
        assert _plain(told.text).replace(DAVID, "9990000042").replace("1950", "1901").replace(
            "o9", "o10"
        ) == _plain(never.text)
