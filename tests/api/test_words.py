"""``_text`` and ``_content`` find what has the words, bound to a patient and not, and nothing by what is withheld."""

import json
import re
from typing import Any
from urllib.parse import quote

import pytest

from tests.world import DAVID, World, a_consent

Who = dict[str, str]


def _note(id: str, narrative: str, text: str = "", patient: str = "p1", **more: Any) -> dict[str, Any]:
    told = {
        "status": "generated",
        "div": f'<div xmlns="http://www.w3.org/1999/xhtml"><p>{narrative}</p></div>',
    }
    return {
        "resourceType": "Condition",
        "id": id,
        "text": told,
        "subject": {"reference": f"Patient/{patient}"},
        "code": {"text": text or "Something"},
        **more,
    }


ENCOUNTER = {
    "resourceType": "Encounter",
    "id": "e1",
    "status": "finished",
    "class": {"code": "AMB"},
    "subject": {"reference": "Patient/p1"},
    "reasonCode": [{"text": "Fell from a ladder"}],
}
RECORD = [
    _note("c1", "Metastases of the <b>bone</b>", recordedDate="2020-01-01"),
    _note("c2", "Metastases of the liver", "Hepatic", recordedDate="2021-01-01"),
    _note("c3", "Nothing of the kind; no metastasis", encounter={"reference": "Encounter/e1"}),
    {
        "resourceType": "Condition",
        "id": "c4",
        "subject": {"reference": "Patient/p1"},
        "code": {"text": "Bone pain"},
    },
    ENCOUNTER,
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


async def ids(world: World, who: Who, question: str) -> str:
    answer = await world.get(question, who, Prefer="handling=strict")
    assert answer.status_code == 200, f"{question}: {answer.text}"
    found = answer.json().get("entry", [])
    return " ".join(sorted(one["resource"]["id"] for one in found if one["search"]["mode"] == "match"))


async def of_either(world: World, who: Who, question: str) -> str:
    kind, _, query = question.partition("?")
    bound = await ids(world, who, f"{kind}?patient=p1&{query}")
    assert await ids(world, who, question) == bound, question
    return bound


async def test_words_are_found_in_the_narrative_or_anywhere(world: World, rx1: Who) -> None:
    await record(world, rx1)
    for asked, expected in {
        "_text=metastases": "c1 c2",
        f"_text={quote('(bone OR liver) and metastases')}": "c1 c2",
        "_text=bone": "c1",
        "_content=bone": "c1 c4",
        "_text=metastas*": "c1 c2 c3",
        f"_text={quote('-metastas*')}": "c4",
        f"_text={quote('metastases -liver')}": "c1",
        f"_text={quote('of the bone')}": "c1",
        "_text=bone,liver": "c1 c2",
        "_text=bone&_text=liver": "",
        "_text=bone&_content=bone": "c1",
        "_content=hepatic": "c2",
        "_text=hepatic": "",
        "_content=Patient": "",
        "_text=metastases&recorded-date=2021": "c2",
        "_text=metastases&_sort=recorded-date": "c1 c2",
        "encounter._content=ladder": "c3",
        "encounter._content=bone": "",
        "_text=nothing&encounter.class=AMB": "c3",
        "_text=metastases&encounter.class=AMB": "",
        f"_filter={quote('_text eq liver or encounter._content eq ladder')}": "c2 c3",
        f"_filter={quote('not(_text eq metastases)')}": "c3 c4",
        f"_filter={quote('not(_text eq metastases) and _content eq bone')}": "c4",
    }.items():
        assert await of_either(world, rx1, f"Condition?{asked}") == expected, asked
    assert await ids(world, rx1, "Encounter?_has:Condition:encounter:_text=nothing") == "e1"
    assert await ids(world, rx1, "Patient/p1/Condition?_text=liver") == "c2"


async def test_pages_and_totals_are_of_what_has_the_words(world: World, rx1: Who) -> None:
    await record(world, rx1)
    first = (await world.get("Condition?patient=p1&_text=the&_count=1&_sort=_id", rx1)).json()
    assert first["total"] == 3
    assert (await world.get("Condition?_text=the&_summary=count", rx1)).json()["total"] == 3
    seen, page = [], first
    while True:
        seen += [one["resource"]["id"] for one in page["entry"] if one["search"]["mode"] == "match"]
        links = [one["url"] for one in page["link"] if one["relation"] == "next"]
        if not links:
            break
        page = (await world.get(links[0].split("/fhir/")[1], rx1)).json()
    assert seen == ["c1", "c2", "c3"]


async def test_a_directory_is_searched_for_words_too(world: World, rx1: Who) -> None:
    await keep(world, rx1, [{"resourceType": "Organization", "id": "o1", "name": "Northgate Surgery"}])
    assert await ids(world, rx1, "Organization?_content=surgery") == "o1"


async def test_the_latest_text_counts(world: World, rx1: Who) -> None:
    await record(world, rx1)
    await keep(world, rx1, [_note("c1", "Resolved")])
    assert (await world.delete("Condition/c2", rx1)).status_code == 204
    assert await of_either(world, rx1, "Condition?_text=metastases") == ""
    assert await of_either(world, rx1, "Condition?_text=resolved") == "c1"


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ("Condition?_text=(", 400),
        ("Condition?_text=and", 400),
        ("Condition?_text=-", 400),
        ("Condition?_content=%22x", 400),
        ("Condition?_text:exact=x", 400),
        ("Condition?_text:missing=true", 400),
        ("Binary?_text=x", 400),
        (f"Condition?_text={'a+' * 101}", 422),
    ],
)
async def test_words_that_cannot_be_read_are_refused(asked: str, status: int, world: World, rx1: Who) -> None:
    answer = await world.get(asked, rx1, Prefer="handling=strict")
    assert answer.status_code == status, answer.text


async def test_a_conditional_write_does_not_go_by_words(world: World, rx1: Who) -> None:
    await record(world, rx1)
    body = {key: value for key, value in _note("x", "new").items() if key != "id"}
    for criteria in ("_text=new", f"_filter={quote('not(_content eq new)')}"):
        answer = await world.post("Condition", body, rx1, If_None_Exist=criteria)
        assert answer.status_code == 400
        assert "_text" in answer.text


# What is hidden.


HIDDEN = {
    "meta": {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "PSY"}]}
}
SECRETS = [
    {**_note("x1", "Metastases and a secret"), **HIDDEN},
    {**ENCOUNTER, "id": "x2", "reasonCode": [{"text": "Secret ladder"}], **HIDDEN},
]
POINTING = [_note("c5", "Points", encounter={"reference": "Encounter/x2"})]
QUESTIONS = [
    "_text=metastases",
    "_text=secret",
    "_content=secret",
    "_text=-liver",
    "encounter._content=secret",
    f"_filter={quote('not(encounter._content eq secret)')}",
    f"_filter={quote('not(_text eq nothing)')}",
]


def _plain(text: str) -> str:
    return re.sub(r"\d{4}-\d\d-\d\dT[0-9:.]+(Z|\+00:00)", "now", re.sub(r"_cursor=[\w-]+", "_cursor=", text))


async def test_no_word_tells_of_what_is_withheld(world: World, rx1: Who, rx2: Who) -> None:
    await record(world, rx1)
    await keep(world, rx1, POINTING)
    await world.patient(rx2, "other", DAVID, birthDate="1950-01-01")
    deny = {"type": "deny", "securityLabel": HIDDEN["meta"]["security"]}
    made = await world.post("Consent", a_consent("p1", type="permit", provision=[deny]), rx1)
    assert made.status_code == 201
    asked = [f"Condition?{scope}{one}" for one in QUESTIONS for scope in ("patient=p1&", "")]
    before = {one: await _answers(world, rx2, one) for one in asked}
    await keep(world, rx1, SECRETS)
    for question, expected in before.items():
        assert await _answers(world, rx2, question) == expected, question
    lifted = a_consent("p1", type="permit") | {"dateTime": "2026-02-01"}
    assert (await world.post("Consent", lifted, rx1)).status_code == 201
    assert [one for one in asked if await _answers(world, rx2, one) == before[one]] == []


async def _answers(world: World, who: Who, question: str) -> list[str]:
    ways = ("", "&_total=accurate&_count=2", "&_summary=count")
    return [_plain((await world.get(question + more, who)).text) for more in ways]
