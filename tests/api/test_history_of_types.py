"""The history of a type and of everything: each version decided, told once over all pages (R4 http, 3.1.0.10)."""

import asyncio
from typing import Any

import pytest

from app.vocabulary import PurposeOfUse
from tests.world import DAVID, World, a_consent, an_observation, denied_to

Who = dict[str, str]
RESTRICTED: dict[str, Any] = {
    "meta": {
        "security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "V"}]
    }
}


def told(bundle: Any) -> list[tuple[str, str]]:
    return [
        (one["fullUrl"].split("/fhir/")[1], one["response"]["etag"].strip('W/"'))
        for one in bundle.get("entry", [])
    ]


async def asked(world: World, who: Who, query: str) -> Any:
    answer = await world.get(query, who)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def following(world: World, who: Who, page: Any) -> Any:
    [url] = [one["url"] for one in page["link"] if one["relation"] == "next"] or [None]
    return await asked(world, who, url.split("/fhir/")[1]) if url else None


async def pages(world: World, who: Who, query: str) -> list[Any]:
    found, page = [], await asked(world, who, query)
    while page is not None:
        found.append(page)
        page = await following(world, who, page) if "link" in page and len(page["link"]) > 1 else None
    return found


async def write(world: World, who: Who, id: str, value: str = "72", **more: Any) -> str:
    answer = await world.put(f"Observation/{id}", an_observation("p1", value=value, id=id, **more), who)
    assert answer.status_code in (200, 201), answer.text
    await asyncio.sleep(0.003)
    made: str = answer.json()["meta"]["lastUpdated"]
    return made


async def some(world: World, who: Who) -> None:
    """Two Observations, one of them changed, the other deleted."""
    await world.patient(who, "p1")
    await write(world, who, "a")
    await write(world, who, "b")
    await write(world, who, "a", "73")
    await world.delete("Observation/b", who)


async def test_a_types_history_is_told_newest_first_with_its_deletions(world: World, rx1: Who) -> None:
    await some(world, rx1)
    bundle = await asked(world, rx1, "Observation/_history")
    assert (bundle["type"], bundle["total"]) == ("history", 4)
    assert told(bundle) == [
        ("Observation/b", "2"),
        ("Observation/a", "2"),
        ("Observation/b", "1"),
        ("Observation/a", "1"),
    ]
    deletion, change, *_ = bundle["entry"]
    assert "resource" not in deletion
    assert deletion["request"] == {"method": "DELETE", "url": "Observation/b"}
    assert deletion["response"]["status"] == "204"
    assert change["request"] == {"method": "PUT", "url": "Observation/a"}
    assert change["resource"]["valueQuantity"]["value"] == 73
    assert bundle["entry"][3]["request"] == {"method": "POST", "url": "Observation"}


async def test_the_history_of_everything_is_of_every_type_in_scope(world: World, rx1: Who) -> None:
    await some(world, rx1)
    everything = await asked(world, rx1, "_history")
    assert told(everything)[-1] == ("Patient/p1", "1")
    assert everything["total"] == 5
    only = await world.bearer("rx1", scope="system/Patient.rs")
    assert told(await asked(world, only, "_history")) == [("Patient/p1", "1")]
    assert (await world.get("Observation/_history", only)).status_code == 403
    written = await world.bearer("rx1", scope="system/Patient.cr")
    assert (await world.get("_history", written)).status_code == 403


@pytest.mark.parametrize("scope", ["Observation/", ""])
async def test_pages_hold_each_version_once_while_others_write(scope: str, world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    for number in range(6):
        await write(world, rx1, f"o{number}")
        await write(world, rx1, f"o{number}", "80")
    before = told(await asked(world, rx1, f"{scope}_history"))
    page = await asked(world, rx1, f"{scope}_history?_count=5")
    seen = told(page)
    assert "total" not in page
    turn = 0
    while page := await following(world, rx1, page):
        assert "total" not in page
        seen += told(page)
        # One is superseded that is yet to come, one deleted, and one new.
        await write(world, rx1, f"o{turn}", f"9{turn}")
        await world.delete(f"Observation/o{turn + 3}", rx1)
        await write(world, rx1, f"new{turn}")
        turn += 1
        if len(page["link"]) == 1:
            break
    assert seen == before


async def test_versions_of_one_instant_are_told_once_each_over_pages(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    entries = [
        {
            "resource": {
                "resourceType": kind,
                "id": f"x{number}",
                **({"name": [{"family": "A"}]} if kind == "Practitioner" else {"name": "A"}),
            },
            "request": {"method": "PUT", "url": f"{kind}/x{number}"},
        }
        for number in range(7)
        for kind in ("Practitioner", "Organization", "Location")
    ]
    made = await world.post("", {"resourceType": "Bundle", "type": "transaction", "entry": entries}, rx1)
    assert made.status_code == 200, made.text
    whole = told(await asked(world, rx1, "_history"))
    assert len(whole) == len(set(whole)) == 22
    for count in (1, 2, 5, 21):
        paged = [one for page in await pages(world, rx1, f"_history?_count={count}") for one in told(page)]
        assert paged == whole, count
    paged = [one for page in await pages(world, rx1, "Location/_history?_count=2") for one in told(page)]
    assert paged == [one for one in whole if one[0].startswith("Location/")]


async def test_a_types_history_is_asked_since_an_instant_and_at_one(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    first = await write(world, rx1, "a")
    await write(world, rx1, "b")
    third = await write(world, rx1, "a", "73")
    fourth = await write(world, rx1, "b", "74")
    for query, versions in {
        f"_since={third}": [("b", "2"), ("a", "2")],
        f"_at={third}": [("a", "2"), ("b", "1")],
        f"_at={first}": [("a", "1")],
        f"_at={fourth}&_count=1": [("b", "2"), ("a", "2")],
        "_since=2101": [],
        "_at=2001": [],
    }.items():
        found = [
            one for page in await pages(world, rx1, f"Observation/_history?{query}") for one in told(page)
        ]
        assert found == [(f"Observation/{id}", version) for id, version in versions], query
        page = await asked(world, rx1, f"Observation/_history?{query}")
        assert page["link"][0]["url"].endswith(
            "Observation/_history?" + page["link"][0]["url"].partition("?")[2]
        )


@pytest.mark.parametrize(
    "query", ["_since=yesterday", "_at=2026-13-01", "_count=x", "_count=0", "_sort=x", "_list=l", "code=x"]
)
async def test_what_a_history_cannot_be_asked_is_refused(query: str, world: World, rx1: Who) -> None:
    for scope in ("Observation/", "", "Observation/a/"):
        answer = await world.get(f"{scope}_history?{query}", rx1)
        assert answer.status_code in (400, 404) and (scope.endswith("a/") or answer.status_code == 400)
        if query.startswith("_list"):
            assert "_list" in answer.json()["issue"][0]["diagnostics"] or answer.status_code == 404


async def test_there_is_no_history_of_the_audit_trail(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    assert (await world.get("AuditEvent/_history", rx1)).status_code == 400
    assert "AuditEvent" not in str(told(await asked(world, rx1, "_history")))
    assert (await world.get("Nonsense/_history", rx1)).status_code == 404


# What is withheld.


async def test_a_person_who_objects_is_in_nobody_elses_history(world: World, rx1: Who, rx2: Who) -> None:
    await world.patient(rx1, "p1")
    await write(world, rx1, "a")
    for scope in ("Observation/", ""):
        assert ("Observation/a", "1") in told(await asked(world, rx2, f"{scope}_history"))
    await world.post("Consent", a_consent("p1", **denied_to("RX2")), rx1)
    for scope in ("Observation/", ""):
        bundle = await asked(world, rx2, f"{scope}_history")
        assert (told(bundle), bundle["total"]) == ([], 0)


@pytest.mark.parametrize("scope", ["Observation/", ""])
@pytest.mark.parametrize("count", ["", "?_count=1", "?_count=2", "?_count=3"])
async def test_what_is_withheld_leaves_no_trace(
    scope: str, count: str, world: World, rx1: Who, rx2: Who
) -> None:
    """Byte for byte the answer of a node that never kept the hidden ones."""
    await world.patient(rx1, "p1")
    await write(world, rx1, "a")
    await write(world, rx1, "b")
    without = await pages(world, rx2, f"{scope}_history{count}")
    await write(world, rx1, "hidden", **RESTRICTED)
    await write(world, rx1, "hidden", "73", **RESTRICTED)
    await write(world, rx1, "hidden2", **RESTRICTED)
    await world.delete("Observation/hidden2", rx1)
    with_hidden = await pages(world, rx2, f"{scope}_history{count}")
    for one, other in zip(without, with_hidden, strict=True):
        for link in (*one["link"], *other["link"]):
            link["url"] = link["url"].partition("_cursor")[0]
        assert one == other


async def test_an_old_version_is_told_only_while_the_current_one_may_be(
    world: World, rx1: Who, rx2: Who
) -> None:
    await world.patient(rx1, "p1")
    await write(world, rx1, "a")
    await write(world, rx1, "b", **RESTRICTED)
    assert told(await asked(world, rx2, "Observation/_history")) == [("Observation/a", "1")]
    await write(world, rx1, "a", **RESTRICTED)  # made sensitive: nor is it told what it was
    await write(world, rx1, "b")  # opened: what it was stays closed
    assert told(await asked(world, rx2, "Observation/_history")) == [("Observation/b", "2")]
    assert told(await asked(world, rx2, "Observation/b/_history")) == [("Observation/b", "2")]


async def test_a_page_that_follows_is_decided_again(world: World, rx1: Who, rx2: Who) -> None:
    await world.patient(rx1, "p1")
    for id in "abc":
        await write(world, rx1, id)
    page = await asked(world, rx2, "Observation/_history?_count=1")
    await world.post("Consent", a_consent("p1", **denied_to("RX2")), rx1)
    assert told(await following(world, rx2, page)) == []


async def test_a_page_is_its_callers_alone(world: World, rx1: Who, rx2: Who) -> None:
    await some(world, rx1)
    page = await asked(world, rx1, "_history?_count=1")
    [url] = [one["url"] for one in page["link"] if one["relation"] == "next"]
    assert (await world.get(url.split("/fhir/")[1], rx2)).status_code == 400


async def test_consents_are_told_to_their_custodian_and_by_name_alone(
    world: World, rx1: Who, rx2: Who
) -> None:
    await world.patient(rx1, "p1")
    await world.post("Consent", a_consent("p1", type="permit"), rx1)
    await world.patient(rx2, "q1", DAVID)
    assert len(told(await asked(world, rx1, "Consent/_history"))) == 1
    assert told(await asked(world, rx2, "Consent/_history")) == []
    assert not [one for one in told(await asked(world, rx2, "_history")) if one[0].startswith("Consent")]
    wild = await world.bearer("rx1", scope="system/*.rs")
    assert (await world.get("Consent/_history", wild)).status_code == 403
    assert not [one for one in told(await asked(world, wild, "_history")) if one[0].startswith("Consent")]


async def test_an_emergency_tells_the_history_of_one_person(world: World, rx1: Who, rx2: Who) -> None:
    await world.patient(rx1, "p1")
    await write(world, rx1, "a")
    about_another = await world.bearer("rx2", purpose=PurposeOfUse.ETREAT, emergency_for=DAVID)
    assert told(await asked(world, about_another, "Observation/_history")) == []


async def test_what_was_told_is_recorded_for_each_person(world: World, rx1: Who) -> None:
    await some(world, rx1)
    await world.patient(rx1, "p2", DAVID)
    await world.put("Observation/d", an_observation("p2", id="d"), rx1)
    before = len(await world.audit())
    await asked(world, rx1, "Observation/_history")
    entries = (await world.audit())[before:]
    assert len(entries) == 2
    what = [
        sorted(one["what"]["reference"] for one in entry["entity"] if "Observation" in str(one.get("what")))
        for entry in entries
    ]
    assert sorted(what, key=len) == [
        ["Observation/d/_history/1"],
        [f"Observation/{id}/_history/{version}" for id in "ab" for version in "12"],
    ]
    await asked(world, rx1, "Observation/_history?_since=2101")
    assert len(await world.audit()) == before + 3


async def test_a_resource_about_two_people_is_told_once(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    await world.patient(rx1, "p2", DAVID)
    shared = {
        "resourceType": "Appointment",
        "id": "s",
        "status": "booked",
        "participant": [
            {"actor": {"reference": f"Patient/{one}"}, "status": "accepted"} for one in ("p1", "p2")
        ],
    }
    assert (await world.put("Appointment/s", shared, rx1)).status_code == 201
    await world.put("Appointment/s", {**shared, "status": "cancelled"}, rx1)
    await world.delete("Appointment/s", rx1)
    found = told(await asked(world, rx1, "Appointment/_history"))
    assert found == [("Appointment/s", "3"), ("Appointment/s", "2"), ("Appointment/s", "1")]
