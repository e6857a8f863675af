"""A transaction is all or nothing, in R4's order, and reads what it wrote through the same gate (R4 http, 3.1.0.11)."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from app.db import APPLICATION_ROLE
from app.records.sources import SourceRegister
from app.vocabulary import OdsCode
from tests.bundles import Entry, done, entry, expressions, fhirpath_patch, json_patch, sent, statuses
from tests.servers import Server
from tests.world import DAVID, World, a_consent, a_patient, a_world, an_observation, denied_to

Who = dict[str, str]


async def ids(world: World, who: Who, question: str) -> list[str]:
    bundle = (await world.get(question, who)).json()
    return [one["resource"]["id"] for one in bundle.get("entry", []) if one["search"]["mode"] == "match"]


def observed(id: str, value: str = "72", **more: Any) -> str:
    return an_observation("p1", value=value, id=id, **more)


def named(value: str, **more: Any) -> str:
    return an_observation("p1", identifier=[{"system": "urn:lab", "value": value}], **more)


PRACTITIONER = {"resourceType": "Practitioner", "identifier": [{"system": "urn:gmc", "value": "7"}]}
BY_SEARCH = {"reference": "Practitioner?identifier=urn:gmc|7"}


# Verbs.


async def test_every_verb_is_carried_out_in_r4s_order_whatever_the_order_of_the_entries(
    world: World, rx1: Who
) -> None:
    await world.patient(rx1, "p1")
    for id in ("gone", "changed", "patched", "kept"):
        await world.put(f"Observation/{id}", observed(id), rx1)
    entries = [
        entry("GET", "Observation?patient=p1&_sort=_id&_elements=status"),
        entry("HEAD", "Observation/made"),
        entry(
            "PATCH",
            "Observation/patched",
            json_patch({"op": "replace", "path": "/status", "value": "amended"}),
        ),
        entry("PUT", "Observation/made", observed("made")),
        entry("PUT", "Observation/changed", observed("changed", value="6.30")),
        entry("POST", "Observation", observed("ignored")),
        entry("DELETE", "Observation/gone"),
    ]
    answers = await done(world, rx1, *entries)
    assert statuses(answers) == ["200", "200", "200", "201", "200", "201", "204"]
    found = [one["resource"]["id"] for one in answers[0]["resource"]["entry"] if "status" in one["resource"]]
    assert {"made", "changed", "patched", "kept"} < set(found) and "gone" not in found and len(found) == 5
    assert "resource" not in answers[1] and answers[1]["response"]["etag"] == 'W/"1"'
    assert answers[2]["resource"]["status"] == "amended"
    assert (await world.get("Observation/changed", rx1)).text.count("6.30") == 1


@pytest.mark.parametrize("kind", ["transaction", "batch"])
async def test_each_answer_says_status_etag_instant_and_place(world: World, rx1: Who, kind: str) -> None:
    await world.patient(rx1, "p1")
    await world.put("Observation/gone", observed("gone"), rx1)
    await world.post("Observation", named("1"), rx1)
    [there] = await ids(world, rx1, "Observation?identifier=urn:lab|1")
    answers = await done(
        world,
        rx1,
        entry("POST", "Observation", observed("ignored")),
        entry("POST", "Observation", named("1"), ifNoneExist="identifier=urn:lab|1"),
        entry("PUT", "Observation/o1", observed("o1")),
        entry("DELETE", "Observation/gone"),
        entry("GET", "Patient/p1"),
        kind=kind,
    )
    assert statuses(answers) == ["201", "200", "201", "204", "200"]
    for one in answers:
        assert one["response"]["etag"].startswith('W/"')
        assert one["response"]["lastModified"].endswith("Z")
    assert answers[1]["response"]["location"] == f"{world.base}/Observation/{there}/_history/1"
    assert answers[2]["response"]["location"] == f"{world.base}/Observation/o1/_history/1"
    assert answers[3]["response"]["etag"] == 'W/"2"'
    assert answers[0]["response"]["lastModified"] == answers[0]["resource"]["meta"]["lastUpdated"]
    history = (await world.get("Observation/gone/_history", rx1)).json()["entry"][0]["response"]
    assert history["lastModified"] == answers[3]["response"]["lastModified"]


async def test_what_can_be_read_by_get_can_be_read_in_a_transaction(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    value_set = {
        "resourceType": "ValueSet",
        "id": "v1",
        "status": "active",
        "compose": {"include": [{"system": "http://hl7.org/fhir/observation-status"}]},
    }
    answers = await done(
        world,
        rx1,
        entry("PUT", "Observation/o1", observed("o1")),
        entry("PUT", "ValueSet/v1", value_set),
        entry("GET", "Observation/o1/_history"),
        entry("GET", "Observation/o1/_history/1"),
        entry("GET", "Patient/p1/$everything"),
        entry("GET", "Observation/o1/$validate"),
        entry("GET", "ValueSet/v1/$expand"),
        entry("GET", "CodeSystem/$lookup?system=http://hl7.org/fhir/observation-status&code=final"),
    )
    kinds = [one["resource"]["resourceType"] for one in answers[2:]]
    assert kinds == ["Bundle", "Observation", "Bundle", "OperationOutcome", "ValueSet", "Parameters"]
    everything = [one["resource"]["resourceType"] for one in answers[4]["resource"]["entry"]]
    assert everything[:2] == ["Observation", "Patient"]


async def test_a_reading_needs_no_second_connection(
    world: World, rx1: Who, postgres: Server, database_name: str, tmp_path: Path
) -> None:
    """Two connections in all, one of them the audit log's: who waited for another would wait for ever."""
    await world.patient(rx1, "p1")
    url = postgres.url(user=APPLICATION_ROLE, database=database_name)
    async with a_world(url, world.owner, tmp_path / "narrow", database_pool_size=2) as narrow:
        who = await narrow.bearer("rx1")
        assert (await narrow.get("Patient/p1", who)).status_code == 200  # by which the log has taken its own
        async with asyncio.timeout(30):
            answers = await done(
                narrow,
                who,
                entry("PUT", "Observation/o1", observed("o1")),
                entry("POST", "Practitioner", PRACTITIONER),
                entry("POST", "Observation", named("1", performer=[BY_SEARCH])),
                entry("PATCH", "Patient/p1", json_patch({"op": "add", "path": "/active", "value": True})),
                entry("GET", "Patient/p1"),
                entry("GET", "Observation?patient=p1"),
                entry("GET", "Observation?_lastUpdated=gt2020"),
                entry("GET", "Patient/p1/$everything?_count=1"),
                entry("GET", "Observation/o1/_history"),
                entry("GET", "Patient/p1/$validate"),
                entry("GET", "Observation?patient=nobody"),
                entry("GET", "Observation?patient=p1&_count=1&_include=Observation:performer"),
                entry("GET", "Observation?performer:Practitioner.identifier=urn:gmc|7"),
                entry("GET", "Patient?_has:Observation:patient:identifier=urn:lab|1"),
                entry("GET", "Patient/p1/Observation"),
                entry("GET", "?_type=Observation,Patient&_lastUpdated=gt2020"),
            )
    assert set(statuses(answers)) == {"200", "201"}


@pytest.mark.parametrize("kind", ["transaction", "batch"])
async def test_patches_are_binaries_or_parameters_and_may_be_conditional(
    world: World, rx1: Who, kind: str
) -> None:
    await world.patient(rx1, "p1")
    await world.put("Observation/o1", observed("o1", value="6.30"), rx1)
    await world.post("Observation", named("1"), rx1)
    amended = {"op": "replace", "path": "/status", "value": "amended"}
    answers = await done(
        world,
        rx1,
        entry("PATCH", "Observation/o1", json_patch(amended), ifMatch='W/"1"'),
        entry(
            "PATCH",
            "Observation?identifier=urn:lab|1",
            fhirpath_patch("replace", "Observation.status", value={"valueCode": "corrected"}),
        ),
        kind=kind,
    )
    assert [one["resource"]["status"] for one in answers] == ["amended", "corrected"]
    kept = await world.get("Observation/o1", rx1)
    assert '"value":6.30' in kept.text and kept.headers["etag"] == 'W/"2"'


@pytest.mark.parametrize(
    ("patch", "status"),
    [
        (json_patch({"op": "test", "path": "/status", "value": "amended"}), 422),
        (json_patch({"op": "nonsense"}), 400),
        (json_patch({"op": "replace", "path": "/status", "value": "nonsense"}), 422),
        (json_patch(media_type="application/xml-patch+xml"), 415),
        ({"resourceType": "Binary", "contentType": "application/json-patch+json", "data": "é"}, 400),
        ({"resourceType": "Binary", "contentType": "application/json-patch+json"}, 400),
        ({"resourceType": "Observation"}, 415),
        (fhirpath_patch("nonsense", "Observation.status"), 400),
    ],
)
async def test_a_patch_that_cannot_be_applied_fails_the_whole(
    world: World, rx1: Who, patch: dict[str, Any], status: int
) -> None:
    await world.patient(rx1, "p1")
    await world.put("Observation/o1", observed("o1"), rx1)
    answer = await sent(
        world,
        rx1,
        entry("PUT", "Observation/o2", observed("o2")),
        entry("PATCH", "Observation/o1", patch),
    )
    assert answer.status_code == status, answer.text
    assert expressions(answer)[0].startswith("Bundle.entry[1]")
    assert (await world.get("Observation/o2", rx1)).status_code == 404
    assert (await world.get("Observation/o1", rx1)).headers["etag"] == 'W/"1"'


@pytest.mark.parametrize("kind", ["transaction", "batch"])
async def test_conditions_are_those_of_the_headers(world: World, rx1: Who, kind: str) -> None:
    await world.patient(rx1, "p1")
    made = await world.put("Observation/o1", observed("o1"), rx1)
    at = made.json()["meta"]["lastUpdated"]
    answers = await done(
        world,
        rx1,
        entry("GET", "Observation/o1", ifNoneMatch='W/"1"'),
        entry("GET", "Observation/o1", ifNoneMatch='W/"2"'),
        entry("GET", "Observation/o1", ifModifiedSince=at),
        entry("GET", "Observation/o1", ifModifiedSince="2001-01-01T00:00:00.5+01:00"),
        entry("PUT", "Patient/p1", a_patient("p1", gender="other"), ifMatch='W/"1"'),
        entry("PUT", "Observation/o2", observed("o2"), ifNoneMatch="*"),
        kind=kind,
    )
    assert statuses(answers) == ["304", "200", "304", "200", "200", "201"]
    assert [name for name in ("resource",) for one in answers[:3:2] if name in one] == []


@pytest.mark.parametrize(
    "failing",
    [
        entry("PUT", "Observation/o1", observed("o1", value="2"), ifMatch='W/"7"'),
        entry("PUT", "Observation/o1", observed("o1", value="2"), ifNoneMatch="*"),
        entry("PUT", "Observation/o1", observed("o1", value="2"), ifNoneMatch='W/"1"'),
        entry("PUT", "Observation/never", observed("never"), ifMatch='W/"1"'),
        entry("PUT", "Observation?identifier=urn:lab|1", named("1"), ifNoneMatch="*"),
        entry("PATCH", "Observation/o1", json_patch(), ifMatch='W/"7"'),
        entry("DELETE", "Observation/o1", ifMatch='W/"7"'),
        entry("DELETE", "Observation?identifier=urn:lab|1", ifMatch='W/"7"'),
    ],
)
async def test_a_condition_that_does_not_hold_fails_its_transaction_and_its_entry_of_a_batch(
    world: World, rx1: Who, failing: Entry
) -> None:
    await world.patient(rx1, "p1")
    await world.put("Observation/o1", observed("o1"), rx1)
    await world.post("Observation", named("1"), rx1)
    other = entry("PUT", "Observation/other", observed("other"))
    answer = await sent(world, rx1, other, failing)
    assert answer.status_code == 412 and expressions(answer) == ["Bundle.entry[1]"], answer.text
    assert (await world.get("Observation/other", rx1)).status_code == 404
    answers = await done(world, rx1, other, failing, kind="batch")
    assert statuses(answers) == ["201", "412"]
    assert (await world.get("Observation/o1", rx1)).headers["etag"] == 'W/"1"'


@pytest.mark.parametrize(
    ("preference", "has"),
    [("minimal", None), ("representation", "resource"), ("OperationOutcome", "outcome")],
)
@pytest.mark.parametrize("kind", ["transaction", "batch"])
async def test_prefer_says_what_a_write_is_answered_with(
    world: World, rx1: Who, kind: str, preference: str, has: str | None
) -> None:
    await world.patient(rx1, "p1")
    await world.put("Observation/gone", observed("gone"), rx1)
    answers = await done(
        world,
        rx1,
        entry("POST", "Observation", observed("ignored")),
        entry("PUT", "Observation/o1", observed("o1")),
        entry("GET", "Patient/p1"),
        entry("DELETE", "Observation/gone"),
        kind=kind,
        Prefer=f"return={preference}",
    )
    for one in answers[:2]:
        assert ("resource" in one, "outcome" in one["response"]) == (has == "resource", has == "outcome")
        assert one["response"]["location"]
    assert answers[2]["resource"]["id"] == "p1"
    single = await world.post("Observation", observed("x"), rx1, Prefer=f"return={preference}")
    kinds = {None: None, "resource": "Observation", "outcome": "OperationOutcome"}
    assert (single.json()["resourceType"] if single.content else None) == kinds[has]


# What is seen, decided and recorded.


async def test_a_reading_sees_what_the_transaction_wrote_and_nobody_else_does_before(
    world: World, rx1: Who
) -> None:
    await world.patient(rx1, "p1")
    answers = await done(
        world,
        rx1,
        entry("GET", "Observation/o1"),
        entry("GET", "Observation?identifier=urn:lab|1"),
        entry("PUT", "Observation/o1", observed("o1", value="6.30")),
        entry("POST", "Observation", named("1")),
    )
    assert answers[0]["resource"]["id"] == "o1"
    assert answers[1]["resource"]["total"] == 1
    failed = await sent(
        world, rx1, entry("PUT", "Observation/o2", observed("o2")), entry("GET", "Observation/nobody")
    )
    assert (failed.status_code, expressions(failed)) == (404, ["Bundle.entry[1]"])
    assert (await world.get("Observation/o2", rx1)).status_code == 404


async def test_a_withheld_record_fails_a_transaction_exactly_as_one_that_never_was(
    world: World, rx1: Who, rx2: Who
) -> None:
    await world.patient(rx1, "p1")
    await world.patient(rx2, "p2", DAVID, birthDate="1960-01-01")
    await world.put("Observation/hidden", observed("hidden"), rx1)
    own = entry("PUT", "Observation/own", an_observation("p2", id="own"))
    seen = await sent(world, rx2, own, entry("GET", "Observation/hidden"))
    assert seen.status_code == 200
    await world.post("Consent", a_consent("p1", **denied_to("RX2")), rx1)
    for address in ("Observation/{}", "Observation/{}/_history", "Observation/{}/_history/1"):
        answers = [
            await sent(world, rx2, own, entry("GET", address.format(id))) for id in ("hidden", "absent")
        ]
        assert [one.status_code for one in answers] == [404, 404]
        assert answers[0].content == answers[1].content
        assert set(answers[0].headers) == set(answers[1].headers)
    patched = [
        await sent(world, rx2, own, entry("PATCH", f"Observation/{id}", json_patch()))
        for id in ("hidden", "absent")
    ]
    assert patched[0].status_code == 404 and patched[0].content == patched[1].content
    searched = [await done(world, rx2, entry("GET", f"Observation?patient={id}")) for id in ("p1", "nobody")]
    texts = [
        json.dumps(one[0]["resource"]).replace("p1", "nobody").partition('"asOf"')[0] for one in searched
    ]
    assert texts[0] == texts[1]


async def test_a_refused_reading_is_in_the_trail_of_whose_record_it_was(
    world: World, rx1: Who, rx2: Who
) -> None:
    await world.patient(rx1, "p1")
    await world.put("Observation/hidden", observed("hidden"), rx1)
    await world.post("Consent", a_consent("p1", **denied_to("RX2")), rx1)
    before = len(await world.audit())
    await sent(world, rx2, entry("GET", "Observation/hidden"))
    [told] = (await world.audit())[before:]
    assert told["outcome"] == "4" and "Patient/p1" in json.dumps(told)


async def test_each_reading_leaves_its_own_entry_and_the_writes_one_for_each_person(
    world: World, rx1: Who
) -> None:
    await world.patient(rx1, "p1")
    await world.patient(rx1, "p2", DAVID, birthDate="1960-01-01")
    before = len(await world.audit())
    await done(
        world,
        rx1,
        entry("PUT", "Observation/o1", observed("o1")),
        entry("PUT", "Observation/o2", observed("o2")),
        entry("PUT", "Observation/o3", an_observation("p2", id="o3")),
        entry("GET", "Patient/p1"),
        entry("GET", "Observation?patient=p2"),
    )
    told = (await world.audit())[before:]
    kinds = sorted(one["subtype"][0]["code"] for one in told)
    assert kinds == ["read", "search-type", "transaction", "transaction"]
    text = [json.dumps(one) for one in told]
    assert sum("Observation/o1/_history/1" in one and "Observation/o2/_history/1" in one for one in text) == 1


async def test_a_transaction_that_fails_leaves_one_entry_and_no_success(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    before = len(await world.audit())
    await sent(
        world,
        rx1,
        entry("PUT", "Observation/o1", observed("o1")),
        entry("GET", "Patient/p1"),
        entry("GET", "Observation/nobody"),
    )
    told = (await world.audit())[before:]
    assert [one["outcome"] for one in told] == ["4"]


async def test_a_decision_made_in_a_transaction_that_was_undone_decides_nothing_afterwards(
    world: World, rx1: Who, rx2: Who
) -> None:
    """Its directives were never in force, though later ones may come under the same epoch."""
    await world.patient(rx1, "p1")
    await world.put("Observation/o1", observed("o1"), rx1)
    closed = {**a_consent("p1", **denied_to("RX1")), "id": "c1"}
    assert (await world.put("Consent/c1", closed, rx1)).status_code == 201
    assert (await world.get("Observation/o1", rx1)).status_code == 404
    undone = await sent(
        world,
        rx1,
        entry("PUT", "Consent/c1", {**closed, "status": "inactive"}),
        entry("GET", "Observation/o1"),
        entry("GET", "Observation/nobody"),
    )
    assert (undone.status_code, expressions(undone)) == (404, ["Bundle.entry[2]"])
    # The same epoch again, with another directive.
    await world.put("Consent/c1", {**closed, "dateTime": "2026-01-02"}, rx1)
    assert (await world.get("Observation/o1", rx1)).status_code == 404


async def test_a_consent_counts_for_the_readings_of_its_own_transaction(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    await world.put("Observation/o1", observed("o1"), rx1)
    assert (await world.get("Observation/o1", rx1)).status_code == 200
    closing = entry("PUT", "Consent/c1", {**a_consent("p1", **denied_to("RX1")), "id": "c1"})
    answer = await sent(world, rx1, closing, entry("GET", "Observation/o1"))
    assert (answer.status_code, expressions(answer)) == (404, ["Bundle.entry[1]"])
    assert (await world.get("Observation/o1", rx1)).status_code == 200


async def test_scopes_count_for_every_entry(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    await world.put("Observation/o1", observed("o1"), rx1)
    narrow = await world.bearer("rx1", scope="system/Observation.cud system/Patient.rs")
    for refused, status in (
        (entry("GET", "Observation/o1"), 403),
        (entry("PATCH", "Observation/o1", json_patch()), 403),
        (entry("POST", "Condition", {"resourceType": "Condition"}), 403),
        (entry("POST", "AuditEvent", {"resourceType": "AuditEvent"}), 403),
    ):
        answer = await sent(world, narrow, entry("PUT", "Observation/o2", observed("o2")), refused)
        assert (answer.status_code, expressions(answer)) == (status, ["Bundle.entry[1]"]), answer.text
    assert (await world.get("Observation/o2", rx1)).status_code == 404


async def test_the_audit_trail_is_read_in_a_batch_and_not_in_a_transaction(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    asking = entry("GET", "AuditEvent?patient=Patient/p1")
    refused = await sent(world, rx1, asking)
    assert refused.status_code == 400 and "batch" in refused.text
    assert statuses(await done(world, rx1, asking, kind="batch")) == ["200"]


async def test_sources_are_named_and_not_asked_from_within_a_transaction(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    # Nobody listens there: who was asked would be down.
    await SourceRegister(world.owner).add(OdsCode("RX9"), "http://127.0.0.1:9/fhir", kind="fhir")
    await world.put("Observation/o1", observed("o1"), rx1)
    [answer] = await done(world, rx1, entry("GET", "Observation?patient=p1"))
    found = json.dumps(answer["resource"])
    assert '"not-asked"' in found and '"RX9"' in found and '"id": "o1"' in found
    assert "total" not in answer["resource"]
    chained = "Observation?patient=p1&encounter.status=finished"
    [answer] = await done(world, rx1, entry("GET", chained))
    assert '"not-asked"' in json.dumps(answer["resource"])
    [alone] = await done(world, rx1, entry("GET", "Observation?patient=p1"), kind="batch")
    assert '"down"' in json.dumps(alone["resource"])


async def test_a_page_that_began_in_a_transaction_goes_on_after_it(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    writing = [entry("PUT", f"Observation/o{n}", observed(f"o{n}")) for n in range(3)]
    answers = await done(world, rx1, *writing, entry("GET", "Observation?patient=p1&_count=2&_sort=_id"))
    first = answers[3]["resource"]
    [link] = [one["url"] for one in first["link"] if one["relation"] == "next"]
    rest = (await world.get(link.removeprefix(f"{world.base}/"), rx1)).json()
    pages = [
        [one["resource"]["id"] for one in page["entry"] if one["search"]["mode"] == "match"]
        for page in (first, rest)
    ]
    assert pages == [["o0", "o1"], ["o2"]]
