"""What a transaction or batch may hold, each refusal a sentence that names the entry (R4 bundle; http, 3.1.0.11)."""

import json
from typing import Any

import pytest

from tests.bundles import Entry, a_bundle, done, entry, expressions, json_patch, sent, statuses
from tests.world import World, a_consent, a_patient, an_observation, denied_to

Who = dict[str, str]
ELSEWHERE = "http://elsewhere.example/fhir"


def observed(id: str = "o1", **more: Any) -> str:
    return an_observation("p1", id=id, **more)


def identified(value: str, id: str = "o1") -> str:
    return observed(id, identifier=[{"system": "urn:lab", "value": value}])


async def test_an_empty_bundle_is_done_at_once_and_recorded(world: World, rx1: Who) -> None:
    for kind in ("transaction", "batch"):
        for body in (a_bundle(kind=kind), f'{{"resourceType":"Bundle","type":"{kind}","entry":[]}}'):
            before = len(await world.audit())
            answer = await world.post("", body, rx1)
            assert answer.status_code == 200
            assert answer.json() == {"resourceType": "Bundle", "type": f"{kind}-response"}
            assert len(await world.audit()) == before + 1


@pytest.mark.parametrize(
    "body",
    [
        {"resourceType": "Bundle"},
        *(
            {"resourceType": "Bundle", "type": kind}
            for kind in ("collection", "document", "searchset", "Batch", 7)
        ),
        {"resourceType": "Patient"},
        {"resourceType": "Bundle", "type": "transaction", "entry": {}},
        [],
    ],
)
async def test_another_kind_of_body_is_refused(world: World, rx1: Who, body: Any) -> None:
    answer = await world.post("", body, rx1)
    assert answer.status_code == 400, answer.text


NO_REQUEST: list[tuple[Any, str]] = [
    (7, "Bundle.entry[1]"),
    (None, "Bundle.entry[1]"),
    ({}, "Bundle.entry[1].request"),
    ({"resource": {"resourceType": "Patient"}}, "Bundle.entry[1].request"),
    ({"request": []}, "Bundle.entry[1].request"),
    ({"request": {"url": "Patient"}}, "Bundle.entry[1].request.method"),
    ({"request": {"method": 7, "url": "Patient"}}, "Bundle.entry[1].request.method"),
    ({"request": {"method": "post", "url": "Patient"}}, "Bundle.entry[1].request.method"),
    ({"request": {"method": "GET"}}, "Bundle.entry[1].request.url"),
    ({"request": {"method": "GET", "url": "Patient/p1", "ifmatch": "x"}}, "Bundle.entry[1].request"),
    ({"request": {"method": "GET", "url": "Patient/p1"}, "reqest": {}}, "Bundle.entry[1]"),
    (
        {"request": {"method": "GET", "url": "Patient/p1"}, "modifierExtension": [{"url": "urn:x"}]},
        "Bundle.entry[1]",
    ),
    (
        entry("PUT", "Patient/p2", {"resourceType": "Patient"}) | {"resource": None},
        "Bundle.entry[1].resource",
    ),
    (entry("PUT", "Patient/p2", []), "Bundle.entry[1].resource"),
    (entry("GET", "Patient/p1") | {"fullUrl": 7}, "Bundle.entry[1].fullUrl"),
]


@pytest.mark.parametrize("kind", ["transaction", "batch"])
@pytest.mark.parametrize(("wrong", "where"), NO_REQUEST)
async def test_an_entry_that_asks_nothing_readable_refuses_the_bundle(
    world: World, rx1: Who, wrong: Any, where: str, kind: str
) -> None:
    await world.patient(rx1, "p1")
    entries = [entry("PUT", "Observation/o1", json.loads(observed())), wrong]
    answer = await world.post("", {"resourceType": "Bundle", "type": kind, "entry": entries}, rx1)
    assert answer.status_code == 400, answer.text
    assert expressions(answer) == [where]
    assert (await world.get("Observation/o1", rx1)).status_code == 404


@pytest.mark.parametrize(
    ("misplaced", "where"),
    [
        (entry("DELETE", "Observation/o1", ifNoneExist="identifier=urn:lab|1"), "ifNoneExist"),
        (entry("PUT", "Observation/o1", observed(), ifNoneExist="identifier=urn:lab|1"), "ifNoneExist"),
        (entry("POST", "Observation", observed(), ifMatch='W/"1"'), "ifMatch"),
        (entry("POST", "Observation", observed(), ifNoneMatch="*"), "ifNoneMatch"),
        (entry("GET", "Patient/p1", ifMatch='W/"1"'), "ifMatch"),
        (entry("DELETE", "Observation/o1", ifNoneMatch="*"), "ifNoneMatch"),
        (entry("PATCH", "Observation/o1", json_patch(), ifNoneMatch="*"), "ifNoneMatch"),
        (
            entry("PUT", "Observation/o1", observed(), ifModifiedSince="2026-01-01T00:00:00Z"),
            "ifModifiedSince",
        ),
        (entry("GET", "Patient/p1", ifModifiedSince="yesterday"), "ifModifiedSince"),
        (entry("GET", "Patient/p1", ifModifiedSince="2026-01-01"), "ifModifiedSince"),
    ],
)
async def test_a_condition_where_it_means_nothing_is_refused(
    world: World, rx1: Who, misplaced: Entry, where: str
) -> None:
    """A deletion with ifNoneExist is the worst of them: its author meant something, and not this."""
    await world.patient(rx1, "p1")
    await world.put("Observation/o1", observed(), rx1)
    answer = await sent(world, rx1, misplaced)
    assert (answer.status_code, expressions(answer)) == (400, [f"Bundle.entry[0].request.{where}"])
    assert (await world.get("Observation/o1", rx1)).headers["etag"] == 'W/"1"'


TWICE: list[tuple[Entry, Entry]] = [
    (entry("PUT", "Observation/o1", observed()), entry("PUT", "Observation/o1", observed())),
    (entry("PUT", "Observation/o1", observed()), entry("DELETE", "Observation/o1")),
    (entry("PATCH", "Observation/o1", json_patch()), entry("DELETE", "Observation/o1")),
    (entry("PUT", "Observation/o1", observed()), entry("PATCH", "Observation/%6F1", json_patch())),
    (
        entry("PUT", "Observation/o1", observed()),
        entry("PATCH", "Observation?identifier=urn:lab|1", json_patch()),
    ),
    (entry("DELETE", "Observation/o1"), entry("DELETE", "Observation?identifier=urn:lab|1")),
    (
        entry("DELETE", "Observation/o1"),
        entry("POST", "Observation", identified("1"), ifNoneExist="identifier=urn:lab|1"),
    ),
    (
        entry("POST", "Observation", identified("2"), ifNoneExist="identifier=urn:lab|2"),
        entry("POST", "Observation", identified("2"), ifNoneExist="identifier=urn%3Alab%7C2"),
    ),
    (
        entry("POST", "Observation", observed(), full_url="urn:oid:1.2.3"),
        entry("POST", "Patient", a_patient("x"), full_url="urn:oid:1.2.3"),
    ),
]


@pytest.mark.parametrize(("first", "second"), TWICE)
async def test_two_entries_that_mean_the_same_are_both_named_and_neither_is_done(
    world: World, rx1: Who, first: Entry, second: Entry
) -> None:
    await world.patient(rx1, "p1")
    await world.put("Observation/o1", identified("1"), rx1)
    for pair in ((first, second), (second, first)):
        answer = await sent(world, rx1, entry("PUT", "Observation/x", observed("x")), *pair)
        assert answer.status_code == 400, answer.text
        assert expressions(answer) == ["Bundle.entry[1]", "Bundle.entry[2]"]
        assert "Bundle.entry[1] and Bundle.entry[2]" in answer.json()["issue"][0]["diagnostics"]
    assert (await world.get("Observation/o1", rx1)).headers["etag"] == 'W/"1"'
    assert (await world.get("Observation/x", rx1)).status_code == 404


async def test_a_reading_may_ask_for_what_is_written_as_often_as_it_likes(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    reading = entry("GET", "Observation/o1")
    answers = await done(world, rx1, reading, entry("PUT", "Observation/o1", observed()), reading)
    assert statuses(answers) == ["200", "201", "200"]


@pytest.mark.parametrize("kind", ["transaction", "batch"])
async def test_the_id_of_what_is_posted_is_ignored(world: World, rx1: Who, kind: str) -> None:
    await world.patient(rx1, "p1")
    await world.put("Observation/o1", observed(), rx1)
    [answer] = await done(world, rx1, entry("POST", "Observation", observed("o1")), kind=kind)
    assert answer["response"]["status"] == "201 Created" and answer["resource"]["id"] != "o1"


@pytest.mark.parametrize(
    ("wrong", "status", "where"),
    [
        (entry("PUT", "Observation/o1", observed(), full_url=f"{ELSEWHERE}/Observation/o2"), 400, "fullUrl"),
        (
            entry("PUT", "Observation/o1", observed("o2"), full_url=f"{ELSEWHERE}/Observation/o2"),
            400,
            "fullUrl",
        ),
        (entry("PUT", "Observation/o1", observed(), full_url=f"{ELSEWHERE}/Patient/o1"), 400, "fullUrl"),
        (
            entry("POST", "Observation", observed("o1"), full_url=f"{ELSEWHERE}/Observation/o2"),
            400,
            "fullUrl",
        ),
        (
            entry("POST", "Observation", observed(), full_url=f"{ELSEWHERE}/Observation/o1/_history/1"),
            400,
            "fullUrl",
        ),
        (entry("PUT", "Observation/o1", observed("o2")), 400, "resource"),
        (entry("PUT", "Observation/o1", a_patient("o1")), 422, "resource"),
        (entry("POST", "Observation", a_patient("o1")), 422, "resource"),
        (entry("POST", "Observation"), 400, None),
        (entry("PUT", "Observation/o1"), 400, None),
        (entry("PATCH", "Observation/o1"), 400, None),
        (entry("PUT", "Observation", observed()), 400, None),
        (entry("DELETE", "Observation"), 400, None),
        (entry("DELETE", "Observation?"), 400, None),
        (entry("PUT", "Observation/o1?x=1", observed()), 400, None),
        (entry("POST", "Observation/o1", observed()), 400, None),
        (entry("POST", "Observation?identifier=urn:lab|1", observed()), 400, None),
        (entry("POST", "Observation/_search"), 400, None),
        (entry("POST", "ValueSet/$expand", {"resourceType": "Parameters"}), 400, None),
        (entry("PUT", "Observation/o1/_history/1", observed()), 400, None),
        (entry("PUT", "Nonsense/o1", observed()), 400, None),
        (entry("PUT", "observation/o1", observed()), 400, None),
        (entry("PUT", "Observation/o_1", observed()), 400, None),
        (entry("DELETE", "Observation/../Patient/p1"), 400, None),
        (entry("POST", "", observed()), 400, None),
        (entry("GET", "Nonsense/o1"), 404, None),
        (entry("GET", "observation/o1"), 404, None),
        (entry("GET", "Observation/o1/nonsense"), 404, None),
        (entry("GET", ""), 422, None),
        (entry("GET", "Observation/_search?patient=p1"), 405, None),
        (entry("GET", "Observation?patient=%ff"), 400, None),
    ],
)
async def test_what_means_no_one_resource_fails_the_transaction(
    world: World, rx1: Who, wrong: Entry, status: int, where: str | None
) -> None:
    await world.patient(rx1, "p1")
    answer = await sent(world, rx1, entry("PUT", "Observation/x", observed("x")), wrong)
    assert answer.status_code == status, answer.text
    assert expressions(answer)[0].startswith(f"Bundle.entry[1].{where}" if where else "Bundle.entry[1]")
    assert (await world.get("Observation/x", rx1)).status_code == 404


@pytest.mark.parametrize("kind", ["transaction", "batch"])
async def test_an_address_may_be_absolute_and_percent_encoded(world: World, rx1: Who, kind: str) -> None:
    await world.patient(rx1, "p1")
    await world.put("Observation/o1", identified("1"), rx1)
    for url in (
        f"{world.base}/Observation/o1",
        "Observation/%6f1",
        "Observation%2Fo1",
        f"{world.base}/Observation?identifier=urn%3Alab%7C1",
        "Observation?identifier=urn:lab|1",
        "%4Fbservation?identifier=urn:lab%7c1",
    ):
        [answer] = await done(world, rx1, entry("GET", url), kind=kind)
        assert "o1" in json.dumps(answer["resource"]), url
    [answer] = await done(
        world, rx1, entry("PUT", f"{world.base}/Observation/%6F1", observed(status="amended")), kind=kind
    )
    assert answer["response"]["location"] == f"{world.base}/Observation/o1/_history/2"


@pytest.mark.parametrize(
    "url",
    [
        f"{ELSEWHERE}/Patient/p1",
        "/fhir/Patient/p1",
        "/Patient/p1",
        "//elsewhere.example/fhir/Patient/p1",
        "{base}.elsewhere.example/Patient/p1",
        "urn:uuid:00000000-0000-4000-8000-000000000001",
        "Patient/p1#x",
        "Patient/%ff",
    ],
)
@pytest.mark.parametrize("kind", ["transaction", "batch"])
async def test_an_address_that_is_not_below_our_base_is_refused(
    world: World, rx1: Who, url: str, kind: str
) -> None:
    await world.patient(rx1, "p1")
    answer = await sent(world, rx1, entry("GET", url.format(base=world.base)), kind=kind)
    assert (answer.status_code, expressions(answer)) == (400, ["Bundle.entry[0].request.url"])


async def test_faults_of_several_resources_are_told_together(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    wrong = entry("POST", "Observation", observed(status="nonsense"))
    right = entry("POST", "Observation", observed())
    answer = await sent(world, rx1, wrong, *([right] * 120), wrong)
    assert answer.status_code == 422
    assert expressions(answer) == [
        "Bundle.entry[0].resource.status",
        "Bundle.entry[121].resource.status",
    ]
    bundle = (await world.get("Observation?_summary=count", rx1)).json()
    assert bundle["total"] == 0


async def test_the_custody_of_every_entry_is_checked_and_named(world: World, rx1: Who, rx2: Who) -> None:
    await world.patient(rx1, "p1")
    await world.patient(rx2, "p2")
    for wrong in (
        entry("POST", "Observation", an_observation("p1")),
        entry("PUT", "Patient/p1", a_patient("p1")),
        entry("DELETE", "Patient/p1"),
        entry("PATCH", "Patient/p1", json_patch({"op": "add", "path": "/active", "value": True})),
    ):
        own = entry("PUT", "Observation/own", an_observation("p2", id="own"))
        answer = await sent(world, rx2, own, wrong)
        assert (answer.status_code, expressions(answer)) == (403, ["Bundle.entry[1]"]), answer.text
    assert (await world.get("Observation/own", rx2)).status_code == 404


async def test_more_entries_than_there_may_be_are_refused_with_both_numbers(world: World, rx1: Who) -> None:
    reading = entry("GET", "Patient/p1")
    for kind in ("transaction", "batch"):
        answer = await sent(world, rx1, *([reading] * 5_001), kind=kind)
        assert answer.status_code == 413, answer.text
        assert "5,000" in answer.text and "5,001" in answer.text and expressions(answer) == ["Bundle.entry"]


async def test_a_batch_offers_what_each_address_offers(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    await world.put("Observation/o1", identified("1"), rx1)
    form = {
        "resourceType": "Binary",
        "contentType": "application/x-www-form-urlencoded",
        "data": "aWRlbnRpZmllcj11cm46bGFiJTdDMQ==",
    }
    lookup = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "system", "valueUri": "http://hl7.org/fhir/observation-status"},
            {"name": "code", "valueCode": "final"},
        ],
    }
    answers = await done(
        world,
        rx1,
        entry("POST", "Observation/_search?identifier=urn:lab|1"),
        entry("POST", "Observation/_search", form),
        entry("POST", "CodeSystem/$lookup", lookup),
        entry("POST", "Observation/$validate", json.loads(observed(status="nonsense"))),
        entry("HEAD", "Observation/o1"),
        entry("POST", "Observation/o1", observed()),
        entry("DELETE", "Observation/o1/_history"),
        entry("GET", "nonsense/of/all/kinds"),
        entry("POST", "", {"resourceType": "Bundle", "type": "batch"}),
        entry("POST", "Observation"),
        entry("DELETE", "Observation?identifier=urn:lab|none"),
        kind="batch",
    )
    assert statuses(answers) == ["200", "200", "200", "200", "200", "405", "405", "404", "405", "400", "204"]
    assert [one["resource"]["total"] for one in answers[:2]] == [1, 1]
    assert answers[3]["resource"]["issue"][0]["expression"] == ["Observation.status"]
    assert "resource" not in answers[4]


async def test_a_batch_is_carried_out_in_r4s_order_and_answered_in_its_own(world: World, rx1: Who) -> None:
    await world.patient(rx1, "p1")
    await world.put("Observation/gone", observed("gone"), rx1)
    before = len(await world.audit())
    answers = await done(
        world,
        rx1,
        entry("GET", "Observation/o1"),
        entry("GET", "Observation/gone"),
        entry("PUT", "Observation/o1", observed()),
        entry("DELETE", "Observation/gone"),
        kind="batch",
    )
    assert statuses(answers) == ["200", "410", "201", "204"]
    told = (await world.audit())[before:]
    assert [one["subtype"][0]["code"] for one in told] == ["delete", "update", "read", "read"]


async def test_a_withheld_record_is_answered_in_a_batch_as_one_that_never_was(
    world: World, rx1: Who, rx2: Who
) -> None:
    await world.patient(rx1, "p1")
    await world.put("Observation/hidden", observed("hidden"), rx1)
    await world.post("Consent", a_consent("p1", **denied_to("RX2")), rx1)
    for address in ("Observation/{}", "Observation/{}/_history", "Observation/{}/$validate"):
        answers = [
            await sent(world, rx2, entry("GET", address.format(id)), kind="batch")
            for id in ("hidden", "absent")
        ]
        assert answers[0].status_code == 200 and answers[0].content == answers[1].content
        assert set(answers[0].headers) == set(answers[1].headers)
