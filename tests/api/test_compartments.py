"""Searching a compartment, and several types at once (R4 http, 3.1.0.9; compartmentdefinition)."""

import json

import pytest

from app.vocabulary import PurposeOfUse
from tests.api.test_chains import HIDDEN, RECORD, _all_pages, _hidden, _observation, ids, keep, record
from tests.world import DAVID, World, a_consent, denied_to

Who = dict[str, str]
A = "http://loinc.org|8867-4"


def _ref(text: str) -> dict[str, str]:
    return {"reference": text}


async def test_a_compartment_holds_what_its_parameters_nominate(world: World, rx1: Who) -> None:
    await record(world, rx1)
    appointment = {
        "resourceType": "Appointment",
        "id": "a1",
        "status": "booked",
        "participant": [{"actor": _ref("Patient/p1"), "status": "accepted"}],
    }
    await keep(world, rx1, [appointment])
    for question, expected in {
        "Patient/p1/Observation": "o1 o2 o3",
        f"Patient/p1/Observation?code={A}": "o1 o3",
        "Patient/p1/Observation?encounter.class=AMB": "o1",
        "Patient/p1/Appointment": "a1",
        "Patient/p1/Patient": "p1",
        "Patient/p1/Condition?code=x": "",
        "Patient/nobody/Observation": "",
        "Encounter/e2/Observation": "o2",
        "Encounter/e1/Encounter": "e1",
        "Encounter/e2/Condition?patient=p1": "c1",
        "Encounter/nothing/Observation": "",
        "Practitioner/dr1/Encounter": "e1",
        "Practitioner/dr1/Observation": "o1",
        "Patient/p1/*": "a1 c1 d1 e1 e2 l1 o1 o2 o3 p1",
        "Patient/p1/*?_type=Condition,Encounter": "c1 e1 e2",
        "Patient/p1/*?_type=Condition,Observation&encounter=e2": "c1 o2",
        "Encounter/e2/*": "c1 e2 o2",
        "Practitioner/dr2/*?_type=Encounter": "e2",
        "?_type=Condition,List": "c1 l1",
        "?_type=Condition,Observation&patient=p1&_count=2&_sort=_id": "c1 o1",
        "?_type=Practitioner,Organization&name=north": "org1 org2",
        "?_type=Observation,Condition&_id=o1,c1,e1": "c1 o1",
        "?_type=Observation,Condition&encounter.class=AMB": "o1",
        "?_type=Patient,Practitioner&_has:Observation:performer:code=8867-4": "dr1",
    }.items():
        assert await ids(world, rx1, question) == expected, question


async def test_a_search_of_several_types_may_be_posted_and_says_what_it_used(world: World, rx1: Who) -> None:
    await record(world, rx1)
    form = {"Content-Type": "application/x-www-form-urlencoded", **rx1}
    content = b"_type=Observation,Condition&code=8867-4&nope=1"
    answer = await world.http.post("/fhir/_search", content=content, headers=form)
    told = answer.json()
    assert (answer.status_code, told["total"]) == (200, 2)
    assert told["link"][0]["url"] == f"{world.base}?_type=Observation,Condition&code=8867-4"
    assert "nope was ignored" in json.dumps(told["entry"][-1])


async def test_pages_of_several_types_hold_each_once(world: World, rx1: Who) -> None:
    await record(world, rx1)
    found, following = [], "Patient/p1/*?_count=3&_sort=_lastUpdated"
    while following:
        bundle = (await world.get(following, rx1)).json()
        assert bundle["total"] == 9
        assert bundle["link"][0]["url"].endswith("/Patient/p1/*?_count=3&_sort=_lastUpdated")
        found += [one["resource"]["id"] for one in bundle["entry"] if one["search"]["mode"] == "match"]
        links = [one["url"] for one in bundle["link"] if one["relation"] == "next"]
        following = links[0].split("/fhir/")[1] if links else ""
    assert len(found) == len(set(found)) == 9


@pytest.mark.parametrize(
    ("question", "status"),
    [
        ("Patient/p1/Practitioner", 400),
        ("Patient/p1/Nothing", 404),
        ("Organization/org1/Observation", 404),
        ("?_id=p1", 422),
        ("?_type=", 400),
        ("?_type=Nothing", 400),
        ("?_type=Observation,AuditEvent", 400),
        ("?_type=Observation&_type=Condition", 400),
        ("?_type=Observation,Practitioner&subject=x", 400),
        ("Patient/p1/*?_type=Practitioner", 400),
        ("Patient/p1/*?_sort=code", 400),
    ],
)
async def test_what_cannot_be_asked_is_refused_with_a_sentence(
    world: World, rx1: Who, question: str, status: int
) -> None:
    answer = await world.get(question, rx1, Prefer="handling=strict")
    assert answer.status_code == status, answer.text
    assert len(answer.json()["issue"][0]["details"]["text"].split()) > 3


async def test_a_type_that_no_scope_names_is_refused_by_name_and_otherwise_left_out(
    world: World, rx1: Who
) -> None:
    await record(world, rx1)
    narrow = await world.bearer("rx1", scope="system/Observation.rs")
    assert await ids(world, narrow, "Patient/p1/*") == "o1 o2 o3"
    assert (await world.get("Patient/p1/*?_type=Observation,Condition", narrow)).status_code == 403
    assert (await world.get("?_type=Condition", narrow)).status_code == 403


async def test_what_is_withheld_shows_in_no_compartment(world: World, rx1: Who, rx2: Who) -> None:
    await record(world, rx1)
    deny = {"type": "deny", "securityLabel": [HIDDEN]}
    await world.post("Consent", a_consent("p1", type="permit", provision=[deny]), rx1)
    asked = [
        "Patient/p1/Observation?_count=2&_sort=-_lastUpdated",
        "Patient/p1/*?_count=4&_sort=_id",
        "Encounter/e1/Observation",
        "Encounter/x1/Observation",
        "Encounter/e1/*",
        "Practitioner/dr2/*",
        "?_type=Observation,Condition,Encounter&_count=2&_sort=_id",
        "?_type=Observation&_total=accurate&_summary=count",
    ]
    before = {one: await _all_pages(world, rx2, one) for one in asked}
    secrets = [
        _hidden({**one, "id": f"x{place}"})
        for place, one in enumerate(RECORD[4:11], start=1)
        if one["resourceType"] != "Patient"
    ]
    await keep(world, rx1, [*secrets, _hidden(_observation("x9", A, encounter=_ref("Encounter/x1")))])
    for question, expected in before.items():
        assert await _all_pages(world, rx2, question) == expected, question


async def test_the_compartment_of_a_patient_who_is_closed_is_as_one_that_is_unknown(
    world: World, rx1: Who, rx2: Who
) -> None:
    await record(world, rx1)
    await world.post("Consent", a_consent("p1", **denied_to("RX2")), rx1)
    for question in ("Patient/p1/Observation", "Patient/p1/*", "Patient/p1/*?_type=Condition,List"):
        closed = await _all_pages(world, rx2, question)
        unknown = await _all_pages(world, rx2, question.replace("p1", "p0"))
        assert [one.replace("Patient/p1", "Patient/p0") for one in closed] == unknown


async def test_an_emergency_tells_nothing_of_whether_another_patient_is_known(world: World, rx1: Who) -> None:
    await record(world, rx1)
    emergency = await world.bearer("rx2", purpose=PurposeOfUse.ETREAT, emergency_for=DAVID)
    for question in (
        "Patient/{p}/Observation",
        "Patient/{p}/*",
        "?_type=Observation,Condition&patient={p}",
        "Observation/$lastn?patient={p}",
    ):
        known = await world.get(question.format(p="p1"), emergency)
        unknown = await world.get(question.format(p="p0"), emergency)
        assert (known.status_code, known.text) == (404, unknown.text), question


async def test_types_that_are_about_different_patients_are_asked_about_each(world: World, rx1: Who) -> None:
    await record(world, rx1)
    await world.patient(rx1, "p2", DAVID, birthDate="1950-01-01")
    both = {
        "resourceType": "Observation",
        "id": "both",
        "status": "final",
        "code": {"text": "weight"},
        "subject": _ref("Patient/p1"),
        "performer": [_ref("Patient/p2")],
    }
    await keep(world, rx1, [both])
    question = "?_type=Observation,DiagnosticReport&subject=Patient/p1&performer=Patient/p2"
    assert await ids(world, rx1, question) == "both"


ASKED_OF_ONE = [
    "Observation?patient=p1",
    "Observation?patient=p1&_count=1&_sort=code",
    "Observation?patient=p1&encounter.class=AMB",
    "Encounter?patient=p1&_has:Observation:encounter:code=718-7",
    "Observation?patient=p1&_include=*&_revinclude=*",
    "Observation?patient=p1&_filter=status eq final",
    "Observation?patient=p1&_content=final",
    "Observation?subject:Patient.family=okafor",
    "Observation?encounter.class=AMB",
    "Observation?code=718-7",
    "Patient/p1/Observation",
    "Patient/p1/*",
    "Encounter/e1/Observation",
    "?_type=Observation,Condition&patient=p1",
    "?_type=Observation,Condition",
    "Observation/_history",
    "_history",
    "Patient/p1/$everything",
    "Patient/p1/$everything?_count=2",
    "Encounter/e2/$everything",
    "Observation/$lastn?patient=p1",
    "Observation/o1/$meta",
]


@pytest.mark.parametrize("question", ASKED_OF_ONE)
async def test_every_way_to_a_record_leaves_one_entry_that_names_the_person_and_what_left(
    world: World, rx1: Who, question: str
) -> None:
    await record(world, rx1)
    before = len(await world.audit())
    answer = await world.get(question, rx1)
    assert answer.status_code == 200, answer.text
    entries = (await world.audit())[before:]
    assert len([one for one in entries if "Patient/p1" in json.dumps(one["entity"])]) == 1
    assert len(entries) == (2 if question == "_history" else 1), "what is nobody's may have one of its own"
    left = {
        f"{one['resource']['resourceType']}/{one['resource']['id']}"
        for one in answer.json().get("entry", [])
        if one.get("resource", {}).get("id")
    } or {"Observation/o1"}
    told = json.dumps(entries)
    assert {one for one in left if one not in told} == set()
