"""``_filter``: each comparison is the single search it stands for, and and, or and not are what sets make of them."""

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.world import DAVID, World, a_consent, a_patient

Who = dict[str, str]

LOINC, SNOMED, UCUM = "http://loinc.org", "http://snomed.info/sct", "http://unitsofmeasure.org"
ACT = "http://terminology.hl7.org/CodeSystem/v3-ActCode"


def _ref(text: str) -> dict[str, str]:
    return {"reference": text}


def _code(code: str, system: str = LOINC) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


def _observation(id: str, code: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": id,
        "status": "final",
        "subject": _ref("Patient/p1"),
        "code": _code(code),
        **more,
    }


def _encounter(id: str, kind: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Encounter",
        "id": id,
        "status": "finished",
        "class": {"system": ACT, "code": kind},
        "subject": _ref("Patient/p1"),
        **more,
    }


def _amount(value: float, code: str = "mg") -> dict[str, Any]:
    return {"valueQuantity": {"value": value, "system": UCUM, "code": code, "unit": code}}


RECORD: list[dict[str, Any]] = [
    {"resourceType": "Organization", "id": "org1", "name": "Northgate"},
    _encounter(
        "e1",
        "AMB",
        serviceProvider=_ref("Organization/org1"),
        period={"start": "2020-01-01", "end": "2020-01-02"},
    ),
    _encounter("e2", "IMP", period={"start": "2021-03-01", "end": "2021-03-09"}),
    _observation("o1", "a", **_amount(5.4), encounter=_ref("Encounter/e1"), effectiveDateTime="2020-01-01"),
    _observation(
        "o2", "b", **_amount(0.0054, "g"), encounter=_ref("Encounter/e2"), effectiveDateTime="2021-03"
    ),
    _observation("o3", "a", **_amount(100), effectiveDateTime="2021-03-05T10:00:00Z", status="amended"),
    _observation("o4", "c", valueString="Grün und blau", hasMember=[_ref("Observation/o1")]),
    _observation(
        "o5",
        "c",
        valueString="green",
        category=[_code("laboratory"), _code("vital")],
        encounter=_ref("Encounter/e1"),
        effectivePeriod={"start": "2021-01-01", "end": "2021-12-31"},
    ),
    _observation("o6", "b", valueCodeableConcept=_code("c3", "urn:s"), category=[_code("laboratory")]),
]


async def keep(world: World, who: Who, resources: list[dict[str, Any]]) -> None:
    entries = [
        {"resource": one, "request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"}}
        for one in resources
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    answer = await world.post("", json.dumps(bundle), who)
    assert answer.status_code == 200, answer.text


async def record(world: World, who: Who) -> None:
    await world.patient(who, "p1")
    await keep(world, who, RECORD)


async def ids(world: World, who: Who, question: str) -> set[str]:
    answer = await world.get(f"{question}&_count=100", who, Prefer="handling=strict")
    assert answer.status_code == 200, f"{question}: {answer.text}"
    found = answer.json().get("entry", [])
    return {one["resource"]["id"] for one in found if one["search"]["mode"] == "match"}


async def filtered(world: World, who: Who, kind: str, text: str) -> str:
    """The ids found, the same bound to the patient and not."""
    asked = f"_filter={quote(text)}"
    bound = await ids(world, who, f"{kind}?{'_id' if kind == 'Patient' else 'patient'}=p1&{asked}")
    assert await ids(world, who, f"{kind}?{asked}") == bound, text
    return " ".join(sorted(bound))


async def test_every_operator_finds_what_it_says(world: World, rx1: Who) -> None:
    await record(world, rx1)
    for asked, expected in {
        "code eq a": "o1 o3",
        f"code eq {LOINC}|a": "o1 o3",
        "code eq loinc|a": "o1 o3",
        'code eq "loinc|a"': "o1 o3",
        "code ne a": "o2 o4 o5 o6",
        "status ne final": "o3",
        "value-concept ne c3": "",
        "value-concept ne c4": "o6",
        "encounter re Encounter/e1": "o1 o5",
        "encounter eq Encounter/e1": "o1 o5",
        "encounter ne Encounter/e1": "o2",
        "value-string eq green": "o5",
        'value-string eq "grun und BLAU"': "o4",
        'value-string ne "green"': "o4",
        'value-string co "und"': "o4",
        "value-string sw gr": "o4 o5",
        "value-string ew EN": "o5",
        "value-string ew blau": "o4",
        'value-string ew "grün und blau"': "o4",
        'value-string ew "und"': "",
        'value-string gt "green"': "o4",
        'value-string ge "green"': "o4 o5",
        'value-string lt "grun"': "o5",
        'value-string le "green"': "o5",
        'value-string lt "green"': "",
        "value-quantity gt 50": "o3",
        "value-quantity le 5.4|ucum|mg": "o1 o2",
        f"value-quantity eq 5.4|{UCUM}|mg": "o1 o2",
        "value-quantity ap 95": "o3",
        "value-quantity sa 99": "o3",
        "value-quantity eb 1": "o2",
        "value-quantity ne 100": "o1 o2",
        "date eq 2021": "o2 o3 o5",
        "date ge 2021-03-05": "o2 o3 o5",
        "date lt 2021": "o1",
        "date sa 2021-03-04": "o3",
        "date eb 2020-02": "o1",
        "date ap 2021-03-31": "o2 o5",
        "date po 2021-03-31": "o2 o5",
        "date po 2021-03-05": "o2 o3 o5",
        "date co 2021-03-05": "o2 o5",
        "date co 2021-03": "o2 o5",
        "date co 2021-03-05T10:00:00Z": "o2 o3 o5",
        "value-string pr true": "o4 o5",
        "value-string pr false": "o1 o2 o3 o6",
        "status in http://hl7.org/fhir/ValueSet/observation-status": "o1 o2 o3 o4 o5 o6",
        "status ni http://hl7.org/fhir/ValueSet/observation-status": "",
        "status sb http://hl7.org/fhir/observation-status|amended": "o3",
        "status ss http://hl7.org/fhir/observation-status|corrected": "",
        "_id eq o1": "o1",
        "_id ne o1": "o2 o3 o4 o5 o6",
        "_id pr true": "o1 o2 o3 o4 o5 o6",
        "_id pr false": "",
        "_lastUpdated gt 2020": "o1 o2 o3 o4 o5 o6",
        "_lastUpdated co 2020": "",
        "_lastUpdated pr false": "",
        "code-value-quantity eq a$gt50": "o3",
        "subject.birthdate lt 1950": "o1 o2 o3 o4 o5 o6",
        "subject:Patient.gender eq male": "",
    }.items():
        assert await filtered(world, rx1, "Observation", asked) == expected, asked


async def test_a_chain_is_a_path_and_its_brackets_are_about_one_and_the_same(world: World, rx1: Who) -> None:
    await record(world, rx1)
    for asked, expected in {
        "encounter.class eq AMB": "o1 o5",
        "encounter.class ne AMB": "o2",
        "not(encounter.class eq AMB)": "o2 o3 o4 o6",
        "encounter.class pr true": "o1 o2 o5",
        "encounter.class pr false": "o3 o4 o6",
        'encounter.service-provider.name co "gate"': "o1 o5",
        "encounter[class eq AMB].date lt 2021": "o1 o5",
        "encounter[class eq IMP].date lt 2021": "",
        "encounter[class eq IMP or class eq AMB].date ge 2021": "o2",
        "encounter[not(class eq IMP)].service-provider.name eq northgate": "o1 o5",
        "has-member[code eq a].encounter.class eq AMB": "o4",
        "has-member[code eq b].encounter.class eq AMB": "",
        "encounter.class eq IMP or has-member.code eq a": "o2 o4",
        "not(encounter.class eq AMB or has-member.code eq a)": "o2 o3 o6",
    }.items():
        assert await filtered(world, rx1, "Observation", asked) == expected, asked
    assert await filtered(world, rx1, "Encounter", "service-provider.name pr false") == "e2"


async def test_names_added_for_filters_are_about_one_element(world: World, rx1: Who) -> None:
    await record(world, rx1)

    def document(id: str, *relations: tuple[str, str]) -> dict[str, Any]:
        relates = [{"code": code, "target": _ref(f"DocumentReference/{to}")} for code, to in relations]
        content = [{"attachment": {"title": "x"}}]
        about = {"status": "current", "subject": _ref("Patient/p1"), "content": content}
        return {"resourceType": "DocumentReference", "id": id, **about, "relatesTo": relates}

    await keep(
        world, rx1, [document("d1", ("replaces", "x"), ("appends", "y")), document("d2", ("appends", "x"))]
    )
    for asked, expected in {
        "relatesTo[code eq replaces].target re DocumentReference/x": "d1",
        "relatesTo[code eq appends].target re DocumentReference/x": "d2",
        "relatesTo[target re DocumentReference/y].code eq appends": "d1",
        "not(relatesTo[code eq appends].target re DocumentReference/x)": "d1",
    }.items():
        assert await filtered(world, rx1, "DocumentReference", asked) == expected, asked


# The law: what and, or and not make of single searches is what sets make of what those find.


ATOMS = {
    "code eq a": "code=a",
    "code ne a": "code:not=a",
    "code eq b": "code=b",
    "status eq final": "status=final",
    'value-string sw "gr"': "value-string=gr",
    'value-string co "e"': "value-string:contains=e",
    "value-quantity gt 50": "value-quantity=gt50",
    "value-quantity eq 5.4|ucum|mg": f"value-quantity=5.4|{UCUM}|mg",
    "date eq 2021": "date=2021",
    "date lt 2021-03": "date=lt2021-03",
    "encounter pr true": "encounter:missing=false",
    "encounter re Encounter/e1": "encounter=Encounter/e1",
    "encounter.class eq AMB": "encounter.class=AMB",
    "encounter.class ne AMB": "encounter.class:not=AMB",
    "has-member.code eq a": "has-member.code=a",
    "code-value-quantity eq a$gt50": "code-value-quantity=a$gt50",
    "_id eq o1": "_id=o1",
}
Algebra = Callable[[dict[str, set[str]], set[str]], set[str]]


def _atom(text: str) -> tuple[str, Algebra]:
    return text, lambda found, every: found[text]


def _not(one: tuple[str, Algebra]) -> tuple[str, Algebra]:
    return f"not({one[0]})", lambda found, every: every - one[1](found, every)


def _joined(one: tuple[str, Algebra], word: str, other: tuple[str, Algebra]) -> tuple[str, Algebra]:
    text = f"({one[0]}) {word} ({other[0]})"
    if word == "and":
        return text, lambda found, every: one[1](found, every) & other[1](found, every)
    return text, lambda found, every: one[1](found, every) | other[1](found, every)


_FILTERS = st.recursive(
    st.sampled_from(list(ATOMS)).map(_atom),
    lambda inner: inner.map(_not) | st.builds(_joined, inner, st.sampled_from(["and", "or"]), inner),
    max_leaves=6,
)


def _some_filters() -> list[tuple[str, Algebra]]:
    drawn: dict[str, Algebra] = {}

    @settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(_FILTERS)
    def draw(one: tuple[str, Algebra]) -> None:
        drawn[one[0]] = one[1]

    draw()
    return list(drawn.items())


@pytest.mark.parametrize("scope", ["patient=p1&", ""])
async def test_a_filter_finds_what_set_algebra_makes_of_its_single_searches(
    scope: str, world: World, rx1: Who
) -> None:
    await record(world, rx1)
    every = await ids(world, rx1, f"Observation?{scope}")
    single = {text: await ids(world, rx1, f"Observation?{scope}{asked}") for text, asked in ATOMS.items()}
    assert all(single.values())
    for text, algebra in _some_filters():
        found = await ids(world, rx1, f"Observation?{scope}_filter={quote(text)}")
        assert found == algebra(single, every), text


async def test_there_is_no_precedence(world: World, rx1: Who) -> None:
    await record(world, rx1)
    assert await filtered(world, rx1, "Observation", "code eq b or code eq a and status eq amended") == "o3"
    grouped = "code eq b or (code eq a and status eq amended)"
    assert await filtered(world, rx1, "Observation", grouped) == "o2 o3 o6"


async def test_several_filters_must_all_be_fulfilled_with_all_else(world: World, rx1: Who) -> None:
    await record(world, rx1)
    question = f"_filter={quote('code eq a or code eq b')}&_filter={quote('status eq final')}"
    assert await ids(world, rx1, f"Observation?{question}") == {"o1", "o2", "o6"}
    assert await ids(world, rx1, f"Observation?{question}&date=2021") == {"o2"}


async def test_a_filter_that_names_the_patient_is_a_question_about_that_person(
    world: World, rx1: Who
) -> None:
    await record(world, rx1)
    await world.patient(rx1, "p2", DAVID, birthDate="1950-01-01")
    await keep(world, rx1, [{**_observation("x", "a"), "subject": _ref("Patient/p2")}])
    named = await world.get(f"Observation?_filter={quote('patient re Patient/p1 and code eq a')}", rx1)
    assert named.json()["total"] == 2
    [outcome] = [one["resource"] for one in named.json()["entry"] if one["search"]["mode"] == "outcome"]
    assert outcome["issue"][0]["details"]["coding"][0]["code"] == "fresh"
    assert quote("patient re Patient/p1 and code eq a", safe="/") in named.json()["link"][0]["url"]
    event = json.dumps((await world.audit())[-1])
    assert "Patient/p1" in event and "Patient/p2" not in event
    # What only may be about that person is asked of everybody.
    for asked in (
        "patient re Patient/p1 or patient re Patient/p2",
        "not(patient re Patient/p3)",
        "patient ne Patient/p3",
    ):
        assert "x" in await ids(world, rx1, f"Observation?_filter={quote(asked)}"), asked


async def test_pages_of_a_filtered_answer_are_of_the_same_question(world: World, rx1: Who) -> None:
    await record(world, rx1)
    seen: list[str] = []
    path = f"Observation?patient=p1&_count=2&_sort=_id&_filter={quote('not(code eq a)')}"
    while path:
        answer = (await world.get(path, rx1)).json()
        seen += [one["resource"]["id"] for one in answer["entry"] if one["search"]["mode"] == "match"]
        links = [one["url"] for one in answer["link"] if one["relation"] == "next"]
        path = links[0].split("/fhir/")[1] if links else ""
    assert seen == ["o2", "o4", "o5", "o6"]


async def test_a_conditional_write_may_be_filtered_by_the_resource_itself(world: World, rx1: Who) -> None:
    await record(world, rx1)
    body = {**_observation("", "new")}
    del body["id"]
    criteria = quote("code eq new or code eq newer")
    made = await world.post("Observation", body, rx1, If_None_Exist=f"_filter={criteria}")
    again = await world.post("Observation", body, rx1, If_None_Exist=f"_filter={criteria}")
    assert (made.status_code, again.status_code) == (201, 200)
    chained = quote("code eq new and not(encounter.class eq AMB)")
    refused = await world.post("Observation", body, rx1, If_None_Exist=f"_filter={chained}")
    assert refused.status_code == 400


async def test_a_chain_within_a_filter_needs_a_scope_for_every_type_it_reads(world: World, rx1: Who) -> None:
    await record(world, rx1)
    narrow = await world.bearer("rx1", scope="system/Observation.rs")
    for asked in ("encounter.class eq AMB", "code eq a or not(encounter[class eq AMB].date eq 2020)"):
        answer = await world.get(f"Observation?patient=p1&_filter={quote(asked)}", narrow)
        assert answer.status_code == 403, asked


REFUSED = {
    "nope eq 1": "at character 1, nope: it is not a search parameter of Observation that is known here",
    "code eq a and (status eq final or nope eq 1)": "at character 35, nope",
    "code co a": "at character 1, co is not answered for code, a parameter of type token",
    "category ne laboratory": "at character 1, ne is not answered for category, which may have several values",
    "value-quantity co 5": "co is not answered for value-quantity",
    "value-quantity po 5": "po is not answered",
    "value-string in x": "in is not answered",
    "date sw 2020": "sw is not answered",
    "code:in eq x": "operators in the place of modifiers",
    "code.text eq x": "code is no reference",
    "encounter.nope eq x": "at character 1, nope: it is not a search parameter of Encounter",
    "encounter[nope eq 1].class eq AMB": "at character 11, nope",
    "encounter:Patient.class eq AMB": "the chain is of no type",
    "code-value-quantity pr true": "the modifier :missing does not apply to a composite",
    "date eq 2020-13": "at character 1, date: a date is written",
    "code eq x and value-quantity gt five": "at character 15, value-quantity: a number is written",
    "code eq a|b|c": "a token is written",
    'value-string eq " "': "at least one letter",
    'value-string eq ""': "a value is needed",
    "code pr maybe": "pr is followed by true or false",
    "code in http://nowhere.example/vs": "the value set is not known here",
    "code eq": "at character 8, a value is expected",
    "related[type eq has-component].target pr true": "related is no reference of Observation",
}


@pytest.mark.parametrize("asked", REFUSED)
async def test_what_cannot_be_answered_is_refused_with_its_place(asked: str, world: World, rx1: Who) -> None:
    answer = await world.get(f"Observation?_filter={quote(asked)}", rx1, Prefer="handling=strict")
    assert answer.status_code == 400, answer.text
    told = answer.json()["issue"][0]["details"]["text"]
    assert "_filter: at character" in told
    assert REFUSED[asked] in told


async def test_what_cannot_be_answered_is_named_when_lenient(world: World, rx1: Who) -> None:
    await record(world, rx1)
    answer = (
        await world.get(f"Observation?patient=p1&_filter={quote('code eq a and code co b')}", rx1)
    ).json()
    assert "_filter" not in answer["link"][0]["url"]
    assert answer["total"] == 6
    [outcome] = [one["resource"] for one in answer["entry"] if one["search"]["mode"] == "outcome"]
    assert any("_filter was ignored: at character 15" in one["details"]["text"] for one in outcome["issue"])


async def test_a_filter_is_bounded(world: World, rx1: Who) -> None:
    for asked in (
        "(" * 13 + "code eq a" + ")" * 13,
        " or ".join(["code eq a"] * 101),
        " and code eq b or ".join(["code eq a"] * 15),
        "has-member." * 6 + "code eq a",
    ):
        answer = await world.get(f"Observation?_filter={quote(asked)}", rx1)
        assert answer.status_code == 422, asked
    largest = " or ".join(["code eq a and status eq final"] * 6)
    assert (await world.get(f"Observation?_filter={quote(largest)}", rx1)).status_code == 200
    wide = " or ".join(f"code eq {one}" for one in range(100))
    assert (await world.get(f"Observation?_filter={quote(wide)}", rx1)).status_code == 200
    everything = "&".join([f"_filter={quote(wide)}"] * 11)
    assert (await world.get(f"Observation?{everything}", rx1)).status_code == 422


# What is hidden.


HIDDEN = {"meta": {"security": [{"system": ACT, "code": "PSY"}]}}
SECRETS = [
    {**_encounter("x1", "EMER", serviceProvider=_ref("Organization/org1")), **HIDDEN},
    {**_observation("x2", "z", encounter=_ref("Encounter/e1"), valueString="secret"), **HIDDEN},
    {**_observation("x3", "a", hasMember=[_ref("Observation/o1")]), **HIDDEN},
]
POINTING = [
    _observation("o7", "a", encounter=_ref("Encounter/x1")),
    _observation("o8", "b", hasMember=[_ref("Observation/x2")]),
]
QUESTIONS = [
    "encounter.class eq EMER",
    "not(encounter.class eq EMER)",
    "encounter.class ne AMB",
    "encounter.class pr false",
    "encounter[class eq EMER].service-provider.name pr true",
    "encounter[not(class eq AMB)].service-provider.name pr true",
    "not(has-member.code eq z)",
    "has-member.code eq z or code eq a",
    "not(code eq a)",
    "not(value-string pr true)",
    'value-string ne "green"',
    "_id ne o1",
    "not(not(has-member.value-string eq secret))",
]


def _plain(text: str) -> str:
    return re.sub(r"\d{4}-\d\d-\d\dT[0-9:.]+(Z|\+00:00)", "now", re.sub(r"_cursor=[\w-]+", "_cursor=", text))


async def test_no_filter_tells_of_what_is_withheld(world: World, rx1: Who, rx2: Who) -> None:
    await record(world, rx1)
    await keep(world, rx1, POINTING)
    deny = {"type": "deny", "securityLabel": HIDDEN["meta"]["security"]}
    made = await world.post("Consent", a_consent("p1", type="permit", provision=[deny]), rx1)
    assert made.status_code == 201
    asked = [f"Observation?{scope}_filter={quote(one)}" for one in QUESTIONS for scope in ("patient=p1&", "")]
    before = {one: await _answers(world, rx2, one) for one in asked}
    await keep(world, rx1, SECRETS)
    for question, expected in before.items():
        assert await _answers(world, rx2, question) == expected, question
    lifted = a_consent("p1", type="permit") | {"dateTime": "2026-02-01"}
    assert (await world.post("Consent", lifted, rx1)).status_code == 201
    assert [one for one in asked if await _answers(world, rx2, one) == before[one]] == []


async def _answers(world: World, who: Who, question: str) -> list[str]:
    """Whole, its first page with the total, and the total alone."""
    ways = ("", "&_total=accurate&_count=2", "&_summary=count")
    return [_plain((await world.get(question + more, who)).text) for more in ways]


async def test_a_denied_chain_looks_at_everybody_whom_the_question_is_about(world: World, rx1: Who) -> None:
    """However few candidates other criteria leave, what they refer to may be in another's record."""
    await record(world, rx1)
    await world.put("Patient/p2", a_patient("p2", DAVID, birthDate="1950-01-01"), rx1)
    await keep(world, rx1, [_observation("q1", "q", focus=[_ref("Observation/q2")])])
    await keep(world, rx1, [{**_observation("q2", "r"), "subject": _ref("Patient/p2")}])
    asked = "code eq q and not(focus:Observation.code eq r)"
    assert await ids(world, rx1, f"Observation?_filter={quote(asked)}") == set()
    asked = "code eq q and not(focus:Observation.code eq other)"
    assert await ids(world, rx1, f"Observation?_filter={quote(asked)}") == {"q1"}
