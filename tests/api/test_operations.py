"""$lastn, $document and $meta: each through the gate, each recorded (R4 operations)."""

import json
import re
from typing import Any

import pytest

from tests.api.test_everything import RESTRICTED, Who, asked, encounter, found, keep, reference, timeless
from tests.world import DAVID, World, a_consent, an_observation, denied_to

LABORATORY = [
    {
        "coding": [
            {"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory"}
        ]
    }
]


def at(day: int, code: str = "8867-4", **more: Any) -> str:
    """An Observation of p1 on a day of January."""
    more = {"id": f"{code}.{day}", "effectiveDateTime": f"2026-01-{day:02}", **more}
    return an_observation("p1", code=code, **more)


# $lastn.


async def some(world: World, who: Who) -> None:
    await world.patient(who, "p1")
    await keep(
        world,
        who,
        *(at(day) for day in (1, 2, 3)),
        *(at(day, "2345-7", category=LABORATORY) for day in (2, 5, 5 + 1)),
    )


async def test_the_last_of_each_code_is_given_newest_first(world: World, rx1: Who) -> None:
    await some(world, rx1)
    bundle = await asked(world, rx1, "Observation/$lastn?patient=p1")
    assert found(bundle, "match") == ["Observation/2345-7.6", "Observation/8867-4.3"]
    assert (bundle["type"], bundle["total"]) == ("searchset", 2)
    assert bundle["link"] == [{"relation": "self", "url": f"{world.base}/Observation/$lastn?patient=p1"}]
    for query, ids in {
        "subject=Patient/p1&max=2": ["2345-7.6", "2345-7.5", "8867-4.3", "8867-4.2"],
        "patient=p1&category=laboratory&max=2": ["2345-7.6", "2345-7.5"],
        "patient=p1&code=8867-4&date=lt2026-01-03": ["8867-4.2"],
        "patient=p1&code=none": [],
        "patient=p1&code=8867-4&max=9": ["8867-4.3", "8867-4.2", "8867-4.1"],
        "patient=nobody": [],
    }.items():
        bundle = await asked(world, rx1, f"Observation/$lastn?{query}")
        assert found(bundle) == [f"Observation/{id}" for id in ids], query
        assert bundle["total"] == len(ids)


async def test_a_body_asks_the_same(world: World, rx1: Who) -> None:
    await some(world, rx1)
    body = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "max", "valuePositiveInt": 2},
            {"name": "patient", "valueString": "p1"},
            {"name": "date", "valueString": "ge2026-01-02"},
            {"name": "date", "valueString": "lt2026-01-06"},
        ],
    }
    answer = await world.post("Observation/$lastn", body, rx1)
    assert answer.status_code == 200, answer.text
    assert found(answer.json()) == [
        f"Observation/{id}" for id in ("2345-7.5", "8867-4.3", "2345-7.2", "8867-4.2")
    ]


async def test_the_last_ones_come_in_pages_on_demand(world: World, rx1: Who) -> None:
    await some(world, rx1)
    page = await asked(world, rx1, "Observation/$lastn?patient=p1&max=2&_count=3")
    assert found(page) == ["Observation/2345-7.6", "Observation/2345-7.5", "Observation/8867-4.3"]
    [following] = [one["url"] for one in page["link"] if one["relation"] == "next"]
    page = await asked(world, rx1, following.split("/fhir/")[1])
    assert (found(page), page["total"]) == (["Observation/8867-4.2"], 4)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "code=8867-4",
        "patient=p1&max=0",
        "patient=p1&max=x",
        "patient=p1&max=1&max=2",
        "patient=p1&_sort=date",
        "patient=p1&date=x",
        "patient=p1&max=1001",
    ],
)
async def test_what_cannot_be_asked_is_refused(query: str, world: World, rx1: Who) -> None:
    await some(world, rx1)
    assert (await world.get(f"Observation/$lastn?{query}", rx1)).status_code == 400


async def test_a_newer_one_that_is_withheld_shows_no_gap(world: World, rx1: Who, rx2: Who) -> None:
    await some(world, rx1)
    for query in ("patient=p1", "patient=p1&max=2", "patient=p1&max=2&_count=1"):

        async def seen(query: str = query) -> str:
            text = timeless((await world.get(f"Observation/$lastn?{query}", rx2)).text)
            return re.sub(r"_cursor=[^\"]*", "", text)

        before = await seen()
        await keep(world, rx1, at(9, **RESTRICTED), at(8, "new", **RESTRICTED))
        # A translation that would join two groups.
        codes = {"coding": [{"system": "http://loinc.org", "code": one} for one in ("8867-4", "2345-7")]}
        joining = json.loads(at(1, "join", **RESTRICTED)) | {"code": codes}
        await keep(world, rx1, joining)
        assert await seen() == before
        for id in ("8867-4.9", "new.8", "join.1"):
            await world.delete(f"Observation/{id}", rx1)
    await world.post("Consent", a_consent("p1", **denied_to("RX2")), rx1)
    closed = await asked(world, rx2, "Observation/$lastn?patient=p1")
    nobodys = await asked(world, rx2, "Observation/$lastn?patient=nobody")
    assert found(closed) == [] == found(nobodys)
    assert timeless(json.dumps(closed)).replace("p1", "nobody") == timeless(json.dumps(nobodys))


async def test_the_last_ones_need_a_scope_and_are_recorded(world: World, rx1: Who) -> None:
    await some(world, rx1)
    other = await world.bearer("rx1", scope="system/Condition.rs")
    assert (await world.get("Observation/$lastn?patient=p1", other)).status_code == 403
    before = len(await world.audit())
    await asked(world, rx1, "Observation/$lastn?patient=p1&code=8867-4")
    [entry] = (await world.audit())[before:]
    told = json.dumps(entry["entity"])
    assert "Observation/8867-4.3/_history/1" in told and "8867-4.2" not in told


# $document.


async def a_composition(world: World, who: Who, **more: Any) -> None:
    await world.patient(who, "p1")
    await keep(
        world,
        who,
        {"resourceType": "Organization", "id": "above", "name": "above"},
        {
            "resourceType": "Organization",
            "id": "trust",
            "name": "trust",
            "partOf": reference("Organization/above"),
        },
        {"resourceType": "Practitioner", "id": "doc", "name": [{"family": "Doc"}]},
        {
            "resourceType": "PractitionerRole",
            "id": "role",
            "practitioner": reference("Practitioner/doc"),
            "organization": reference("Organization/trust"),
        },
        encounter("e"),
        encounter("unrelated"),
        {"resourceType": "Specimen", "id": "s", "subject": reference("Patient/p1")},
        at(1, specimen=reference("Specimen/s")),
        at(2),
        at(3),
        {
            "resourceType": "Composition",
            "id": "old",
            "status": "final",
            "type": {"text": "summary"},
            "date": "2026-01-01",
            "author": [reference("PractitionerRole/role")],
            "title": "Before",
            "subject": reference("Patient/p1"),
        },
    )
    await keep(world, who, composition(**more))


def composition(id: str = "c", **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Composition",
        "id": id,
        "status": "final",
        "type": {"text": "summary"},
        "subject": reference("Patient/p1"),
        "encounter": reference("Encounter/e"),
        "date": "2026-01-01",
        "author": [reference("PractitionerRole/role")],
        "title": "Summary",
        "custodian": reference("Organization/trust"),
        "relatesTo": [{"code": "replaces", "targetReference": reference("Composition/old")}],
        "section": [
            {
                "title": "one",
                "entry": [reference("Observation/8867-4.1")],
                "section": [{"title": "two", "entry": [reference("Observation/8867-4.2")]}],
            }
        ],
        **more,
    }


DOCUMENT = [
    "Composition/c",
    "Patient/p1",
    "Encounter/e",
    "PractitionerRole/role",
    "Organization/trust",
    "Observation/8867-4.1",
    "Observation/8867-4.2",
]
BEHIND = {"Organization/above", "Practitioner/doc", "Specimen/s"}


def names(bundle: Any) -> list[str]:
    return [one["fullUrl"].split("/fhir/")[1] for one in bundle["entry"]]


def stable(text: str) -> str:
    """A document without what is new in each."""
    return re.sub(r'urn:uuid:[0-9a-f-]{36}|"timestamp":"[^"]*"', "", text)


async def test_a_document_is_the_composition_and_what_it_refers_to(world: World, rx1: Who) -> None:
    await a_composition(world, rx1)
    bundle = await asked(world, rx1, "Composition/c/$document")
    assert bundle["type"] == "document"
    assert bundle["identifier"]["system"] == "urn:ietf:rfc:3986"
    assert re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", bundle["identifier"]["value"])
    assert re.fullmatch(r"[0-9T:.-]{23}Z", bundle["timestamp"])
    assert names(bundle)[:7] == DOCUMENT
    assert set(names(bundle)[7:]) == BEHIND
    assert not {"total", "link"} & bundle.keys() and all("search" not in one for one in bundle["entry"])


async def test_a_document_is_valid_and_may_be_kept(world: World, rx1: Who) -> None:
    await a_composition(world, rx1)
    text = (await world.get("Composition/c/$document", rx1)).text
    checked = await world.post("Bundle/$validate", text, rx1)
    assert not [one for one in checked.json()["issue"] if one["severity"] in ("error", "fatal")], checked.text
    xml = await world.get("Composition/c/$document?_format=xml", rx1)
    assert xml.status_code == 200 and "<Composition" in xml.text


async def test_a_document_is_asked_for_in_three_ways(world: World, rx1: Who) -> None:
    await a_composition(world, rx1)
    whole = stable((await world.get("Composition/c/$document", rx1)).text)
    body = {"resourceType": "Parameters", "parameter": [{"name": "persist", "valueBoolean": False}]}
    for answer in (
        await world.get("Composition/$document?id=c&persist=false", rx1),
        await world.post("Composition/c/$document", body, rx1),
    ):
        assert answer.status_code == 200, answer.text
        assert stable(answer.text) == whole


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("Composition/c/$document?persist=true", 400),
        ("Composition/c/$document?persist=perhaps", 400),
        ("Composition/c/$document?graph=http://example.org/g", 400),
        ("Composition/c/$document?id=c", 400),
        ("Composition/c/$document?other=x", 400),
        ("Composition/$document", 400),
        ("Composition/$document?id=http://elsewhere.example/fhir/Composition/c", 400),
        ("Composition/none/$document", 404),
        ("Composition/$document?id=none", 404),
        ("Observation/c/$document", 404),
    ],
)
async def test_what_no_document_can_be_made_of_is_refused(
    address: str, status: int, world: World, rx1: Who
) -> None:
    await a_composition(world, rx1)
    answer = await world.get(address, rx1)
    assert answer.status_code == status
    if "persist=true" in address or "graph" in address:
        [issue] = answer.json()["issue"]
        assert issue["code"] == "not-supported"
        assert issue["diagnostics"].startswith("persist" if "persist" in address else "graph")


async def test_what_is_withheld_is_left_out_as_what_never_was(world: World, rx1: Who, rx2: Who) -> None:
    entries = [reference(f"Observation/{id}") for id in ("8867-4.1", "hidden", "8867-4.2")]
    await a_composition(world, rx1, section=[{"title": "one", "entry": entries}])
    never = stable((await world.get("Composition/c/$document", rx2)).text)
    await keep(world, rx1, at(5, id="hidden", performer=[reference("Organization/above")], **RESTRICTED))
    assert stable((await world.get("Composition/c/$document", rx2)).text) == never
    await world.delete("Observation/hidden", rx1)
    assert stable((await world.get("Composition/c/$document", rx2)).text) == never
    await keep(world, rx1, composition("closed", **RESTRICTED))
    closed, none = [(await world.get(f"Composition/{id}/$document", rx2)) for id in ("closed", "none")]
    assert (closed.status_code, closed.text) == (404, none.text)
    await world.delete("Composition/c", rx1)
    assert (await world.get("Composition/c/$document", rx1)).status_code == 410


async def test_a_document_holds_the_version_that_is_named_if_that_may_be_read(
    world: World, rx1: Who, rx2: Who
) -> None:
    entries = [
        reference(f"Observation/8867-4.{one}") for one in ("1/_history/1", "2/_history/1", "3/_history/9")
    ]
    await a_composition(world, rx1, section=[{"title": "one", "entry": entries}])
    await keep(world, rx1, at(1, note=[{"text": "changed"}]))
    bundle = await asked(world, rx1, "Composition/c/$document")
    versions = {
        one["fullUrl"].split("/fhir/")[1]: one["resource"]["meta"]["versionId"] for one in bundle["entry"]
    }
    assert versions["Observation/8867-4.1"] == "1" and "Observation/8867-4.3" not in versions
    await keep(world, rx1, at(2, **RESTRICTED))
    assert "Observation/8867-4.2" not in names(await asked(world, rx2, "Composition/c/$document"))


async def test_only_types_in_scope_are_in_a_document(world: World, rx1: Who) -> None:
    await a_composition(world, rx1)
    few = await world.bearer("rx1", scope="system/Composition.rs system/Patient.rs")
    assert names(await asked(world, few, "Composition/c/$document")) == ["Composition/c", "Patient/p1"]
    none = await world.bearer("rx1", scope="system/Patient.rs")
    assert (await world.get("Composition/c/$document", none)).status_code == 403


async def test_a_document_is_recorded_for_everybody_it_is_about(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p2", DAVID)
    await keep(world, rx1, an_observation("p2", id="theirs"))
    section = [
        {"title": "one", "entry": [reference("Observation/theirs"), reference("Observation/8867-4.1")]}
    ]
    await a_composition(world, rx1, section=section)
    before = len(await world.audit())
    bundle = await asked(world, rx1, "Composition/c/$document")
    assert "Observation/theirs" in names(bundle)
    assert "Patient/p2" not in names(bundle), "nothing leads on into somebody else's record"
    told = [json.dumps(one["entity"]) for one in (await world.audit())[before:]]
    assert len(told) == 2
    [own] = [one for one in told if "Composition/c/_history" in one]
    [theirs] = [one for one in told if "Observation/theirs/_history" in one]
    assert own != theirs and "Composition/c/_history" not in theirs and "Organization/above/_history/1" in own


# $meta.

TAG = {"system": "http://example.org/tags", "code": "a", "display": "A"}
OTHER = {"system": "http://example.org/tags", "code": "b"}


def sent(**meta: Any) -> dict[str, Any]:
    return {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": meta}]}


def returned(answer: Any) -> Any:
    assert answer.status_code == 200, answer.text
    [part] = answer.json()["parameter"]
    assert (answer.json()["resourceType"], part["name"]) == ("Parameters", "return")
    return part["valueMeta"]


async def test_the_meta_of_a_resource_is_told_as_it_is_written(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    await keep(world, rx1, at(1, meta={"tag": [TAG]}), at(1, meta={"tag": [TAG, OTHER]}))
    kept = (await world.get("Observation/8867-4.1", rx1)).json()["meta"]
    before = len(await world.audit())
    assert returned(await world.get("Observation/8867-4.1/$meta", rx1)) == kept
    assert len(await world.audit()) == before + 1
    assert returned(await world.get("Observation/8867-4.1/_history/1/$meta", rx1))["tag"] == [TAG]
    xml = await world.get("Observation/8867-4.1/$meta?_format=xml", rx1)
    assert xml.status_code == 200 and "<valueMeta>" in xml.text


async def test_the_meta_of_what_is_withheld_is_that_of_nothing(world: World, rx1: Who, rx2: Who) -> None:
    await world.patient(rx1, "p1")
    await keep(world, rx1, at(1, **RESTRICTED))
    for path in ("$meta", "_history/1/$meta"):
        hidden = await world.get(f"Observation/8867-4.1/{path}", rx2)
        never = await world.get(f"Observation/never/{path}", rx2)
        assert (hidden.status_code, hidden.text) == (404, never.text)
    assert (await world.get("Nonsense/x/$meta", rx1)).status_code == 404
    assert (await world.get("Patient/p1/_history/x/$meta", rx1)).status_code == 404
    assert (await world.get("Patient/p1/$meta?x=y", rx1)).status_code == 400


async def test_what_would_read_everything_is_not_supported(world: World, rx1: Who) -> None:
    answer = await world.get("Observation/$meta", rx1)
    assert answer.status_code == 400
    assert answer.json()["issue"][0]["code"] == "not-supported"
    for address in ("$meta", "AuditEvent/$meta", "AuditEvent/x/$meta"):
        assert (await world.get(address, rx1)).status_code == 404


async def test_tags_are_added_once_and_taken_away(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    await keep(world, rx1, at(1))
    text = (await world.get("Observation/8867-4.1", rx1)).text
    added = await world.post(
        "Observation/8867-4.1/$meta-add", sent(tag=[TAG], profile=["http://e.org/p"]), rx1
    )
    assert returned(added)["tag"] == [TAG] and returned(added)["profile"] == ["http://e.org/p"]
    assert returned(added)["versionId"] == "2" and added.headers["etag"] == 'W/"2"'
    again = await world.post(
        "Observation/8867-4.1/$meta-add", sent(tag=[{**TAG, "display": "x"}, OTHER]), rx1
    )
    assert returned(again)["tag"] == [TAG, OTHER]
    same = await world.post("Observation/8867-4.1/$meta-add", sent(tag=[TAG]), rx1)
    assert returned(same)["versionId"] == "3", "nothing new was said"
    unwanted = sent(
        tag=[{"system": TAG["system"], "code": "a"}], profile=["http://e.org/p", "http://e.org/q"]
    )
    removed = returned(await world.post("Observation/8867-4.1/$meta-delete", unwanted, rx1))
    assert removed["tag"] == [OTHER] and "profile" not in removed
    await world.post("Observation/8867-4.1/$meta-delete", sent(tag=[OTHER]), rx1)
    last = (await world.get("Observation/8867-4.1", rx1)).text
    assert re.sub(r'"meta":\{[^}]*\}', "", last) == re.sub(r'"meta":\{[^}]*\}', "", text)


async def test_our_own_labels_come_back(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    await keep(world, rx1, at(1))
    labels = (await world.get("Observation/8867-4.1", rx1)).json()["meta"]["security"]
    assert labels
    gone = await world.post("Observation/8867-4.1/$meta-delete", sent(security=labels), rx1)
    assert returned(gone)["security"] == labels


async def test_a_label_that_is_added_closes_the_record(world: World, rx1: Who, rx2: Who) -> None:
    await world.patient(rx1, "p1")
    await keep(world, rx1, at(1))
    closing = sent(security=RESTRICTED["meta"]["security"])
    assert (await world.post("Observation/8867-4.1/$meta-add", closing, rx1)).status_code == 200
    assert (await world.get("Observation/8867-4.1", rx2)).status_code == 404


async def test_only_the_custodian_labels(world: World, rx1: Who, rx2: Who) -> None:
    await world.patient(rx1, "p1")
    await keep(world, rx1, at(1))
    for operation in ("$meta-add", "$meta-delete"):
        assert (
            await world.post(f"Observation/8867-4.1/{operation}", sent(tag=[TAG]), rx2)
        ).status_code == 403
        assert (await world.post(f"Observation/none/{operation}", sent(tag=[TAG]), rx2)).status_code == 404
    reader = await world.bearer("rx1", scope="system/Observation.rs")
    assert (await world.post("Observation/8867-4.1/$meta-add", sent(tag=[TAG]), reader)).status_code == 403
    other = await world.post("Observation/8867-4.1/$meta-add", sent(tag=[TAG]), rx1, If_Match='W/"9"')
    assert other.status_code == 412


@pytest.mark.parametrize(
    "body",
    [
        {"resourceType": "Parameters"},
        {"resourceType": "Patient"},
        sent(),
        sent(tag={}),
        sent(tag=[]),
        sent(versionId="7"),
        {"resourceType": "Parameters", "parameter": [{"name": "other", "valueMeta": {"tag": [TAG]}}]},
        {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": []}]},
        {"resourceType": "Parameters", "parameter": ["x"]},
    ],
)
async def test_a_meta_that_cannot_be_read_is_refused(body: Any, world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    for operation in ("$meta-add", "$meta-delete"):
        assert (await world.post(f"Patient/p1/{operation}", body, rx1)).status_code == 400


@pytest.mark.parametrize("tag", [7, [7], ["x"], [{"system": 7}], [{"code": "a b "}], [{"nonsense": 1}]])
async def test_a_tag_that_is_none_changes_nothing(tag: Any, world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    answer = await world.post("Patient/p1/$meta-add", sent(tag=tag), rx1)
    assert answer.status_code in (400, 422)
    assert (await world.get("Patient/p1", rx1)).json()["meta"]["versionId"] == "1"


# All of them.


async def test_what_is_advertised_is_there(world: World, rx1: Who) -> None:
    statement = (await world.http.get("/fhir/metadata")).json()
    [rest] = statement["rest"]
    advertised = {one["type"]: [it["name"] for it in one.get("operation", [])] for one in rest["resource"]}
    assert "everything" in advertised["Encounter"] and "lastn" in advertised["Observation"]
    assert "document" in advertised["Composition"]
    assert {one["name"] for one in rest["operation"]} == {"export"}
    assert "history-system" in {one["code"] for one in rest["interaction"]}
    for kind in ("Patient", "Encounter", "Observation", "Composition"):
        for name in advertised[kind]:
            answers = [
                await world.get(f"{kind}/{place}${name}", rx1)
                for place in ("x/", "")
                if (name, place) != ("lastn", "x/")
            ]
            assert any("nothing at this address" not in one.text.lower() for one in answers), (kind, name)
